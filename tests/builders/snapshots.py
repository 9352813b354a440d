"""Snapshots of runs for the gate, whose log perplexities are chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.metrics.perplexity import DEFINITION
from harness.results.snapshot import Rows, Snapshot

N = 250

TOKENS = tuple(20 + i % 30 for i in range(N))

RNG = np.random.default_rng(3)

# The spread of SmolLM2's zero-shot log perplexities on 250 real rows: 0.86.
LOGS = RNG.normal(2.95, 0.86, N)

IDS = [f"row-{i:03d}" for i in range(N)]


def rows(logs: Sequence[float] | np.ndarray[Any, Any], key: str = "k", **facts: Any) -> Rows:
    """A cell whose rows have these log perplexities."""
    nll = tuple(round(float(log) * n, 6) for log, n in zip(logs, TOKENS, strict=False))
    return Rows(key, TOKENS[: len(nll)], nll, {"model": "m", "prompt": "p1", **facts})


def run(cells: Mapping[str, Rows], n: int = N, where: str = "there.json", **more: Any) -> Snapshot:
    """A snapshot of the cells on the same ``n`` test rows."""
    contents = {name: f"text {name}" for name in IDS[:n]}
    return replace(
        Snapshot(where, "task", contents, tuple(3 * t for t in TOKENS[:n]), cells, {}, DEFINITION),
        **more,
    )
