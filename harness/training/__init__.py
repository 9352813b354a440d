"""Adapters: trained once, resumable, each under a key of all that determines it."""
