"""Encoded rows to score, which share a prefix, and what a scorer is called with."""

from __future__ import annotations

import random
from typing import Any

from harness.core import ModelSpec, Prompt, Span
from harness.models.encoding import Encoded, Encoder

QUIET = lambda done: None  # noqa: E731

PREFIX = "前提共用之文，諸行皆始於此。"


def spec(name: str = "tiny", **changes: Any) -> ModelSpec:
    """What is said of a tiny model."""
    return ModelSpec(**{"name": name, "digest": name, **changes})


def encode(encoder: Encoder, count: int = 9, shared: str = PREFIX, seed: int = 0) -> list[Encoded]:
    """Random rows whose contexts begin with the same text."""
    rng = random.Random(seed)
    rows = []
    for index in range(count):
        text = "".join(rng.choice("天地玄黃宇宙洪荒") for _ in range(rng.randint(1, 12)))
        answer = "".join(rng.choice("日月盈昃辰宿列張") for _ in range(rng.randint(1, 9)))
        rows.append(encoder.encode(Prompt(f"r{index}", (Span(f"{shared}{text}\n"),), answer)))
    return rows
