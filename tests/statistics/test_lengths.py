"""Win rates without length: against statsmodels and scipy, and where length is all there is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from harness.metrics.base import Array
from harness.statistics.lengths import (
    length_controlled,
    length_matched,
    logistic,
    sigmoid,
    without_length,
)
from harness.statistics.winrates import win_rate


def test_length_matched_keeps_answers_of_about_one_length() -> None:
    verdicts = np.array([1.0, 0.0, 1.0, 0.0])
    ours, theirs = np.array([100, 100, 0, 200]), np.array([95, 50, 0, 221])
    found = length_matched(verdicts, ours, theirs)
    assert (found.rate.estimate, found.rows) == (pytest.approx(2 / 3), 3)
    assert found.rate == win_rate(np.array([1.0, 1.0, 0.0])).rate
    with pytest.raises(ValueError, match="of answers of about one length, 0 rows have a verdict"):
        length_matched(verdicts, ours + 100, theirs * 3)


def test_length_matched_chooses_among_draws() -> None:
    verdicts = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    ours = np.array([[10, 10, 99], [10, 99, 10]])
    found = length_matched(verdicts, ours, np.array([10, 10, 10]))
    assert (found.rows, found.rate.estimate) == (3, pytest.approx((0.5 + 0 + 0) / 3))


def made() -> tuple[Array, Array, Array, Array]:
    """Sixty rows without chance: verdicts with ties, lengths, difficulties."""
    i = np.arange(60)
    verdicts = (11 * i % 7 < 4).astype(float)
    verdicts[::9] = 0.5
    return verdicts, 50 + 37 * i % 200, 60 + 53 * i % 150, np.sin(i)


def test_the_fit_is_that_of_statsmodels() -> None:
    """GLM(Binomial()) of statsmodels 0.15.0 on these sixty rows, without a penalty."""
    verdicts, ours, theirs, difficulty = made()
    gaps = (ours - theirs).astype(float)
    columns = np.stack([np.ones(60), np.tanh(gaps / gaps.std(ddof=1)), difficulty], axis=1)
    expected = [0.27239394376976955, -0.1960874063857918, -0.10280610230244563]
    assert logistic(columns, verdicts) == pytest.approx(expected, abs=1e-4)
    found = length_controlled(verdicts, ours, theirs, difficulty)
    assert found.rate.estimate == pytest.approx(0.5667782206803011, abs=1e-4)
    assert found.rows == 60
    assert without_length(columns, np.array(expected)) == pytest.approx(0.5667782206803011)


def test_the_penalized_fit_is_the_optimum() -> None:
    rng = np.random.default_rng(0)
    columns = np.stack([np.ones(200), rng.normal(size=200), rng.normal(size=200)], axis=1)
    targets = (rng.random(200) < sigmoid(columns @ np.array([0.3, 1.0, -0.5]))).astype(float)
    weights = rng.integers(0, 4, 200).astype(float)

    def loss(b: Array) -> float:
        z = columns @ b
        likelihood = weights * (targets * z - np.logaddexp(0, z))
        return float(-likelihood.sum() + 0.5e-3 * (b**2).sum())

    best = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-9}).x
    assert logistic(columns, targets, weights) == pytest.approx(best, abs=1e-5)


def test_a_judge_that_prefers_length_alone_is_corrected_to_a_half() -> None:
    rng = np.random.default_rng(3)
    ours, theirs = rng.integers(50, 400, 3000), rng.integers(50, 200, 3000)
    gaps = ours - theirs
    chances = sigmoid(3 * np.tanh(gaps / gaps.std()))
    verdicts = (rng.random(3000) < chances).astype(float)
    assert verdicts.mean() > 0.65
    found = length_controlled(verdicts, ours, theirs, refits=99).rate
    assert found.estimate == pytest.approx(0.5, abs=0.04)
    assert found.low < 0.5 < found.high
    fair = np.tile([1.0, 0.0, 1.0], 1000)  # length plays no part
    fair_rate = length_controlled(fair, ours, theirs, refits=19).rate.estimate
    assert fair_rate == pytest.approx(fair.mean(), abs=0.05)


def test_a_system_that_always_wins_has_a_finite_fit() -> None:
    _, ours, theirs, difficulty = made()
    found = length_controlled(np.ones(60), ours, theirs, difficulty, refits=99).rate
    assert 0.98 < found.low <= found.estimate <= found.high <= 1


def test_answers_of_one_length_leave_the_win_rate() -> None:
    verdicts = made()[0]
    same = np.full(60, 80)
    found = length_controlled(verdicts, same, same).rate
    assert found.estimate == pytest.approx(verdicts.mean(), abs=1e-4)
    plain = win_rate(verdicts).rate
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.03)


def test_draws_of_a_row_are_drawn_together() -> None:
    verdicts, ours, theirs, difficulty = made()
    once = length_controlled(verdicts, ours, theirs, difficulty)
    twice = length_controlled(np.stack([verdicts] * 2), np.stack([ours] * 2), theirs, difficulty)
    assert twice.rows == 60
    assert twice.rate.low == pytest.approx(once.rate.low, abs=2e-3)
    assert twice.rate.high == pytest.approx(once.rate.high, abs=2e-3)


def test_what_was_not_judged_is_left_out() -> None:
    verdicts, ours, theirs, difficulty = made()
    holes = verdicts.copy()
    holes[::5] = np.nan
    kept = np.isfinite(holes)
    assert length_controlled(holes, ours, theirs, difficulty) == length_controlled(
        verdicts[kept], ours[kept], theirs[kept], difficulty[kept]
    )
    with pytest.raises(ValueError, match="0 rows have a verdict"):
        length_controlled(np.full(60, np.nan), ours, theirs)
