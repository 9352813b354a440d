"""The numbers of a paired comparison of cells: one family, tested together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.gate.verdict import ALPHA
from harness.results.snapshot import Rows
from harness.statistics.intervals import Array, Interval, Resamples
from harness.statistics.paired import (
    detectable,
    holm,
    permutation_p,
    resamples_for,
    rows_needed,
)

DRIVERS = 3


def compare(
    pairs: Sequence[tuple[Rows, Rows]], ids: Sequence[str], rise: float
) -> list[dict[str, Any]]:
    """Compare each pair, (after, before), as one family.

    Args:
        pairs: cells on the same rows with the same tokens, all finite.
        ids: the rows' names.
        rise: relative rise of the geometric mean that should be detectable.

    Returns:
        For each pair ``p`` that it rose and ``p_less`` that it fell, adjusted;
        ``ratio`` and ``mean_ratio`` as (estimate, low, high); ``detectable``; ``rows_needed``;
        ``drivers``.
    """
    after, before = (_columns([pair[side] for pair in pairs]) for side in (0, 1))
    differences = after - before
    n, cells = differences.shape
    greater = permutation_p(differences, cells)
    # Where the mean rose, the other tail is of no interest.
    less, fell = np.ones(cells), differences.mean(axis=0) < 0
    if fell.any():
        less[fell] = permutation_p(-differences[:, fell], cells)
    p, p_less = (holm(list(values)) for values in (greater, less))
    geometric, mean = _intervals(after, before)
    sds = differences.std(axis=0, ddof=1) if n > 1 else np.full(cells, math.inf)
    effect = detectable(n, cells)
    return [
        {
            "p": p[index],
            "p_less": p_less[index],
            "ratio": tuple(map(math.exp, _triple(geometric[index]))),
            "mean_ratio": _triple(mean[index]),
            "detectable": _rise(effect, float(sds[index])) if differences[:, index].any() else 0.0,
            "rows_needed": rows_needed(float(sds[index]), rise, cells),
            "drivers": _drivers(after[:, index], before[:, index], ids),
        }
        for index in range(cells)
    ]


def compare_perplexity(
    pairs: Sequence[tuple[Rows, Rows]], comparisons: int
) -> list[dict[str, Any]]:
    """Ratio of geometric mean perplexities, after over before, and whether there is one.

    Args:
        pairs: (after, before), on the same rows with the same tokens, all finite.
        comparisons: size of the family that the caller adjusts for.

    Returns:
        For each pair ``ratio`` as (estimate, low, high), ``p``, two-sided and not adjusted, and
        ``parts``, how much each row's logarithm rose.
    """
    after, before = (_columns([pair[side] for pair in pairs]) for side in (0, 1))
    ratios = [tuple(map(math.exp, _triple(interval))) for interval in _intervals(after, before)[0]]
    return _two_sided(after - before, ratios, comparisons)


def compare_bits(pairs: Sequence[tuple[Rows, Rows]], comparisons: int) -> list[dict[str, Any]]:
    """The same for total bits per byte, which models with different tokenizers can share.

    ``parts`` are nats of a whole row.
    """
    after, before = (np.stack([np.array(pair[side].nll) for pair in pairs], 1) for side in (0, 1))
    ratios = [_triple(i) for i in Resamples(len(after)).ratios(after, before)]
    return _two_sided(after - before, ratios, comparisons)


def _two_sided(
    differences: Array, ratios: Sequence[tuple[float, ...]], comparisons: int
) -> list[dict[str, Any]]:
    p = permutation_p(differences, comparisons, "two-sided")
    return [
        {"ratio": ratio, "p": float(p[index]), "parts": differences[:, index]}
        for index, ratio in enumerate(ratios)
    ]


def _columns(cells: Sequence[Rows]) -> Array:
    """Log perplexities, shape (rows, cells)."""
    columns: Array = np.array([rows.logs for rows in cells]).T
    return columns


def _intervals(after: Array, before: Array) -> tuple[list[Interval], list[Interval]]:
    """The mean log ratio at 95 %, and the ratio of mean perplexities for the whole family."""
    n, cells = after.shape
    if n < 2:
        nowhere = [Interval(float(d), -math.inf, math.inf) for d in (after - before)[0]]
        return nowhere, [Interval(math.exp(i.estimate), 0.0, math.inf) for i in nowhere]
    draws = Resamples(n, resamples_for(cells))
    geometric = draws.means(after - before)
    return geometric, draws.ratios(np.exp(after), np.exp(before), 1 - ALPHA / cells)


def _triple(interval: Interval) -> tuple[float, float, float]:
    return interval.estimate, interval.low, interval.high


def _rise(effect: float, sd: float) -> float:
    """The relative rise of an effect in units of ``sd``; rows that all moved alike have none."""
    if math.isinf(effect):  # too few rows, whatever their spread
        return math.inf
    return math.expm1(effect * sd) if effect * sd < 700 else math.inf


def _drivers(after: Array, before: Array, ids: Sequence[str]) -> list[tuple[str, float]]:
    """The rows that raised the mean most, each with its part of the mean's relative change."""
    parts = (np.exp(after) - np.exp(before)) / np.exp(before).sum()
    largest = np.argsort(-parts, kind="stable")[:DRIVERS]
    return [(ids[index], float(parts[index])) for index in largest]
