"""How sure the numbers of a table are: intervals, and each group against its control.

A group is a strategy variant over its seeds. With y_si the value of a metric for seed s and row i
(on the scale that is tested, or as it is shown), its interval over rows is that of the rows' means
over seeds; with two seeds or more a two-level interval covers seeds that were not run as well
(:mod:`harness.statistics.intervals`). Under a corpus metric, y is what each row adds to sums over
rows (:mod:`harness.statistics.corpus`).

``tested`` is a cell's values on the scale that is tested, shape (rows,), or under a corpus metric
its statistics, shape (rows, statistics); of a group, one after the other, with the shape
(seeds, rows) or (seeds, rows, statistics).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.metrics.base import Array, Effect, Metric
from harness.metrics.corpus import CorpusMetric
from harness.statistics.corpus import (
    difference_interval,
    exchange_p,
    row_values,
    value_interval,
)
from harness.statistics.intervals import LEVEL, Interval, Resamples, two_level
from harness.statistics.paired import holm, permutation_p

Limits = tuple[float, float]


@dataclass(frozen=True)
class Spread:
    """A number over seeds. ``std`` (ddof 1) is None where there is nothing to say: one value."""

    mean: float
    std: float | None


@dataclass(frozen=True)
class Bounds:
    """95 % intervals of a cell or group; None where there is nothing to say.

    Attributes:
        mean: of the headline, over rows, for the seeds that were run.
        mean_seeds: the same over seeds and rows.
        center: of what is shown of the mean tested value (on a log scale the geometric mean).
        center_seeds: the same over seeds and rows.
    """

    mean: Limits | None = None
    mean_seeds: Limits | None = None
    center: Limits | None = None
    center_seeds: Limits | None = None


@dataclass(frozen=True)
class Comparison:
    """A group against its control, row by row.

    Attributes:
        effect: of the mean tested values, over rows, for the seeds that were run.
        seeds_effect: the same over seeds and rows; None with one seed.
        mean_effect: on a log scale, of the means of what is shown; None on a linear one, where it
            is ``effect``.
        p: two-sided, adjusted (Holm) for all comparisons of the table, for these seeds.
    """

    effect: Effect
    seeds_effect: Effect | None
    mean_effect: Effect | None
    p: float

    @property
    def widest(self) -> Effect:
        """The effect for unseen seeds where several were run, else for the one."""
        return self.seeds_effect or self.effect


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation (ddof 1) over seeds."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return Spread(mean, None)
    if not all(map(math.isfinite, values)):
        return Spread(mean, math.nan)
    return Spread(mean, statistics.stdev(values))


def cell_bounds(metric: Metric, cells: Sequence[Array]) -> list[Bounds]:
    """95 % BCa intervals over rows for each cell.

    Args:
        metric: what the values are of.
        cells: each cell's ``tested``.
    """
    if isinstance(metric, CorpusMetric) or metric.partial:
        return group_bounds(metric, [cell[None] for cell in cells])
    usable = [index for index, column in enumerate(cells) if _usable(metric, column)]
    found = [Bounds() for _ in cells]
    if not usable:
        return found
    tested = np.stack([cells[index] for index in usable], axis=1)
    draws = Resamples(len(tested))
    centers = draws.means(tested)
    means = draws.means(metric.show(tested)) if metric.scale == "log" else centers
    for index, center, mean in zip(usable, centers, means, strict=True):
        found[index] = Bounds(
            mean=_limits(metric, mean), center=_limits(metric, center, metric.shown)
        )
    return found


def group_bounds(metric: Metric, groups: Sequence[Array]) -> list[Bounds]:
    """95 % intervals for each group.

    Args:
        metric: what the values are of.
        groups: each group's ``tested``.
    """
    found: list[Bounds] = []
    draws: dict[int, Resamples] = {}
    for group in groups:
        tested = group[:, _known(metric, group)]
        if not _usable(metric, tested[0]) or not np.isfinite(metric.show(tested)).all():
            found.append(Bounds())
            continue
        n = tested.shape[1]
        found.append(_group_bounds(metric, tested, draws.setdefault(n, Resamples(n))))
    return found


def _group_bounds(metric: Metric, tested: Array, draws: Resamples) -> Bounds:
    values = row_values(metric, tested)
    shown = metric.show(values)
    if isinstance(metric, CorpusMetric):
        center = mean = value_interval(metric, tested, draws)
    else:
        center, mean = draws.means(np.stack([values.mean(0), shown.mean(0)], axis=1))
    several = len(tested) > 1
    return Bounds(
        mean=_limits(metric, mean),
        mean_seeds=_limits(metric, two_level(shown, mean)) if several else None,
        center=_limits(metric, center, metric.shown),
        center_seeds=(
            _limits(metric, two_level(values, center), metric.shown) if several else None
        ),
    )


def _known(metric: Metric, *sides: Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """The rows to be read: all, under a partial metric those that every side has a value of."""
    known = np.ones(sides[0].shape[1], dtype=bool)
    if metric.partial:
        for side in sides:
            known &= np.isfinite(side).reshape(*side.shape[:2], -1).all(axis=(0, 2))
    return known


def compare_groups(
    metric: Metric, pairs: Sequence[tuple[Array, Array] | None]
) -> list[Comparison | None]:
    """Compare each group with its control, row by row, as one family.

    Under a partial metric, each pair is compared on the rows that both have a value of.

    Args:
        metric: what the values are of.
        pairs: (the group's ``tested``, its control's); None where there is no control.

    Returns:
        For each pair its comparison; None where nothing can be compared.
    """
    found: list[Comparison | None] = [None] * len(pairs)
    usable = {
        index: tuple(side[:, known] for side in pair)
        for index, pair in enumerate(pairs)
        if pair is not None
        for known in [_known(metric, *pair)]
        if known.sum() > 1 and all(np.isfinite(metric.show(side[:, known])).all() for side in pair)
    }
    tested: dict[int, tuple[float, Interval, Effect | None]] = {}
    for alike in _of_equal_size(usable):
        tested |= _tested(metric, alike, len(usable))
    adjusted = holm([tested[index][0] for index in usable])
    for index, p in zip(usable, adjusted, strict=True):
        _, effect, mean = tested[index]
        ours, theirs = usable[index]
        differences = row_values(metric, ours) - row_values(metric, theirs).mean(0)
        both = two_level(differences, effect) if len(ours) > 1 else None
        found[index] = Comparison(
            effect=effect_of(effect, metric.effect),
            seeds_effect=effect_of(both, metric.effect) if both else None,
            mean_effect=mean,
            p=p,
        )
    return found


def _of_equal_size(pairs: Mapping[int, tuple[Array, ...]]) -> list[dict[int, tuple[Array, ...]]]:
    """The pairs by how many rows they have: usually all have as many."""
    sizes: dict[int, dict[int, tuple[Array, ...]]] = {}
    for index, pair in pairs.items():
        sizes.setdefault(pair[0].shape[1], {})[index] = pair
    return list(sizes.values())


def _tested(
    metric: Metric, pairs: Mapping[int, tuple[Array, ...]], family: int
) -> dict[int, tuple[float, Interval, Effect | None]]:
    """Two-sided p-values, not adjusted, intervals over rows of what is tested, and of means.

    Args:
        metric: what the values are of.
        pairs: all with as many rows.
        family: how many comparisons there are in all.
    """
    sides = [(ours, theirs) for ours, theirs in pairs.values()]
    draws = Resamples(sides[0][0].shape[1])
    means = [(ours.mean(0), theirs.mean(0)) for ours, theirs in sides]
    if isinstance(metric, CorpusMetric):
        p = exchange_p(metric, means, family, alternative="two-sided")
        effects = [difference_interval(metric, *pair, draws) for pair in sides]
    else:
        changes = np.stack([ours - theirs for ours, theirs in means], axis=1)
        p = permutation_p(changes, family, alternative="two-sided")
        effects = draws.means(changes)
    shown = _mean_effects(metric, sides, draws)
    return dict(zip(pairs, zip(p.tolist(), effects, shown, strict=True), strict=True))


def _mean_effects(
    metric: Metric, pairs: Sequence[tuple[Array, Array]], draws: Resamples
) -> list[Effect | None]:
    """Relative changes of the means of what is shown, on a log scale."""
    if metric.scale == "linear":
        return [None] * len(pairs)
    ours, theirs = (
        np.stack([metric.show(pair[side]).mean(0) for pair in pairs], axis=1) for side in (0, 1)
    )
    return [effect_of(ratio, lambda value: value - 1) for ratio in draws.ratios(ours, theirs)]


def effect_of(interval: Interval, name: Callable[[float], float]) -> Effect:
    """An interval as an effect; ``name`` turns each of its numbers."""
    return Effect(name(interval.estimate), name(interval.low), name(interval.high))


def std_factors(seeds: int) -> Limits:
    """The 95 % interval of a standard deviation of so many normal values, as factors of it."""
    from scipy.special import chdtri

    tails = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    low, high = (float(np.sqrt((seeds - 1) / chdtri(seeds - 1, tail))) for tail in tails)
    return low, high


def _usable(metric: Metric, column: Array) -> bool:
    """Whether a cell's ``tested`` has two rows or more, and nothing that is not finite."""
    return len(column) > 1 and bool(np.isfinite(metric.show(column)).all())


def _limits(metric: Metric, interval: Interval, shown: Callable[[float], float] = float) -> Limits:
    """An interval as it is shown, within the values that there can be."""
    least, greatest = metric.limits
    return max(least, shown(interval.low)), min(greatest, shown(interval.high))
