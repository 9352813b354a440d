"""How far two judges agree: a judge and people, or a judge and itself.

    agreement    share of rows with equal verdicts
    weighted κ   1 − Σ w_ij o_ij / Σ w_ij e_ij (Cohen 1968), o observed and e expected shares of the
                 pairs of verdicts, w_ij = |i − j|^d: d = 0 nominal, 1 linear, 2 quadratic
    α            1 − D_o / D_e (Krippendorff 2011): disagreement within rows over that of all
                 verdicts, for any number of judges and with verdicts missing
    AUC          share of pairs (one of each side) in which the first is larger, ties counting half
                 (Mann & Whitney 1947)

Verdicts are numbers; NaN is a verdict that is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from harness.metrics.base import Array
from harness.statistics.intervals import Interval, Resamples, share_of

Level = Literal["nominal", "ordinal", "interval"]
DISTANCES = {"nominal": 0, "linear": 1, "quadratic": 2}


def agreement(ours: Array, theirs: Array) -> Interval:
    """The share of rows with equal verdicts, and its BCa interval over rows.

    Args:
        ours: one judge's verdicts; shape (rows,).
        theirs: the other's.

    Raises:
        ValueError: there are fewer than two rows that both judged.
    """
    one, other = _both(ours, theirs)
    return share_of((one == other).astype(np.float64))


def weighted_kappa(ours: Array, theirs: Array, weights: str = "quadratic") -> float:
    """Cohen's κ with nominal, linear or quadratic weights; NaN where there is no disagreement.

    Args:
        ours: one judge's verdicts; shape (rows,).
        theirs: the other's.
        weights: how much a disagreement counts, by the distance of the verdicts.

    Raises:
        ValueError: there are fewer than two rows that both judged, or no such weights.
    """
    if weights not in DISTANCES:
        raise ValueError(f"weights={weights!r}: expected one of {', '.join(DISTANCES)}")
    values, cells = _cells(*_both(ours, theirs))
    return float(_kappa(cells.sum(axis=0)[None], values, DISTANCES[weights])[0])


def kappa(ours: Array, theirs: Array, weights: str = "quadratic") -> Interval:
    """:func:`weighted_kappa` with its BCa interval over rows.

    A draw of rows without disagreement counts as 1.
    """
    values, cells = _cells(*_both(ours, theirs))
    power = DISTANCES[weights]
    return _over_rows(cells, lambda tables: _kappa(tables, values, power))


def alpha(ours: Array, theirs: Array, level: Level = "interval") -> Interval:
    """:func:`krippendorff_alpha` of two judges with its BCa interval over rows.

    A draw of rows without disagreement counts as 1.
    """
    values, cells = _cells(*_both(ours, theirs))
    return _over_rows(cells, lambda tables: _alpha(tables + tables.swapaxes(1, 2), values, level))


def _cells(one: Array, other: Array) -> tuple[Array, Array]:
    """The values that were given, and of each row a table of them with a 1 where it stands."""
    values, codes = np.unique(np.concatenate([one, other]), return_inverse=True)
    found = np.zeros((len(one), len(values), len(values)))
    found[np.arange(len(one)), codes[: len(one)], codes[len(one) :]] = 1
    return values, found


def _over_rows(cells: Array, value: Callable[[Array], Array]) -> Interval:
    """The interval of a function of the rows' table; NaN where the whole has no value."""
    rows, size, _ = cells.shape
    if np.isnan(value(cells.sum(axis=0)[None]))[0]:
        return Interval(*(float("nan"),) * 3)
    used = np.flatnonzero(cells.any(axis=0))  # most tables are nearly empty

    def of_sums(sums: Array) -> Array:
        tables = np.zeros((len(sums), size * size))
        tables[:, used] = sums
        found: Array = np.nan_to_num(value(tables.reshape(-1, size, size)), nan=1.0)
        return found

    return Resamples(rows).of_sums(cells.reshape(rows, -1)[:, used], of_sums)


def _kappa(tables: Array, values: Array, power: int) -> Array:
    """Cohen's κ of tables of counts; shape (any number, values, values)."""
    distance = _distance(values[:, None], values[None], power)
    shares = tables / tables.sum(axis=(1, 2), keepdims=True)
    observed = (shares * distance).sum(axis=(1, 2))
    expected = np.einsum("ti,ij,tj->t", shares.sum(axis=2), distance, shares.sum(axis=1))
    return _less(observed, expected)


def _less(observed: Array, expected: Array) -> Array:
    """1 − observed / expected; NaN where nothing is expected."""
    ratio = np.full_like(expected, np.nan)
    np.divide(observed, expected, out=ratio, where=expected > 0)
    return np.round(1 - ratio, 12)  # so that what is 0 on paper is 0 here


def _distance(one: Array, other: Array, power: int) -> Array:
    found: Array = (one != other).astype(np.float64) if power == 0 else np.abs(one - other) ** power
    return found


def krippendorff_alpha(verdicts: Array, level: Level = "interval") -> float:
    """Krippendorff's α of several judges; NaN where all verdicts are equal.

    Args:
        verdicts: shape (judges, rows), NaN for what is missing. Rows with one verdict are left out.
        level: how verdicts differ: ``nominal`` (or not), ``ordinal`` (by ranks), ``interval``.

    Raises:
        ValueError: no row has two verdicts.
    """
    known = np.isfinite(verdicts)
    usable = known.sum(axis=0) >= 2
    if not usable.any():
        raise ValueError("no row has verdicts of two judges")
    verdicts, known = verdicts[:, usable], known[:, usable]
    values = np.unique(verdicts[known])
    # Coincidences (Krippendorff 2011): pairs of verdicts within a row, each row's over m − 1.
    counts = (verdicts[None] == values[:, None, None]).sum(axis=1).astype(np.float64)
    sizes = counts.sum(axis=0)
    pairs = (counts / (sizes - 1)) @ counts.T - np.diag((counts / (sizes - 1)).sum(axis=1))
    return float(_alpha(pairs[None], values, level)[0])


def _alpha(pairs: Array, values: Array, level: Level) -> Array:
    """Krippendorff's α of tables of coincidences; shape (any number, values, values)."""
    totals = pairs.sum(axis=2)
    squared = _squared(values, totals, level)
    total = totals.sum(axis=1)
    expected = np.einsum("ti,tij,tj->t", totals, squared, totals) / (total - 1)
    return _less((pairs * squared).sum(axis=(1, 2)), expected)


def _squared(values: Array, totals: Array, level: Level) -> Array:
    """Squared differences of values, of each table."""
    if level == "ordinal":  # verdicts between two values, both ends by half
        middles = np.cumsum(totals, axis=1) - totals / 2
        return _distance(middles[:, :, None], middles[:, None], 2)
    powers = DISTANCES["nominal" if level == "nominal" else "quadratic"]
    found = _distance(values[:, None], values[None], powers)
    return np.broadcast_to(found, (len(totals), *found.shape))


def auc(higher: Array, lower: Array) -> float:
    """The share of pairs in which the first side is larger, ties half.

    Args:
        higher: what should be larger; shape (n,).
        lower: what should be smaller; shape (m,).

    Raises:
        ValueError: one side is empty.
    """
    if not len(higher) or not len(lower):
        raise ValueError("nothing to compare")
    return float(_above(higher[:, None], lower[None]).mean())


def paired_auc(higher: Array, lower: Array) -> Interval:
    """The share of rows in which the first is larger, ties half, with its interval over rows.

    Args:
        higher: of each row, what should be larger; shape (rows,).
        lower: of the same rows, what should be smaller.

    Raises:
        ValueError: there are fewer than two rows that have both.
    """
    one, other = _both(higher, lower)
    return share_of(_above(one, other))


def _above(one: Array, other: Array) -> Array:
    found: Array = (one > other) + 0.5 * (one == other)
    return found


def spearman(ours: Array, theirs: Array) -> float:
    """Spearman's rank correlation; NaN where one side is constant.

    Raises:
        ValueError: there are fewer than two rows that both judged.
    """
    from scipy.stats import rankdata

    one, other = (rankdata(side) for side in _both(ours, theirs))
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def bootstrapped(value: Callable[[Array, Array], float], ours: Array, theirs: Array) -> Interval:
    """A number of two judges with its percentile interval over rows.

    Args:
        value: of the verdicts on the same rows, such as :func:`weighted_kappa`.
        ours: one judge's verdicts; shape (rows,).
        theirs: the other's.
    """
    one, other = _both(ours, theirs)
    rng = np.random.default_rng(0)
    drawn = (rng.integers(0, len(one), len(one)) for _ in range(999))
    draws = np.array([value(one[rows], other[rows]) for rows in drawn])
    low, high = np.nanquantile(draws, (0.025, 0.975))
    return Interval(value(one, other), float(low), float(high))


def _both(ours: Array, theirs: Array) -> tuple[Array, Array]:
    """The verdicts of the rows that have both.

    Raises:
        ValueError: there are fewer than two.
    """
    known = np.isfinite(ours) & np.isfinite(theirs)
    if known.sum() < 2:
        raise ValueError(f"{int(known.sum())} rows have both verdicts; two are needed")
    return ours[known], theirs[known]
