"""The regression gate: verdicts against a baseline, comparison of two runs, simulation."""
