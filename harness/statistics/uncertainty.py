"""How sure the numbers of a table are: intervals, and each group against zero-shot.

A group is a strategy variant over its seeds. With y_si for seed s and row i (perplexities, or their
logarithms), its interval over rows is that of the rows' means over seeds; with two seeds or more
a two-level interval covers seeds that were not run as well (:mod:`harness.statistics.intervals`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.records import Likelihood
from harness.statistics.intervals import LEVEL, Array, Interval, Resamples, two_level
from harness.statistics.paired import holm, permutation_p

Limits = list[float] | None


def cell_intervals(cells: Sequence[Sequence[Likelihood]]) -> list[dict[str, Limits]]:
    """95 % BCa intervals over rows for each cell's geometric and arithmetic mean perplexity.

    Returns:
        ``geometric_interval`` and ``mean_interval`` as [low, high], or None where a row is not
        finite or there is one row only.
    """
    columns = [log_perplexities(scores) for scores in cells]
    found: list[dict[str, Limits]] = [
        {"geometric_interval": None, "mean_interval": None} for _ in cells
    ]
    usable = [index for index, column in enumerate(columns) if _usable(column)]
    if not usable:
        return found
    logs = np.stack([columns[index] for index in usable], axis=1)
    draws = Resamples(len(logs))
    for index, log, mean in zip(usable, draws.means(logs), draws.means(np.exp(logs)), strict=True):
        found[index] = {"geometric_interval": _exp(log), "mean_interval": _limits(mean)}
    return found


def group_intervals(groups: Sequence[Sequence[Sequence[Likelihood]]]) -> list[dict[str, Limits]]:
    """95 % intervals for each group's geometric and arithmetic mean perplexity.

    Args:
        groups: for each group, for each seed, the scores of the same rows.

    Returns:
        ``geometric_interval`` and ``mean_interval`` over rows, for these seeds, and
        ``geometric_seeds_interval`` and ``mean_seeds_interval`` over seeds and rows; None where
        there is nothing to say.
    """
    names = ("geometric_interval", "mean_interval")
    found: list[dict[str, Limits]] = []
    draws: Resamples | None = None
    for members in groups:
        logs = np.stack([log_perplexities(scores) for scores in members])
        entry: dict[str, Limits] = dict.fromkeys(
            (*names, "geometric_seeds_interval", "mean_seeds_interval")
        )
        if _usable(logs[0]) and np.isfinite(np.exp(logs)).all():
            draws = draws or Resamples(logs.shape[1])
            log, mean = draws.means(np.stack([logs.mean(0), np.exp(logs).mean(0)], axis=1))
            entry |= {"geometric_interval": _exp(log), "mean_interval": _limits(mean)}
            if len(members) > 1:
                entry["geometric_seeds_interval"] = _exp(two_level(logs, log))
                entry["mean_seeds_interval"] = _limits(two_level(np.exp(logs), mean))
        found.append(entry)
    return found


def versus(
    pairs: Sequence[tuple[Sequence[Sequence[Likelihood]], Sequence[Sequence[Likelihood]]] | None],
) -> list[dict[str, Any] | None]:
    """Compare each group with its rival, row by row, as one family.

    Args:
        pairs: (the group's scores by seed, its rival's), or None where there is no rival.

    Returns:
        For each pair ``ratio`` of geometric means and ``mean_ratio`` of arithmetic means as
        [estimate, low, high], both over rows for these seeds; ``seeds_ratio``, the first over
        seeds and rows, or None; and ``p``, two-sided and Holm-adjusted, for these seeds. None
        where nothing can be compared.
    """
    found: list[dict[str, Any] | None] = [None] * len(pairs)
    usable: dict[int, tuple[Array, Array]] = {}
    for index, pair in enumerate(pairs):
        if pair is None:
            continue
        ours, theirs = (np.stack([log_perplexities(s) for s in side]) for side in pair)
        if np.isfinite(np.exp(ours)).all() and np.isfinite(np.exp(theirs)).all():
            usable[index] = ours, theirs
    if not usable or next(iter(usable.values()))[0].shape[1] < 2:
        return found
    changes = np.stack([ours.mean(0) - theirs.mean(0) for ours, theirs in usable.values()], axis=1)
    adjusted = holm(list(permutation_p(changes, alternative="two-sided")))
    draws = Resamples(len(changes))
    ratios = draws.means(changes)
    means = draws.ratios(
        np.stack([np.exp(ours).mean(0) for ours, _ in usable.values()], axis=1),
        np.stack([np.exp(theirs).mean(0) for _, theirs in usable.values()], axis=1),
    )
    for (index, (ours, theirs)), p, ratio, mean in zip(
        usable.items(), adjusted, ratios, means, strict=True
    ):
        both = two_level(ours - theirs.mean(0), ratio) if len(ours) > 1 else None
        found[index] = {
            "ratio": _triple(ratio),
            "seeds_ratio": _triple(both) if both else None,
            "mean_ratio": [mean.estimate, mean.low, mean.high],
            "p": p,
        }
    return found


def std_factors(seeds: int) -> tuple[float, float]:
    """The 95 % interval of a standard deviation of so many normal values, as factors of it."""
    from scipy.special import chdtri

    tails = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    low, high = (float(np.sqrt((seeds - 1) / chdtri(seeds - 1, tail))) for tail in tails)
    return low, high


def log_perplexities(scores: Sequence[Likelihood]) -> Array:
    """NLL / scored tokens of each row; shape (rows,)."""
    return np.array([score.nll / score.n_tokens for score in scores])


def _usable(column: Array) -> bool:
    with np.errstate(over="ignore"):
        return len(column) > 1 and bool(np.isfinite(np.exp(column)).all())


def _limits(interval: Interval) -> Limits:
    return [interval.low, interval.high]


def _exp(interval: Interval) -> Limits:
    return [float(np.exp(interval.low)), float(np.exp(interval.high))]


def _triple(interval: Interval) -> list[float]:
    return [float(np.exp(value)) for value in (interval.estimate, interval.low, interval.high)]
