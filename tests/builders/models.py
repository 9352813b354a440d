"""Tiny models with random weights, made on the spot."""

from __future__ import annotations

from pathlib import Path

from harness.conformance.tiny_models import Family, make


def make_llama(folder: Path, *, bos: bool = True, seed: int = 0, **changes: object) -> Path:
    """A Llama of two layers; ``changes`` go into its configuration."""
    return make(Family("LlamaConfig", changes, bos=bos), folder, seed)
