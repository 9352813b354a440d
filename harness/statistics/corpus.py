"""Intervals and tests of corpus metrics, whose value is a function f of sums over rows.

With t_i the statistics of row i and θ = f(Σ t_i),

    interval     BCa: f of the sums over rows drawn with replacement; the jackknife is f(Σ t − t_i)
    p            share of exchanges of rows between the two systems whose difference of f is at
                 least as large (approximate randomization, Noreen 1989); ties count, so that two
                 identical systems have p = 1
    of a row     v_i = θ + (n − 1)(mean over j of θ_(−j) − θ_(−i)), θ_(−i) = f(Σ t − t_i): the
                 jackknife's pseudo-values (Tukey 1958), moved so that their mean is θ

The last stand in for the values of rows wherever a standard deviation over rows is needed: the
smallest effect that could be seen, the two-level interval, the rows that moved a value most.

Over several seeds, a value is the mean of the seeds' values. A permutation test compares f of the
sums' means over seeds, because a row is exchanged with all its seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from harness.metrics.base import Array, Metric
from harness.metrics.corpus import CorpusMetric
from harness.statistics.intervals import LEVEL, Interval, Resamples
from harness.statistics.paired import Alternative, flips_p, resamples_for

WIDTH = 256  # columns of sums in memory at a time
DIGITS = 12  # of a difference, as a share of the span, that are told apart


def row_values(metric: Metric, tested: Array) -> Array:
    """Values of rows whose mean over rows is the cell's, on the scale that is tested.

    Args:
        metric: what is read.
        tested: shape (..., rows), or (..., rows, statistics) under a corpus metric; finite.

    Returns:
        Shape (..., rows): ``tested`` itself, or what each row contributes to the corpus's value.
    """
    if not isinstance(metric, CorpusMetric):
        return tested
    whole = tested.sum(axis=-2, keepdims=True)
    out, n = metric.combine(whole - tested), tested.shape[-2]
    found: Array = metric.combine(whole) + (n - 1) * (out.mean(axis=-1, keepdims=True) - out)
    return found


def value_interval(
    metric: CorpusMetric, ours: Array, draws: Resamples, level: float = LEVEL
) -> Interval:
    """The interval over rows of the mean over seeds of a corpus metric.

    Args:
        metric: what is read.
        ours: statistics, shape (seeds, rows, statistics), finite.
        draws: of the rows.
        level: confidence.
    """
    return draws.of_sums(_columns(ours), _mean_over_seeds(metric, len(ours)), level)


def difference_interval(
    metric: CorpusMetric, ours: Array, theirs: Array, draws: Resamples, level: float = LEVEL
) -> Interval:
    """The interval over rows of how much larger ``ours`` is than ``theirs``, row by row.

    Args:
        metric: what is read.
        ours: statistics, shape (seeds, rows, statistics), finite.
        theirs: the same of what it is compared with; the seeds may be others.
        draws: of the rows.
        level: confidence.
    """
    one, other = _mean_over_seeds(metric, len(ours)), _mean_over_seeds(metric, len(theirs))
    columns = np.concatenate([_columns(ours), _columns(theirs)], axis=1)
    width = len(ours) * ours.shape[-1]
    return draws.of_sums(columns, lambda sums: one(sums[:, :width]) - other(sums[:, width:]), level)


def _columns(statistics: Array) -> Array:
    """(seeds, rows, statistics) as (rows, seeds × statistics)."""
    found: Array = np.concatenate(list(statistics), axis=1)
    return found


def _mean_over_seeds(metric: CorpusMetric, seeds: int) -> Callable[[Array], Array]:
    def value(sums: Array) -> Array:
        found: Array = metric.combine(sums.reshape(len(sums), seeds, -1)).mean(axis=1)
        return found

    return value


def exchange_p(
    metric: CorpusMetric,
    pairs: Sequence[tuple[Array, Array]],
    comparisons: int | None = None,
    alternative: Alternative = "greater",
    seed: int = 0,
    resamples: int | None = None,
) -> Array:
    """P-values of permutation tests that exchange rows between two systems.

    Rows of all pairs are exchanged alike, and as :func:`~harness.statistics.paired.permutation_p`
    flips the signs of as many rows.

    Args:
        metric: what is read.
        pairs: (ours, theirs), each of shape (rows, statistics), finite.
        comparisons: size of the family that they are adjusted for; by default, the pairs.
        alternative: ``greater``: ours is larger.
        seed: of the exchanges.
        resamples: number of exchanges; by default, what the family needs.

    Returns:
        Shape (pairs,).
    """
    n, width = pairs[0][0].shape
    if n < 2:  # nothing to exchange
        return np.ones(len(pairs))
    resamples = resamples or resamples_for(comparisons or len(pairs))
    step = max(1, WIDTH // width)
    blocks = (pairs[start : start + step] for start in range(0, len(pairs), step))
    return np.concatenate(
        [flips_p(n, _exchanged(metric, block), alternative, seed, resamples) for block in blocks]
    )


def _exchanged(
    metric: CorpusMetric, pairs: Sequence[tuple[Array, Array]]
) -> Callable[[Array], Array]:
    """From signs, shape (..., rows), to differences, shape (..., pairs); −1 exchanges a row.

    Exchanged or not, the two sums have the same mean, and half their difference is the signs' sum
    of half the rows' differences.
    """
    width = pairs[0][0].shape[1]
    middle = np.stack([(ours + theirs).sum(axis=0) / 2 for ours, theirs in pairs])
    halves = np.concatenate([(ours - theirs) / 2 for ours, theirs in pairs], axis=1)

    def differences(signs: Array) -> Array:
        half = (signs @ halves).reshape(*signs.shape[:-1], len(pairs), width)
        found = metric.combine(middle + half) - metric.combine(middle - half)
        # Rounded, so that exchanges whose differences are equal on paper are equal here.
        rounded: Array = np.round(found / metric.span, DIGITS)
        return rounded

    return differences
