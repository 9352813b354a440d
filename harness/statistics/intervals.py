"""95 % intervals for means over test rows, and for claims about seeds that were not run.

Over rows: the BCa bootstrap (Efron 1987). Rows are drawn with replacement, the same draws for
every column, so that a whole table is one product of matrices; the mean's jackknife is closed.

Over seeds and rows: with S seeds and n rows, every seed scoring the same rows, a value is
μ + seed + row + error. From the mean squares of the two-way layout without replication,

    V = (A + R) / (S·n),  A = MS_seeds,  R = max(0, MS_rows − MS_error)

and the half-width is √V times the average, weighted with A and R, of the two quantiles that each
part would have alone (Cochran's for means of unequal variances: Cochran & Cox, Experimental
Designs, 2nd ed. 1957, p. 100): Student's t with S − 1 degrees of freedom for seeds; for rows that
of their own BCa interval, so that its asymmetry is kept. A bootstrap of three seeds would know
three values only, and its intervals are far too short.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from harness.metrics.base import Array

LEVEL = 0.95
RESAMPLES = 9_999
BLOCK = 1_024  # draws, and
COLUMNS = 256  # columns in memory at a time
THIN, SPARE = 16, 4  # see :func:`quantile`


@dataclass(frozen=True)
class Interval:
    """An estimate with the limits of its interval."""

    estimate: float
    low: float
    high: float


class Resamples:
    """Test rows drawn with replacement, the same draws for whatever is computed from them.

    Args:
        n: number of rows, at least 2.
        resamples: number of draws of n rows.
        seed: of the draws.
    """

    def __init__(self, n: int, resamples: int = RESAMPLES, seed: int = 0) -> None:
        self.n = n
        self.resamples = resamples
        self.seed = seed

    @cached_property
    def counts(self) -> list[np.ndarray[Any, np.dtype[np.uint16]]]:
        """How often each row was drawn: blocks of shape (up to BLOCK, n), small on purpose."""
        rng, blocks = np.random.default_rng(self.seed), []
        for start in range(0, self.resamples, BLOCK):
            size = min(BLOCK, self.resamples - start)
            drawn = rng.integers(0, self.n, (size, self.n)) + np.arange(size)[:, None] * self.n
            counted = np.bincount(drawn.ravel(), minlength=size * self.n)
            blocks.append(counted.reshape(size, self.n).astype(np.uint16))
        return blocks

    def drawn_means(self, columns: Array, room: Array | None = None) -> Array:
        """The mean of each column in every draw; shape (resamples, number of columns).

        Args:
            columns: shape (n, number of columns).
            room: memory that the means are written to, of :meth:`_room`; by default new memory,
                of which the first use takes longer than the product.
        """
        room = self._room(columns.shape[1]) if room is None else room
        for place, (sums,) in self._sums(columns):
            np.divide(sums, self.n, out=room[: columns.shape[1], place])
        drawn: Array = room[: columns.shape[1]].T
        return drawn

    def _drawn_ratios(self, top: Array, bottom: Array, room: Array) -> Array:
        """The ratio of two columns' means in every draw; as :meth:`drawn_means`."""
        for place, (up, down) in self._sums(top, bottom):
            np.divide(up, down, out=room[: top.shape[1], place])
        drawn: Array = room[: top.shape[1]].T
        return drawn

    def _sums(self, *columns: Array) -> Iterator[tuple[slice, list[Array]]]:
        """The columns' sums over a block of draws, while the processor's cache holds them."""
        across, start = [np.ascontiguousarray(each.T) for each in columns], 0
        for block in self.counts:
            stop, drawn = start + len(block), block.astype(float).T
            yield slice(start, stop), [each @ drawn for each in across]
            start = stop

    def _room(self, columns: int) -> Array:
        room: Array = np.empty((columns, self.resamples))  # each column in one piece
        return room

    def means(self, columns: Array, level: float = LEVEL) -> list[Interval]:
        """BCa intervals for the mean of each column.

        Args:
            columns: shape (n, number of columns), finite.
            level: confidence.
        """
        found: list[Interval] = []
        room = self._room(min(COLUMNS, columns.shape[1]))
        for start in range(0, columns.shape[1], COLUMNS):
            block = columns[:, start : start + COLUMNS]
            if not block.any():  # no draw of zeros is anything else
                found += [Interval(0.0, 0.0, 0.0)] * block.shape[1]
                continue
            estimates = block.mean(axis=0)
            # Leaving row i out moves the mean by (mean − row) / (n − 1).
            found += self._bca(self.drawn_means(block, room), estimates, estimates - block, level)
        return found

    def ratios(self, top: Array, bottom: Array, level: float = LEVEL) -> list[Interval]:
        """BCa intervals for each column's mean of ``top`` over its mean of ``bottom``.

        Args:
            top: shape (n, number of columns), finite.
            bottom: the same shape, finite and positive.
            level: confidence.
        """
        found: list[Interval] = []
        room = self._room(min(COLUMNS, top.shape[1]))
        for start in range(0, top.shape[1], COLUMNS):
            up, down = (side[:, start : start + COLUMNS] for side in (top, bottom))
            if np.array_equal(up, down):
                found += [Interval(1.0, 1.0, 1.0)] * up.shape[1]
                continue
            estimates = up.mean(axis=0) / down.mean(axis=0)
            draws = self._drawn_ratios(up, down, room)
            out = (up.sum(axis=0) - up) / (down.sum(axis=0) - down)  # without each row
            found += self._bca(draws, estimates, out - out.mean(axis=0), level)
        return found

    def of_sums(
        self, columns: Array, value: Callable[[Array], Array], level: float = LEVEL
    ) -> Interval:
        """The BCa interval of one number that is a function of the columns' sums over rows.

        Args:
            columns: shape (n, number of columns), finite.
            value: from sums, shape (any number, number of columns), to that many numbers.
            level: confidence.
        """
        whole = columns.sum(axis=0)
        draws = np.concatenate([value(block.astype(float) @ columns) for block in self.counts])
        out = value(whole - columns)  # without each row
        estimate = value(whole[None])
        jackknife = (out - out.mean())[:, None]
        return self._bca(draws[:, None], estimate, jackknife, level)[0]

    def _bca(
        self, draws: Array, estimates: Array, jackknife: Array, level: float
    ) -> list[Interval]:
        """Limits from the draws' quantiles, corrected for bias and acceleration.

        ``jackknife``: the estimate without each row minus the mean of these, up to a factor.
        """
        from scipy.special import ndtr, ndtri

        tolerance, spans, below, tied = np.empty((4, len(estimates)))
        for column, estimate in enumerate(estimates):  # one after the other stays in the cache
            drawn = draws[:, column]
            low, high = drawn.min(), drawn.max()
            tolerance[column], spans[column] = 1e-12 * max(high, -low), high - low
            # A draw as large as the estimate counts half, or a constant column would have a bias.
            below[column] = np.mean(drawn < estimate - tolerance[column])
            tied[column] = np.mean(np.abs(drawn - estimate) <= tolerance[column])
        share = np.clip(below + tied / 2, 1 / (2 * len(draws)), 1 - 1 / (2 * len(draws)))
        bias = ndtri(share)
        largest = np.abs(jackknife).max(axis=0)  # whose cube may be more than a float can hold
        jackknife = np.divide(jackknife, largest, out=np.zeros_like(jackknife), where=largest > 0)
        spread = (jackknife**2).sum(axis=0) ** 1.5
        # Efron's a = Σ(θ̄ − θ_i)³ / 6 (Σ(θ̄ − θ_i)²)^1.5, with θ_i − θ̄ in ``jackknife``.
        cubes = -(jackknife**3).sum(axis=0)
        acceleration = np.divide(cubes, 6 * spread, out=np.zeros_like(cubes), where=spread > 0)
        found = []
        for column, estimate in enumerate(estimates):
            if spans[column] <= tolerance[column]:
                found.append(Interval(float(estimate), float(estimate), float(estimate)))
                continue
            tails = bias[column] + ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
            quantiles = ndtr(bias[column] + tails / (1 - acceleration[column] * tails))
            low, high = (quantile(draws[:, column], share) for share in quantiles)
            found.append(Interval(float(estimate), low, high))
        return found


def quantile(values: Array, share: float) -> float:
    """The same as ``numpy.quantile``, at once where the share is near 0 or 1.

    Of 200,000 draws a family of 1,000 cells wants the fifth smallest. Only what lies below a bound
    is put in order: the bound is such that about SPARE times as many values lie below it as are
    wanted, by every THIN-th value.

    Args:
        values: shape (n,), finite.
        share: from 0 to 1.
    """
    n = len(values)
    if share > 0.5:
        return -quantile(-values, 1 - share)
    place = share * (n - 1)
    wanted = int(place)
    some = values[::THIN]
    at = SPARE * (wanted + 2) // THIN + SPARE
    if at < len(some) // 2:
        low = values[values <= np.partition(some, at)[at]]
        if len(low) > wanted + 1:
            values = low
    beyond = min(wanted + 1, len(values) - 1)
    ordered = np.partition(values, (wanted, beyond))
    return float(ordered[wanted] + (ordered[beyond] - ordered[wanted]) * (place - wanted))


def share_of(values: Array, level: float = LEVEL, resamples: int = RESAMPLES) -> Interval:
    """The BCa interval of a mean of values from 0 to 1; exact where every row says the same.

    Rows that are all 1 have no draw that differs, and yet say little if they are few: there the
    lower limit is Clopper & Pearson's (1934), ((1 − level) / 2)^(1/n), and so it is from above
    where they are all 0.

    Args:
        values: shape (n,), at least two.
        level: confidence.
        resamples: number of draws of n rows.
    """
    found = Resamples(len(values), resamples).means(values[:, None], level)[0]
    return unanimous(found, len(values), level)


def unanimous(found: Interval, n: int, level: float = LEVEL) -> Interval:
    """The interval of n rows' share, with exact limits where it is 0 or 1; see :func:`share_of`."""
    reach = ((1 - level) / 2) ** (1 / n)
    if found.estimate == 1:
        return Interval(1.0, reach, 1.0)
    if found.estimate == 0:
        return Interval(0.0, 0.0, 1 - reach)
    return found


def two_level(values: Array, rows: Interval, level: float = LEVEL) -> Interval:
    """An interval for the mean over unseen seeds and rows; see the module's formula.

    Args:
        values: shape (seeds, rows), finite, at least two of each.
        rows: the interval over rows of the mean over these seeds, on the same scale.
        level: confidence.
    """
    from scipy.special import stdtrit

    seeds, n = values.shape
    by_seed, by_row, mean = values.mean(axis=1), values.mean(axis=0), values.mean()
    error = ((values - by_seed[:, None] - by_row + mean) ** 2).sum() / ((seeds - 1) * (n - 1))
    between_rows = seeds * by_row.var(ddof=1)
    of_seeds, of_rows = n * by_seed.var(ddof=1), max(0.0, between_rows - error)
    if of_seeds + of_rows == 0:
        return rows
    t = stdtrit(seeds - 1, (1 + level) / 2)
    width = np.sqrt((of_seeds + of_rows) / (seeds * n))
    alone = np.sqrt(between_rows / (seeds * n))
    limits = []
    for limit in (rows.low, rows.high):
        quantile = abs(limit - rows.estimate) / alone if alone > 0 else t
        weighted = (of_seeds * t + of_rows * quantile) / (of_seeds + of_rows)
        limits.append(float(weighted * width))
    return Interval(rows.estimate, rows.estimate - limits[0], rows.estimate + limits[1])
