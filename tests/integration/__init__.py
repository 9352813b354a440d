"""``pytest suites/`` as a user runs it, on a tiny model."""
