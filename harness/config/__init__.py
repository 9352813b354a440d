"""Flags, recipes and settings, validated once."""
