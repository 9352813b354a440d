"""Prompt files, and what stands before an answer."""
