"""From files of rows to a task."""
