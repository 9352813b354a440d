"""adaptbench."""
