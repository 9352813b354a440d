"""Strategies, one module each. A file dropped in here is found by the name its class carries."""
