"""Win rates that length plays no part in.

    length-matched      mean over the rows whose answers are about as long
    length-controlled   mean over rows of σ(θ₀ + θ₂·d_i): the logistic model
                        logit P(win) = θ₀ + θ₁·tanh((l_i − l'_i) / sd) + θ₂·d_i
                        without its term of length (Dubois et al. 2024, "Length-controlled
                        AlpacaEval"), d_i a row's difficulty, sd of the gaps l_i − l'_i

AlpacaEval 2 estimates difficulties from all its models together and shrinks θ₁; here difficulties
are what they are given as, and the only penalty is one that keeps coefficients finite. Draws of a
row are drawn together, so intervals are over rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.metrics.base import Array
from harness.statistics.intervals import LEVEL, Interval, Resamples
from harness.statistics.winrates import WinRate, win_rate

RIDGE = 1e-3  # on the coefficients, so that a system that wins every row has finite ones
REFITS = 399  # of the percentile bootstrap
SHARE = 0.1  # how far lengths may differ and still be about the same


@dataclass(frozen=True)
class LengthRate:
    """A win rate that length plays no part in.

    Attributes:
        rate: with its interval over rows.
        rows: that it was read from.
    """

    rate: Interval
    rows: int


def length_matched(verdicts: Array, ours: Array, theirs: Array, share: float = SHARE) -> LengthRate:
    """The win rate over answers that are about as long: within ``share`` of the longer one.

    Args:
        verdicts: 0 to 1, NaN where not judged; shape (rows,), or (draws, rows).
        ours: characters of the first system's answers, of the same shape.
        theirs: of the second's; the same, or (rows,).
        share: how far the lengths may differ.

    Raises:
        ValueError: fewer than two judged rows have answers of about one length.
    """
    longer = np.maximum(np.maximum(ours, theirs), 1)
    alike = np.abs(np.asarray(ours, np.float64) - theirs) <= share * longer
    try:
        found: WinRate = win_rate(np.where(alike, verdicts, np.nan))
    except ValueError as error:
        raise ValueError(f"of answers of about one length, {error}") from None
    return LengthRate(found.rate, found.rows)


def length_controlled(
    verdicts: Array,
    ours: Array,
    theirs: Array,
    difficulty: Array | None = None,
    refits: int = REFITS,
) -> LengthRate:
    """The win rate that would be seen if both systems' answers were as long.

    Args:
        verdicts: what the first system gets, 0 to 1, NaN where not judged; shape (rows,), or
            (draws, rows).
        ours: characters of its answers, of the same shape.
        theirs: of the second's; the same, or (rows,).
        difficulty: of each row, if it is known.
        refits: draws of the percentile bootstrap over rows.

    Raises:
        ValueError: fewer than two rows were judged.
    """
    shape = verdicts.shape
    known = np.isfinite(verdicts)
    _, row_of = np.unique(np.broadcast_to(np.arange(shape[-1]), shape)[known], return_inverse=True)
    rows = int(row_of.max()) + 1 if len(row_of) else 0
    if rows < 2:
        raise ValueError(f"{rows} rows have a verdict; two are needed")
    gaps = np.broadcast_to(np.asarray(ours, np.float64) - theirs, shape)[known]
    spread = gaps.std(ddof=1)
    length = np.tanh(gaps / spread) if spread else np.zeros_like(gaps)
    rest = [] if difficulty is None else [np.broadcast_to(difficulty, shape)[known]]
    columns = np.stack([np.ones_like(length), length, *rest], axis=1)

    def rate(weights: Array, start: Array) -> tuple[float, Array]:
        found = logistic(columns, verdicts[known], weights, start)
        return without_length(columns, found, weights), found

    estimate, found = rate(np.ones(len(length)), np.zeros(columns.shape[1]))
    drawn = np.concatenate(Resamples(rows, refits).counts).astype(np.float64)
    draws = [rate(weights[row_of], found)[0] for weights in drawn]
    low, high = np.quantile(draws, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return LengthRate(Interval(estimate, float(low), float(high)), rows)


def without_length(columns: Array, coefficients: Array, weights: Array | None = None) -> float:
    """The mean chance of a win by a logistic model without its term of length.

    Args:
        columns: 1, length, and what else there is; shape (answers, coefficients).
        coefficients: of the columns.
        weights: of the answers; by default alike.
    """
    kept = np.arange(columns.shape[1]) != 1
    return float(np.average(sigmoid(columns[:, kept] @ coefficients[kept]), weights=weights))


def logistic(
    columns: Array, targets: Array, weights: Array | None = None, start: Array | None = None
) -> Array:
    """Coefficients of a logistic model: most likely, less ½·ridge·|θ|².

    Args:
        columns: shape (answers, coefficients).
        targets: 0 to 1; shape (answers,).
        weights: of the answers; by default 1.
        start: where to begin looking.
    """
    from scipy.optimize import minimize

    heavy = np.ones(len(targets)) if weights is None else weights

    def loss(b: Array) -> tuple[float, Array]:
        z = columns @ b
        value = heavy @ (np.logaddexp(0, z) - targets * z) + RIDGE / 2 * (b @ b)
        slope: Array = columns.T @ (heavy * (sigmoid(z) - targets)) + RIDGE * b
        return float(value), slope

    def curve(b: Array) -> Array:
        chance = sigmoid(columns @ b)
        bent: Array = (columns * (heavy * chance * (1 - chance))[:, None]).T @ columns
        return bent + RIDGE * np.eye(len(b))

    first = np.zeros(columns.shape[1]) if start is None else start
    options = {"gtol": 1e-8 * max(1.0, float(heavy.sum()))}
    found: Array = minimize(
        loss, first, jac=True, hess=curve, method="trust-exact", options=options
    ).x
    return found


def sigmoid(values: Array) -> Array:
    """1 / (1 + e^−x), without overflow."""
    found: Array = 0.5 * (1 + np.tanh(values / 2))
    return found
