"""Registers the harness with pytest for everything below this folder."""

pytest_plugins = ["harness.plugin"]
