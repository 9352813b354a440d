"""Which of two systems wins, by verdicts on pairs of answers.

A verdict is what the first system gets of a row: 1 it wins, 0 it loses, ½ a tie. Where a pair was
judged in both orders, the two verdicts are averaged, so that a judge that changes its mind with the
order gives half a win to each.

    win rate            mean over rows
    length-controlled   mean over rows of σ(β₀ + β₂·d_i): the logistic model
                        logit P(win) = β₀ + β₁·tanh((l_i − l'_i) / sd) + β₂·d_i
                        without its term of length (Dubois et al. 2024), d_i a row's difficulty
    Bradley–Terry       P(i beats j) = π_i / (π_i + π_j), ties as half a win each (1952); strengths
                        are log π, their mean 0
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.metrics.base import Array
from harness.statistics.intervals import Interval, Resamples
from harness.statistics.paired import permutation_p

RIDGE = 1e-3  # on the coefficients, so that a system that wins every row has a finite one


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


def win_rate(verdicts: Array) -> WinRate:
    """The win rate of verdicts, one for each row.

    Args:
        verdicts: 0 to 1; NaN where a row was not judged. Shape (rows,).

    Raises:
        ValueError: fewer than two rows were judged.
    """
    known = verdicts[np.isfinite(verdicts)]
    if len(known) < 2:
        raise ValueError(f"{len(known)} rows have a verdict; two are needed")
    p = permutation_p((known - 0.5)[:, None], alternative="two-sided")
    return WinRate(
        rate=Resamples(len(known)).means(known[:, None])[0],
        standard_error=float(known.std(ddof=1) / np.sqrt(len(known))),
        p=float(p[0]),
        rows=len(known),
    )


def both_orders(first: Array, second: Array) -> tuple[Array, Order]:
    """Average the verdicts of two orders.

    Args:
        first: what the first system gets where its answer stands first; shape (rows,).
        second: what the first system gets where its answer stands second.

    Returns:
        Each row's verdict, NaN where one of the orders was not judged, and what the order does.

    Raises:
        ValueError: fewer than two rows were judged in both orders.
    """
    verdicts = (first + second) / 2
    known = np.isfinite(verdicts)
    if known.sum() < 2:
        raise ValueError(f"{int(known.sum())} rows were judged in both orders; two are needed")
    one, other = first[known], second[known]
    draws = Resamples(len(one))
    flips, slot = draws.means(
        np.stack([(one != other).astype(np.float64), (one + (1 - other)) / 2], axis=1)
    )
    return verdicts, Order(flips, slot)


def length_matched(verdicts: Array, ours: Array, theirs: Array, share: float = 0.1) -> Array:
    """The verdicts of rows whose answers are about as long: within ``share`` of the longer one.

    Args:
        verdicts: of each row.
        ours: characters of the first system's answers.
        theirs: of the second's.
        share: how far the lengths may differ.
    """
    longer = np.maximum(np.maximum(ours, theirs), 1)
    found: Array = verdicts[np.abs(ours - theirs) <= share * longer]
    return found


def length_controlled(
    verdicts: Array, ours: Array, theirs: Array, difficulty: Array | None = None
) -> float:
    """The win rate that would be seen if both systems' answers were as long.

    Args:
        verdicts: what the first system gets of each row, 0 to 1, NaN where not judged.
        ours: characters of its answers.
        theirs: of the second's.
        difficulty: of each row, if it is known.

    Raises:
        ValueError: fewer than two rows were judged.
    """
    known = np.isfinite(verdicts)
    if known.sum() < 2:
        raise ValueError(f"{int(known.sum())} rows have a verdict; two are needed")
    gaps = (ours - theirs)[known].astype(np.float64)
    spread = gaps.std()
    length = np.tanh(gaps / spread) if spread else np.zeros_like(gaps)
    rest = [np.ones_like(length)] + ([] if difficulty is None else [difficulty[known]])
    columns = np.stack([length, *rest], axis=1)
    coefficients = logistic(columns, verdicts[known])
    return float(sigmoid(columns[:, 1:] @ coefficients[1:]).mean())


def logistic(columns: Array, targets: Array) -> Array:
    """Coefficients of a logistic model, by Newton's method with a small ridge.

    Args:
        columns: shape (rows, coefficients).
        targets: 0 to 1; shape (rows,).
    """
    found = np.zeros(columns.shape[1])
    ridge = RIDGE * np.eye(columns.shape[1])
    for _ in range(100):
        chance = sigmoid(columns @ found)
        slope = columns.T @ (targets - chance) - ridge @ found
        curve = (columns * (chance * (1 - chance))[:, None]).T @ columns + ridge
        step = np.linalg.solve(curve, slope)
        found = found + step
        if np.abs(step).max() < 1e-10:
            break
    return found


def sigmoid(values: Array) -> Array:
    """1 / (1 + e^−x), without overflow."""
    found: Array = 0.5 * (1 + np.tanh(values / 2))
    return found


def bradley_terry(pairs: Mapping[tuple[str, str], Sequence[float]]) -> dict[str, float]:
    """The strength of each system, log π with a mean of 0, by the MM algorithm (Hunter 2004).

    Args:
        pairs: (system, system) → what the first gets of each row they were compared on, 0 to 1.

    Raises:
        ValueError: a system has no win or no loss, so that its strength has no limit, or the
            systems fall into parts that were never compared.
    """
    names = sorted({name for pair in pairs for name in pair})
    place = {name: i for i, name in enumerate(names)}
    wins = np.zeros((len(names), len(names)))
    for (one, other), verdicts in pairs.items():
        won = float(np.sum(verdicts))
        wins[place[one], place[other]] += won
        wins[place[other], place[one]] += len(verdicts) - won
    _check_connected(names, wins)
    games, strength = wins + wins.T, np.ones(len(names))
    for _ in range(10_000):
        shares = games / (strength[:, None] + strength[None])
        moved = wins.sum(axis=1) / shares.sum(axis=1)
        moved /= np.exp(np.log(moved).mean())
        if np.abs(np.log(moved / strength)).max() < 1e-12:
            break
        strength = moved
    return dict(zip(names, np.log(strength).tolist(), strict=True))


def _check_connected(names: Sequence[str], wins: Array) -> None:
    """See that everybody is reached from everybody by wins (Ford 1957)."""
    reached = (wins > 0) | np.eye(len(names), dtype=bool)
    for _ in names:
        reached = (reached.astype(int) @ reached.astype(int)) > 0
    for one, row in zip(names, reached, strict=True):
        for other, there in zip(names, row, strict=True):
            if not there:
                raise ValueError(
                    f"{one!r} never wins against {other!r}, nor against anybody who leads there: "
                    f"their strengths have no limit"
                )


def rows_needed(difference: float, spread: float, power: float = 0.8) -> int:
    """How many rows show a difference of two systems, paired, two-sided at 5 %.

    Args:
        difference: on the scale of the score.
        spread: standard deviation of the rows' differences.
        power: how often it is to be found.
    """
    from scipy.special import ndtri

    needed = (float(ndtri(0.975)) + float(ndtri(power))) * spread / abs(difference)
    return max(2, int(np.ceil(needed**2)))
