"""Snapshots of runs for the gate, whose log perplexities are chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.metrics.perplexity import Perplexity
from harness.results.snapshot import Rows, Snapshot, Values

N = 250

TOKENS = tuple(20 + i % 30 for i in range(N))

RNG = np.random.default_rng(3)

# The spread of SmolLM2's zero-shot log perplexities on 250 real rows: 0.86.
LOGS = RNG.normal(2.95, 0.86, N)

IDS = [f"row-{i:03d}" for i in range(N)]


def values(logs: Sequence[float] | np.ndarray[Any, Any]) -> Values:
    """Log perplexities as a baseline keeps them, with the aggregates of rows of three bytes."""
    pairs = list(zip((float(log) for log in logs), TOKENS, strict=False))
    kept = tuple(round(log * n, 6) / n for log, n in pairs)
    shown = np.exp(kept)
    total, counts = sum(log * n for log, n in pairs), [n for _, n in pairs]
    aggregates = {
        "mean_perplexity": float(shown.mean()),
        "geometric_mean_perplexity": float(np.exp(np.mean(kept))),
        "median_perplexity": float(np.median(shown)),
        "token_perplexity": float(np.exp(total / sum(counts))),
        "bits_per_byte": float(total / (np.log(2) * 3 * sum(counts))),
    }
    return Values(kept, tuple(counts), aggregates)


def rows(logs: Sequence[float] | np.ndarray[Any, Any], key: str = "k", **facts: Any) -> Rows:
    """A cell whose rows have these log perplexities."""
    known = {"model": "m", "prompt": "p1", **facts}
    return Rows(key, {"perplexity": values(logs)}, known)


def but(cell: Rows, nll: Sequence[float] = (), tokens: Sequence[int] = ()) -> Rows:
    """The same cell with other NLLs, or other numbers of scored tokens."""
    known = cell.metrics["perplexity"]
    counts = tuple(tokens) or known.denominators or ()
    sums = tuple(nll) or tuple(known.totals)
    kept = tuple(total / n for total, n in zip(sums, counts, strict=True))
    # A perplexity that is too large for a float counts as infinite.
    kept = tuple(math.inf if value > 709 else value for value in kept)
    changed = replace(known, values=kept, denominators=counts)
    return replace(cell, metrics={"perplexity": changed})


def run(cells: Mapping[str, Rows], n: int = N, where: str = "there.json", **more: Any) -> Snapshot:
    """A snapshot of the cells on the same ``n`` test rows."""
    contents = {name: f"text {name}" for name in IDS[:n]}
    definitions = {"perplexity": dict(Perplexity.definition)}
    return replace(Snapshot(where, "task", contents, cells, {}, definitions), **more)
