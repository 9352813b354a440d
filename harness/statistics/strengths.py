"""How strong each of several systems is, by verdicts on pairs of their answers.

Bradley & Terry's model (1952) with ties by Davidson (1970): with strengths λ, their mean 0, and
one ν for how often neither wins,

    P(i wins) ∝ exp(λ_i)    P(j wins) ∝ exp(λ_j)    P(tie) ∝ ν·exp((λ_i + λ_j) / 2)

Without any tie ν is 0. Intervals are of the sandwich H⁻¹ (Σ s_r s_rᵀ) H⁻¹ · n / (n − 1) (Huber
1967), H the information and s_r the score of row r, summed over all pairs that were judged on it:
one row stands in many pairs and is one observation. They use Student's t with n − 1 degrees of
freedom.

Strengths have no limit where a direction exists in which the likelihood never falls (Albert &
Anderson 1984): a linear program looks for one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.metrics.base import Array
from harness.statistics.intervals import LEVEL, Interval

MOVES = 1e-7  # more than rounding in the linear program
WIN, LOSS, TIE = range(3)


def strengths(pairs: Mapping[tuple[str, str], Array]) -> dict[str, Interval]:
    """The strength λ of each system, with its interval over rows; their mean is 0.

    Args:
        pairs: (system, system) → what the first gets of each row, 0 to 1, NaN where not judged;
            rows are the same, in the same order, for all pairs. Between 0, ½ and 1 a verdict is
            shared out: 0.8 is 0.6 wins and 0.4 ties.

    Raises:
        ValueError: there is no pair, rows differ in number, fewer than two were judged, the
            systems fall into parts that were never compared, or their strengths have no limit.
    """
    names = sorted({name for pair in pairs for name in pair})
    shares = _shares(pairs)
    designs = [_design(names, pair) for pair in pairs]
    counts = shares.sum(axis=1)
    _check_connected(names, list(pairs), counts)
    ties = bool(counts[:, TIE].sum())
    if not counts[:, [WIN, LOSS]].any():
        raise ValueError("every verdict is a tie: strengths cannot be told apart")
    outcomes = [WIN, LOSS, *([TIE] if ties else [])]
    # Columns: λ of all systems but the last, whose λ is minus their sum; log ν if anybody ties.
    free = [*range(len(names) - 1), *([len(names)] if ties else [])]
    basis = np.eye(len(names) + 1)[:, free]
    basis[len(names) - 1, : len(names) - 1] = -1
    designs = [design[outcomes] @ basis for design in designs]
    counts, shares = counts[:, outcomes], shares[:, :, outcomes]
    _check_limit(names, designs, counts, basis)
    found = _likeliest(designs, counts)
    spread = np.sqrt(np.diagonal(basis @ _covariance(designs, shares, found) @ basis.T))
    rows = int((shares.sum(axis=(0, 2)) > 0).sum())
    reach = _quantile(rows) * spread
    values = basis @ found
    return {
        name: Interval(float(one), float(one - width), float(one + width))
        for name, one, width in zip(names, values, reach, strict=False)
    }


def _quantile(rows: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(rows - 1, (1 + LEVEL) / 2))


def _shares(pairs: Mapping[tuple[str, str], Array]) -> Array:
    """Wins, losses and ties; shape (pairs, rows, 3), 0 where a row was not judged."""
    if not pairs:
        raise ValueError("no pair of systems was compared")
    lengths = {len(verdicts) for verdicts in pairs.values()}
    if len(lengths) > 1:
        raise ValueError(f"pairs have {sorted(lengths)} rows; all need the same rows")
    verdicts = np.array(list(pairs.values()), dtype=np.float64)
    known = np.isfinite(verdicts)
    if known.any(axis=0).sum() < 2:
        raise ValueError(f"{int(known.any(axis=0).sum())} rows have a verdict; two are needed")
    lead = 2 * np.where(known, verdicts, 0.5) - 1
    found = np.stack([np.maximum(lead, 0), np.maximum(-lead, 0), 1 - np.abs(lead)], axis=2)
    return found * known[:, :, None]


def _design(names: Sequence[str], pair: tuple[str, str]) -> Array:
    """What each outcome's log weight is made of: a row each, the columns λ and log ν."""
    found = np.zeros((3, len(names) + 1))
    one, other = (names.index(name) for name in pair)
    found[WIN, one] = found[LOSS, other] = found[TIE, -1] = 1
    found[TIE, [one, other]] = 0.5
    return found


def _likeliest(designs: Sequence[Array], counts: Array) -> Array:
    """The parameters of the largest likelihood."""
    from scipy.optimize import minimize

    total = counts.sum()

    def loss(b: Array) -> tuple[float, Array]:
        value, slope = 0.0, np.zeros(len(b))
        for design, count in zip(designs, counts, strict=True):
            logits = design @ b
            top = np.logaddexp.reduce(logits)
            value += count.sum() * top - count @ logits
            slope += design.T @ (count.sum() * np.exp(logits - top) - count)
        return float(value / total), slope / total

    def curve(b: Array) -> Array:
        bent: Array = _information(designs, counts, b) / total
        return bent

    start = np.zeros(designs[0].shape[1])
    options = {"gtol": 1e-10, "maxiter": 1000}
    found: Array = minimize(
        loss, start, jac=True, hess=curve, method="trust-exact", options=options
    ).x
    return found


def _information(designs: Sequence[Array], counts: Array, b: Array) -> Array:
    """Minus the second derivatives of the log-likelihood."""
    found = np.zeros((len(b), len(b)))
    for design, count in zip(designs, counts, strict=True):
        chances = _chances(design, b)
        middle = design - chances @ design
        found += count.sum() * (middle.T * chances) @ middle
    return found


def _covariance(designs: Sequence[Array], shares: Array, b: Array) -> Array:
    """The sandwich, each row one observation."""
    scores = np.zeros((shares.shape[1], len(b)))
    for design, share in zip(designs, shares, strict=True):
        scores += (share - share.sum(axis=1, keepdims=True) * _chances(design, b)) @ design
    rows = int((shares.sum(axis=(0, 2)) > 0).sum())
    bread = np.linalg.inv(_information(designs, shares.sum(axis=1), b))
    found: Array = bread @ (scores.T @ scores) @ bread * rows / (rows - 1)
    return found


def _chances(design: Array, b: Array) -> Array:
    logits = design @ b
    found: Array = np.exp(logits - np.logaddexp.reduce(logits))
    return found


def _check_connected(names: Sequence[str], pairs: Sequence[tuple[str, str]], counts: Array) -> None:
    """See that everybody is reached from everybody by wins or ties (Ford 1957)."""
    reached = np.eye(len(names), dtype=bool)
    for (one, other), (won, lost, tied) in zip(pairs, counts, strict=True):
        i, j = names.index(one), names.index(other)
        reached[i, j] |= won + tied > 0
        reached[j, i] |= lost + tied > 0
    for _ in names:
        reached = (reached.astype(int) @ reached.astype(int)) > 0
    for one, row in zip(names, reached, strict=True):
        for other, there in zip(names, row, strict=True):
            if not there:
                raise ValueError(
                    f"{one!r} never wins against {other!r}, nor against anybody who leads there: "
                    f"their strengths have no limit"
                )


def _check_limit(
    names: Sequence[str], designs: Sequence[Array], counts: Array, basis: Array
) -> None:
    """See that no direction is one in which every verdict seen becomes likelier, or stays so.

    The linear program looks for a direction in which what was seen gains on the other outcomes of
    its pair: none may lose, and together they gain as much as they can.
    """
    from scipy.optimize import linprog

    gains = np.concatenate(
        [
            design[seen] - np.delete(design, seen, axis=0)
            for design, count in zip(designs, counts, strict=True)
            for seen in np.flatnonzero(count)
        ]
    )
    found = linprog(-gains.sum(axis=0), A_ub=-gains, b_ub=np.zeros(len(gains)), bounds=(-1, 1))
    if -found.fun <= MOVES:
        return
    moves = (basis @ found.x)[: len(names)]
    best, least = names[int(moves.argmax())], names[int(moves.argmin())]
    raise ValueError(
        f"{least!r} never wins against {best!r}, nor against anybody who leads there, but for "
        f"ties: their strengths have no limit"
    )
