"""Judging answers: rubrics, what a judge is shown, what it says."""
