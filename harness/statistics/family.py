"""Paired comparisons of cells that are tested together as one family."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.metrics.base import Array, Effect, Metric
from harness.metrics.corpus import CorpusMetric
from harness.statistics.corpus import difference_interval, exchange_p, row_values
from harness.statistics.intervals import LEVEL, Resamples
from harness.statistics.paired import (
    ALPHA,
    Alternative,
    detectable,
    holm,
    permutation_p,
    permutation_tails,
    resamples_for,
    rows_needed,
)
from harness.statistics.uncertainty import effect_of

DRIVERS = 3


@dataclass(frozen=True)
class Pair:
    """One cell before and after, read by a metric: values on the scale that is tested.

    Both arrays have the shape (rows,), under a corpus metric (rows, statistics): the same rows in
    the same order, all finite.
    """

    metric: Metric
    before: Array
    after: Array


@dataclass(frozen=True)
class Change:
    """What a paired comparison found.

    Attributes:
        effect: of the mean tested values, after against before, with its 95 % interval.
        mean_effect: of the means of what is shown, with an interval for the whole family.
            Under a corpus metric both are of the corpus's values.
        p_worse: that it got worse, one-sided, adjusted.
        p_better: that it got better, one-sided, adjusted; 1 where the mean got worse.
        detectable: the smallest worsening that is found in four of five runs, as an effect.
        rows_needed: at which the tolerance would be detectable; None for never.
        drivers: (row id, its part of the change of the mean for the worse), the largest first.
    """

    effect: Effect
    mean_effect: Effect
    p_worse: float
    p_better: float
    detectable: float
    rows_needed: int | None
    drivers: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Shift:
    """A two-sided comparison.

    Attributes:
        effect: after against before, with its 95 % interval.
        p: two-sided, not adjusted.
        parts: how much each row rose, on the scale that is tested; shape (rows,).
    """

    effect: Effect
    p: float
    parts: Array


def compare_family(pairs: Sequence[Pair], ids: Sequence[str], tolerance: float) -> list[Change]:
    """Compare each pair as one family.

    Args:
        pairs: at least one, all on the same rows.
        ids: the rows' names.
        tolerance: the share that a change for the worse may have.
    """
    signs = np.array([pair.metric.worsening for pair in pairs], dtype=float)
    after, before = _columns(pairs, "after"), _columns(pairs, "before")
    worsening = (after - before) * signs
    n, cells = worsening.shape
    worse, better = _both_tails(pairs, signs, worsening.mean(axis=0) < 0)
    p_worse, p_better = (holm(list(values)) for values in (worse, better))
    sds = worsening.std(axis=0, ddof=1) if n > 1 else np.full(cells, math.inf)
    standardized = detectable(n, cells)
    effects = _effects(pairs, after, before)
    return [
        Change(
            *effects[index],
            p_worse=p_worse[index],
            p_better=p_better[index],
            detectable=(
                _detectable(pair.metric, standardized, float(sds[index]))
                if worsening[:, index].any()
                else 0.0
            ),
            rows_needed=rows_needed(float(sds[index]), pair.metric.bound(tolerance), cells),
            drivers=_drivers(pair, ids),
        )
        for index, pair in enumerate(pairs)
    ]


def compare_values(pairs: Sequence[Pair], comparisons: int) -> list[Shift]:
    """Compare each pair on the scale that is tested.

    Args:
        pairs: all on the same rows.
        comparisons: size of the family that the caller adjusts for.
    """
    after, before = _columns(pairs, "after"), _columns(pairs, "before")
    effects = [effect for effect, _ in _effects(pairs, after, before)]
    p = _p(pairs, np.ones(len(pairs)), comparisons, "two-sided")
    return _shifts(effects, p, after - before)


def compare_totals(
    after: Sequence[Array], before: Sequence[Array], comparisons: int
) -> list[Shift]:
    """Compare sums over rows, as relative changes: for values whose denominators differ.

    Args:
        after: each cell's row totals (value × denominator), shape (rows,), positive.
        before: the same of the cells that they are compared with.
        comparisons: size of the family that the caller adjusts for.
    """
    ours, theirs = np.stack(after, 1), np.stack(before, 1)
    intervals = Resamples(len(ours)).ratios(ours, theirs)
    effects = [effect_of(one, lambda value: value - 1) for one in intervals]
    differences = ours - theirs
    return _shifts(effects, permutation_p(differences, comparisons, "two-sided"), differences)


def _shifts(effects: Sequence[Effect], p: Array, differences: Array) -> list[Shift]:
    return [
        Shift(effect, float(p[index]), differences[:, index])
        for index, effect in enumerate(effects)
    ]


def _columns(pairs: Sequence[Pair], side: str) -> Array:
    """Values of rows whose means are what is compared; shape (rows, pairs)."""
    columns = [row_values(pair.metric, getattr(pair, side)) for pair in pairs]
    found: Array = np.stack(columns, axis=1)
    return found


def _both_tails(pairs: Sequence[Pair], signs: Array, improved: Array) -> tuple[Array, Array]:
    """P-values of a change for the worse, and of one for the better.

    Where the mean got worse, the other tail is of no interest, and 1.
    """
    comparisons = len(pairs)
    worse, better = np.ones((2, comparisons))
    means = [i for i, pair in enumerate(pairs) if not isinstance(pair.metric, CorpusMetric)]
    if means:
        columns = np.stack([signs[i] * (pairs[i].after - pairs[i].before) for i in means], axis=1)
        worse[means], better[means] = permutation_tails(columns, comparisons)
    corpora = [i for i, pair in enumerate(pairs) if isinstance(pair.metric, CorpusMetric)]
    for found, sign, some in (
        (worse, signs, corpora),
        (better, -signs, [i for i in corpora if improved[i]]),
    ):
        if some:
            found[some] = _p([pairs[i] for i in some], sign[some], comparisons)
    return worse, np.where(improved, better, 1.0)


def _p(
    pairs: Sequence[Pair],
    signs: Array,
    comparisons: int,
    alternative: Alternative = "greater",
) -> Array:
    """P-values of after against before, times ``signs``; each metric's are computed together."""
    found = np.ones(len(pairs))
    means = [i for i, pair in enumerate(pairs) if not isinstance(pair.metric, CorpusMetric)]
    if means:
        columns = np.stack([signs[i] * (pairs[i].after - pairs[i].before) for i in means], axis=1)
        found[means] = permutation_p(columns, comparisons, alternative)
    corpora: dict[int, list[int]] = {}  # a metric is one object in all pairs that it reads
    for i, pair in enumerate(pairs):
        if isinstance(pair.metric, CorpusMetric):
            corpora.setdefault(id(pair.metric), []).append(i)
    for places in corpora.values():
        metric = pairs[places[0]].metric
        assert isinstance(metric, CorpusMetric)
        # For the other sign, the two sides change places.
        sides = [
            (pairs[i].after, pairs[i].before) if signs[i] > 0 else (pairs[i].before, pairs[i].after)
            for i in places
        ]
        found[places] = exchange_p(metric, sides, comparisons, alternative)
    return found


def _effects(pairs: Sequence[Pair], after: Array, before: Array) -> list[tuple[Effect, Effect]]:
    """Of the mean tested values at 95 %, and of the means of what is shown for the family."""
    n, cells = after.shape
    if n < 2:
        return [_of_one_row(pair) for pair in pairs]
    # The family's level lies so far out that it needs more draws; 95 % needs those of a report.
    usual, draws, level = Resamples(n), Resamples(n, resamples_for(cells)), 1 - ALPHA / cells
    tested = usual.means(after - before, LEVEL)
    found: list[tuple[Effect, Effect]] = []
    logs = [index for index, pair in enumerate(pairs) if pair.metric.scale == "log"]
    corpora = [index for index, pair in enumerate(pairs) if isinstance(pair.metric, CorpusMetric)]
    others = [index for index in range(cells) if index not in (*logs, *corpora)]
    means: dict[int, Effect] = {}
    if logs:
        ratios = draws.ratios(np.exp(after[:, logs]), np.exp(before[:, logs]), level)
        means |= {
            i: effect_of(r, lambda value: value - 1) for i, r in zip(logs, ratios, strict=True)
        }
    if others:
        wide = draws.means((after - before)[:, others], level)
        means |= {i: effect_of(one, float) for i, one in zip(others, wide, strict=True)}
    for index, pair in enumerate(pairs):
        if isinstance(pair.metric, CorpusMetric):
            sides = pair.metric, pair.after[None], pair.before[None]
            tested[index] = difference_interval(*sides, usual)
            means[index] = effect_of(difference_interval(*sides, draws, level), float)
        found.append((effect_of(tested[index], pair.metric.effect), means[index]))
    return found


def _of_one_row(pair: Pair) -> tuple[Effect, Effect]:
    """One row says nothing about others."""
    after, before = (row_values(pair.metric, side) for side in (pair.after, pair.before))
    estimate = pair.metric.effect(float((after - before)[0]))
    low = -1.0 if pair.metric.scale == "log" else -math.inf
    return Effect(estimate, low, math.inf), Effect(estimate, low, math.inf)


def _detectable(metric: Metric, standardized: float, sd: float) -> float:
    """A worsening of so many standard deviations, as the size of an effect."""
    if math.isinf(standardized):  # too few rows, whatever their spread
        return math.inf
    if metric.scale == "linear":
        return standardized * sd
    if metric.better == "higher":  # a fall by a factor
        return -math.expm1(-standardized * sd)
    return math.expm1(standardized * sd) if standardized * sd < 700 else math.inf


def _drivers(pair: Pair, ids: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """The rows that moved the mean most for the worse, each with its part of the change.

    On a log scale a share of the mean before, on a linear one a part of the difference.
    """
    after, before = (
        pair.metric.show(row_values(pair.metric, side)) for side in (pair.after, pair.before)
    )
    whole = before.sum() if pair.metric.scale == "log" else len(before)
    parts = pair.metric.worsening * (after - before) / whole
    largest = np.argsort(-parts, kind="stable")[:DRIVERS]
    return tuple((ids[index], float(parts[index])) for index in largest)
