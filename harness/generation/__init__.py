"""What a model writes."""
