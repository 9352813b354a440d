"""Which of two systems wins, by verdicts on pairs of answers.

A verdict is what the first system gets of a row: 1 it wins, 0 it loses, ½ a tie. Where a pair was
judged in both orders, equal verdicts count, and verdicts that differ are half a win: the order
decided, not the answers. (This is how FastChat's llm_judge counts both orders.)

    win rate          mean over rows; of several draws, first the mean of each row's
    standard error    s / √n, s the sample standard deviation of the n rows
    p                 of ½ by sign flips of rows, ties counted (:mod:`harness.statistics.paired`)

What length does to a win rate: :mod:`harness.statistics.lengths`; more than two systems:
:mod:`harness.statistics.strengths`; what so many rows can show: :mod:`harness.statistics.unseen`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from harness.metrics.base import Array
from harness.statistics.intervals import RESAMPLES, Interval, Resamples, share_of, unanimous
from harness.statistics.paired import permutation_p


@dataclass(frozen=True)
class Order:
    """What the order of two answers does to a judge.

    Attributes:
        flips: the share of pairs whose verdict is another one in the other order.
        first: the share of verdicts that go to what stands first, ties half.
    """

    flips: Interval
    first: Interval


@dataclass(frozen=True)
class WinRate:
    """How often the first system wins.

    Attributes:
        rate: mean over rows, with its interval over rows.
        standard_error: of the mean: sample standard deviation over √rows.
        p: two-sided, of ½ by sign flips of the rows, ties counted.
        rows: that have a verdict.
    """

    rate: Interval
    standard_error: float
    p: float
    rows: int


@dataclass(frozen=True)
class Bounds:
    """A mean, whatever the judge would have said of what it left unjudged.

    Attributes:
        judged: of what was judged; NaN where nothing was.
        worst: with what was not judged counted as the worst.
        best: with what was not judged counted as the best.
        unjudged: the share that was not judged.
    """

    judged: float
    worst: float
    best: float
    unjudged: float


def win_rate(verdicts: Array, resamples: int = RESAMPLES) -> WinRate:
    """The win rate of verdicts.

    Args:
        verdicts: 0 to 1; NaN where one was not given. Shape (rows,), or (draws, rows): several
            draws of a row are one observation, their mean.
        resamples: draws of the rows, and flips of their signs.

    Raises:
        ValueError: fewer than two rows were judged.
    """
    known = judged_rows(verdicts)
    halves = (known - 0.5)[:, None]
    p = permutation_p(halves, alternative="two-sided", resamples=resamples)
    return WinRate(
        rate=share_of(known, resamples=resamples),
        standard_error=float(known.std(ddof=1) / np.sqrt(len(known))),
        p=float(p[0]),
        rows=len(known),
    )


def judged_rows(verdicts: Array) -> Array:
    """The mean verdict of each row that has one.

    Args:
        verdicts: shape (rows,) or (draws, rows), NaN where one was not given.

    Raises:
        ValueError: fewer than two rows were judged.
    """
    means = mean_of_known(np.atleast_2d(verdicts))
    known: Array = means[np.isfinite(means)]
    if len(known) < 2:
        raise ValueError(f"{len(known)} rows have a verdict; two are needed")
    return known


def mean_of_known(values: Array) -> Array:
    """Column means of what is not NaN; NaN where a column has nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of empty columns
        found: Array = np.nanmean(values, axis=0)
    return found


def both_orders(first: Array, second: Array) -> tuple[Array, Order]:
    """One verdict of two orders: where they are equal that, else half a win.

    A judge's expectation (a verdict between 0, ½ and 1) is equal to another on the same side of ½,
    and counts as their mean.

    Args:
        first: what the first system gets where its answer stands first; shape (rows,), or of
            several pairs of each row (pairs, rows).
        second: what the first system gets where its answer stands second.

    Returns:
        The verdicts, of the same shape, NaN where one of the orders was not judged; and what the
        order does, with intervals over rows.

    Raises:
        ValueError: fewer than two rows were judged in both orders.
    """
    flipped = np.sign(first - 0.5) != np.sign(second - 0.5)
    known = np.isfinite(first) & np.isfinite(second)
    verdicts = np.where(flipped, 0.5, (first + second) / 2)
    verdicts[~known] = np.nan
    slots = (first + (1 - second)) / 2
    flips, slot = (
        _clustered(*(np.atleast_2d(one) for one in (values, known))) for values in (flipped, slots)
    )
    return verdicts, Order(flips, slot)


def _clustered(values: Array, known: Array) -> Interval:
    """The mean of what is known, with its interval over rows; shapes (pairs, rows)."""
    counts = known.sum(axis=0).astype(np.float64)
    sums = np.where(known, values, 0).sum(axis=0)[counts > 0]
    counts = counts[counts > 0]
    if len(counts) < 2:
        raise ValueError(f"{len(counts)} rows were judged in both orders; two are needed")
    found = Resamples(len(counts)).ratios(sums[:, None], counts[:, None])[0]
    return unanimous(found, len(counts))


def bounds(values: Array, worst: float, best: float) -> Bounds:
    """A mean with what was not judged left out, counted as the worst, and as the best.

    Args:
        values: NaN where not judged; shape (rows,) or (draws, rows).
        worst: the least that a verdict is worth.
        best: the most.

    Raises:
        ValueError: there is nothing.
    """
    if not values.size:
        raise ValueError("no rows")
    missing = np.isnan(values)
    judged = mean_of_known(mean_of_known(np.atleast_2d(values))[:, None])[0]
    low, high = (float(np.where(missing, one, values).mean()) for one in (worst, best))
    return Bounds(float(judged), low, high, float(missing.mean()))
