"""Metrics: pure functions from what was observed to the numbers of a report."""
