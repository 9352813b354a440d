"""Paired comparison of two sets of values on the same rows, on the scale that a metric tests.

With y_i before and y'_i after, and d_i = y'_i − y_i,

    p            share of sign flips of the d_i whose mean is at least as large (Fisher's
                 randomization test; the observed one counts, so p > 0)
    adjusted p   Holm 1979: the j-th smallest of m times (m − j + 1), made monotone
    detectable   δ·sd(d), with δ the standardized effect that a one-sided t test on n rows at α/m
                 finds with a probability of 80 %

The t test stands in for the permutation test when power is computed; their power is the same but
where there are too few rows for any flip to be rare enough: the smallest p of n rows is 2⁻ⁿ. α/m is
what the smallest of m p-values has to pass under Holm.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np

from harness.metrics.base import Array

Alternative = Literal["greater", "less", "two-sided"]

ALPHA = 0.05  # false alarms that a whole family may raise
POWER = 0.8
ENTRIES = 1 << 20  # signs, or flipped sums, in memory at a time
MAX_ROWS = 10**7  # an answer beyond this is of no use to anyone


def resamples_for(comparisons: int) -> int:
    """How many sign flips, or draws of rows, so many comparisons need.

    The smallest p-value that k flips can give is 1 / (k + 1), and Holm multiplies it by the
    number of comparisons: with a fixed number of flips a large family could never fail.
    """
    return max(9_999, 200 * comparisons - 1)


def permutation_p(
    differences: Array,
    comparisons: int | None = None,
    alternative: Alternative = "greater",
    seed: int = 0,
    resamples: int | None = None,
) -> Array:
    """P-values of sign-flip tests of mean 0, one for each column.

    All columns are flipped alike, so that what they share (the rows) stays shared. Where there
    are fewer different flips than asked for, all of them are tried and the test is exact.

    Args:
        differences: shape (n, columns), finite.
        comparisons: size of the family that they are adjusted for; by default, the columns.
        alternative: ``greater``: the mean is above 0.
        seed: of the flips.
        resamples: number of flips; by default, what the family needs.

    Returns:
        Shape (columns,).
    """
    tails = permutation_tails(differences, comparisons, seed, resamples)
    return _of_tails(*tails, alternative)


def permutation_tails(
    differences: Array,
    comparisons: int | None = None,
    seed: int = 0,
    resamples: int | None = None,
) -> tuple[Array, Array]:
    """:func:`permutation_p` of ``greater`` and of ``less``, from the same flips."""
    n, columns = differences.shape
    # Of a column without a difference all flips are alike; of one row there are none to compare.
    above, below = np.ones((2, columns))
    differing = differences.any(axis=0)
    if n > 1 and differing.any():
        resamples = resamples or resamples_for(comparisons or columns)
        found = _flipped(differences[:, differing], seed, resamples)
        above[differing], below[differing] = found
    return above, below


def _of_tails(above: Array, below: Array, alternative: Alternative) -> Array:
    if alternative == "two-sided":
        both: Array = np.minimum(2 * np.minimum(above, below), 1.0)
        return both
    return above if alternative == "greater" else below


def _flipped(differences: Array, seed: int, resamples: int) -> tuple[Array, Array]:
    """P-values of both tails of so many sign flips, all columns flipped alike."""
    scaled = differences / np.abs(differences).sum(axis=0)

    def sums(signs: Array) -> Array:
        found: Array = signs @ scaled
        # Rounded, so that flips whose sums are equal on paper are equal here.
        np.round(found, 12, out=found)
        return found

    return _tails(len(differences), sums, seed, resamples)


def flips_p(
    n: int,
    statistic: Callable[[Array], Array],
    alternative: Alternative,
    seed: int,
    resamples: int,
) -> Array:
    """P-values of what so many random signs of n rows make of a statistic.

    Args:
        n: rows, at least 2.
        statistic: from signs, shape (..., n), to numbers, shape (..., columns). Numbers that are
            equal on paper have to be equal: they are counted as at least as large.
        alternative: ``greater``: large numbers are what is looked for.
        seed: of the signs; the same for every statistic of as many rows.
        resamples: how many; where there are fewer different ones, all of them.

    Returns:
        Shape (columns,).
    """
    return _of_tails(*_tails(n, statistic, seed, resamples), alternative)


def _tails(
    n: int, statistic: Callable[[Array], Array], seed: int, resamples: int
) -> tuple[Array, Array]:
    """The shares of flips whose numbers are at least, and at most, as large as those observed."""
    observed = statistic(np.ones((1, n)))[0]
    # As scipy.stats.permutation_test has it, which would keep every flip's numbers.
    slack = np.abs(100 * np.finfo(float).eps * observed)
    above, below = np.zeros((2, len(observed)), dtype=np.int64)
    for signs in _signs(n, seed, resamples, max(1, ENTRIES // max(n, len(observed)))):
        flipped = statistic(signs)
        above += np.count_nonzero(flipped >= observed - slack, axis=0)
        below += np.count_nonzero(flipped <= observed + slack, axis=0)
    # Of flips by chance, the observed signs are one more.
    more = int(resamples < 2**n)
    total = min(resamples, 2**n) + more
    return (above + more) / total, (below + more) / total


def _signs(n: int, seed: int, resamples: int, size: int) -> Iterator[Array]:
    """So many random signs of n rows, or all there are if that is fewer; up to ``size`` at a time.

    The same as scipy.stats.permutation_test draws, whatever the size.
    """
    rng, total = np.random.default_rng(seed), min(resamples, 2**n)
    for start in range(0, total, size):
        rows = min(size, total - start)
        if total < resamples or total == 2**n:
            bits = np.arange(start, start + rows)[:, None] >> np.arange(n) & 1
        else:
            bits = rng.integers(0, 1 << 32, (rows, n), dtype=np.uint32) & 1
        signs = bits.astype(np.float64)
        signs *= 2
        signs -= 1
        yield signs


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (1979): they control false alarms over the whole family."""
    order = sorted(range(len(p)), key=lambda index: p[index])
    adjusted, least = [0.0] * len(p), 0.0
    for rank, index in enumerate(order):
        least = max(least, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = least
    return adjusted


def fewest_rows(comparisons: int) -> int:
    """With fewer rows than this no permutation test among so many can be below α."""
    return max(2, math.floor(math.log2(comparisons / ALPHA)) + 1)


def power(effect: float, n: int, comparisons: int) -> float:
    """Probability that a one-sided paired t test at α / comparisons finds this effect.

    Args:
        effect: mean difference in units of its standard deviation.
        n: rows, at least 2.
        comparisons: size of the family.
    """
    from scipy.stats import nct

    if n < fewest_rows(comparisons):
        return 0.0
    return float(nct.sf(_critical(n, comparisons), n - 1, effect * math.sqrt(n)))


@functools.lru_cache(maxsize=1 << 12)
def _critical(n: int, comparisons: int) -> float:
    from scipy.stats import t

    return float(t.isf(ALPHA / comparisons, n - 1))


def detectable(n: int, comparisons: int) -> float:
    """The effect that is found with a probability of 80 %; infinite with too few rows."""
    from scipy.optimize import brentq

    if n < fewest_rows(comparisons):
        return math.inf
    high = 1.0
    while power(high, n, comparisons) < POWER:
        high *= 2
        if high > 1e6:
            return math.inf
    return float(brentq(lambda x: power(x, n, comparisons) - POWER, 0.0, high, xtol=1e-9))


def rows_needed(sd: float, shift: float, comparisons: int) -> int | None:
    """The smallest number of rows at which a ``shift`` of the mean is detectable.

    Args:
        sd: standard deviation of the differences.
        shift: of the mean difference, in the same unit; above 0.
        comparisons: size of the family.

    Returns:
        None where it is more than anyone could have.
    """
    from scipy.special import ndtri

    if sd == 0:
        return fewest_rows(comparisons)
    target = shift / sd
    if target <= 0:
        return None
    # Rows that the normal approximation needs, the fewest there are, and what the t test needs
    # beside them, in first order (Guenther 1981, The American Statistician 35, p. 243).
    alpha = ndtri(1 - ALPHA / comparisons)
    least = ((alpha + ndtri(POWER)) / target) ** 2
    if not least <= MAX_ROWS:
        return None
    fewest = max(fewest_rows(comparisons), int(least))
    n = max(fewest, int(least + alpha**2 / 2))
    while n > fewest and power(target, n - 1, comparisons) >= POWER:
        n -= 1
    while power(target, n, comparisons) < POWER:
        n += 1
    return n
