"""The rules that scoring must keep on every family of models."""
