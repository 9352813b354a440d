"""Win rates, what the order and the length of answers do to them, strengths of several systems."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from harness.statistics.corrected import corrected_mean
from harness.statistics.winrates import (
    both_orders,
    bradley_terry,
    length_controlled,
    length_matched,
    logistic,
    rows_needed,
    sigmoid,
    win_rate,
)


def test_a_win_rate_counts_ties_half_and_leaves_out_what_was_not_judged() -> None:
    found = win_rate(np.array([1, 1, 0, 0.5, np.nan]))
    assert (found.rate.estimate, found.rows) == (0.625, 4)
    sample = [1, 1, 0, 0.5]
    deviation = math.sqrt(sum((x - 0.625) ** 2 for x in sample) / 3)
    assert found.standard_error == pytest.approx(deviation / 2)
    with pytest.raises(ValueError, match="1 rows have a verdict"):
        win_rate(np.array([1, np.nan]))


def test_systems_that_always_tie_have_p_1() -> None:
    assert win_rate(np.full(50, 0.5)).p == 1
    assert win_rate(np.array([0.5] * 49 + [1.0])).p == 1  # one row says nothing
    assert win_rate(np.ones(20)).p < 0.001


def test_two_orders_are_averaged_and_what_the_order_does_is_told() -> None:
    # rows: agree for us, flip to whatever stands first, agree against, flip to the second
    first, second = np.array([1, 1, 0, 0.0]), np.array([1, 0, 0, 1.0])
    verdicts, order = both_orders(first, second)
    assert verdicts.tolist() == [1, 0.5, 0, 0.5]
    assert order.flips.estimate == 0.5
    assert order.first.estimate == 0.5
    _, always_first = both_orders(np.ones(10), np.zeros(10))
    assert (always_first.flips.estimate, always_first.first.estimate) == (1, 1)


def test_length_matched_keeps_answers_of_about_one_length() -> None:
    verdicts = np.array([1.0, 0.0, 1.0, 0.0])
    ours, theirs = np.array([100, 100, 0, 200]), np.array([95, 50, 0, 221])
    assert length_matched(verdicts, ours, theirs).tolist() == [1.0, 1.0, 0.0]


def test_the_logistic_fit_is_scipys_optimum() -> None:
    rng = np.random.default_rng(0)
    columns = np.stack([np.ones(200), rng.normal(size=200), rng.normal(size=200)], axis=1)
    targets = (rng.random(200) < sigmoid(columns @ np.array([0.3, 1.0, -0.5]))).astype(float)

    def loss(b: np.ndarray) -> float:  # type: ignore[type-arg]
        z = columns @ b
        likelihood = targets * z - np.logaddexp(0, z)
        return float(-likelihood.sum() + 0.5e-3 * (b**2).sum())

    best = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-9}).x
    assert logistic(columns, targets) == pytest.approx(best, abs=1e-5)


def test_a_judge_that_prefers_length_alone_is_corrected_to_a_half() -> None:
    rng = np.random.default_rng(3)
    ours, theirs = rng.integers(50, 400, 3000), rng.integers(50, 200, 3000)
    gaps = ours - theirs
    chances = sigmoid(3 * np.tanh(gaps / gaps.std()))
    verdicts = (rng.random(3000) < chances).astype(float)
    assert verdicts.mean() > 0.65
    assert length_controlled(verdicts, ours, theirs) == pytest.approx(0.5, abs=0.04)
    fair = np.tile([1.0, 0.0, 1.0], 1000)  # length plays no part
    assert length_controlled(fair, ours, theirs) == pytest.approx(fair.mean(), abs=0.05)


def test_strengths_of_two_systems_are_the_log_odds() -> None:
    found = bradley_terry({("a", "b"): [1, 1, 1, 0]})
    assert found["a"] - found["b"] == pytest.approx(math.log(3))
    assert sum(found.values()) == pytest.approx(0, abs=1e-9)


def test_strengths_satisfy_the_likelihood_equations() -> None:
    """At the optimum each system's wins are those that its strength expects (Hunter 2004)."""
    pairs = {
        ("a", "b"): [1, 0, 1, 0.5, 1],
        ("b", "c"): [1, 1, 0, 1],
        ("a", "c"): [1, 1, 1, 0, 1, 1],
    }
    found = bradley_terry(pairs)
    for name in "abc":
        won = expected = 0.0
        for (one, other), verdicts in pairs.items():
            chance = 1 / (1 + math.exp(found[other] - found[one]))
            if name == one:
                won, expected = won + sum(verdicts), expected + len(verdicts) * chance
            if name == other:
                won += len(verdicts) - sum(verdicts)
                expected += len(verdicts) * (1 - chance)
        assert won == pytest.approx(expected, abs=1e-6)


def test_a_system_that_never_loses_has_no_strength() -> None:
    with pytest.raises(ValueError, match="'b' never wins against 'a'"):
        bradley_terry({("a", "b"): [1, 1]})


def test_rows_that_show_a_difference() -> None:
    # (1.96 + 0.84)² · (1.2 / 0.25)² = 180.8
    assert rows_needed(0.25, 1.2) == 181
    assert rows_needed(-0.25, 1.2) == 181


def test_a_corrected_mean_is_right_whatever_the_judge_and_narrower_with_a_good_one() -> None:
    rng = np.random.default_rng(4)
    inside = {"good": 0, "useless": 0}
    widths: dict[str, list[float]] = {"good": [], "useless": []}
    for _ in range(200):
        human = rng.normal(3.0, 1.0, 400)
        labels = np.where(np.arange(400) < 80, human, np.nan)
        for name, judged in (
            ("good", human + 0.8 + rng.normal(0, 0.3, 400)),  # biased by 0.8
            ("useless", rng.normal(4.5, 1.0, 400)),
        ):
            found = corrected_mean(judged, labels)
            inside[name] += found.mean.low <= 3.0 <= found.mean.high
            widths[name].append(found.mean.high - found.mean.low)
    assert all(180 <= count <= 199 for count in inside.values()), inside  # of 200, at 95 %
    assert np.mean(widths["good"]) < 0.7 * np.mean(widths["useless"])


def test_few_labels_are_not_enough() -> None:
    labels = np.full(100, np.nan)
    labels[:49] = 1.0
    with pytest.raises(ValueError, match="49 rows have a human's score; .* at least 50"):
        corrected_mean(np.ones(100), labels)
