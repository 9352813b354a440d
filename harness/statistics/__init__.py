"""Intervals, paired tests, families of comparisons."""
