"""Contests of scorers on the same rows."""
