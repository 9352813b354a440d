"""From options to cases, and from a case to its measurement."""
