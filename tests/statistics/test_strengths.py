"""Strengths of several systems: against choix, the likelihood equations, and by coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from harness.metrics.base import Array
from harness.statistics.strengths import strengths

NAN = np.nan


def test_strengths_of_two_systems_are_the_log_odds() -> None:
    found = strengths({("a", "b"): np.array([1, 1, 1, 0.0])})
    assert found["a"].estimate - found["b"].estimate == pytest.approx(math.log(3))
    assert sum(one.estimate for one in found.values()) == pytest.approx(0, abs=1e-9)


def test_without_ties_they_are_bradley_and_terrys() -> None:
    """choix 0.4.1, opt_pairwise of the 21 games."""
    found = strengths(
        {
            ("a", "b"): np.array([1, 0, 1, 1, 1, 0, 1.0]),
            ("b", "c"): np.array([1, 1, 0, 1, 0, 1, 1.0]),
            ("a", "c"): np.array([1, 1, 1, 0, 1, 1, 1.0]),
        }
    )
    got = [found[name].estimate for name in "abc"]
    assert got == pytest.approx([0.9052026206, 0, -0.9052026206], abs=1e-6)


TIED = {
    ("a", "b"): np.array([1, 0, 1, 0.5, 1, 0.5, NAN, 0.5]),
    ("b", "c"): np.array([1, 1, 0, 1, NAN, 0.5, 0, 1]),
    ("a", "c"): np.array([1, 1, 1, 0, 1, 0.5, 1, NAN]),
}


def test_with_ties_they_are_the_largest_of_davidsons_likelihood() -> None:
    """scipy's simplex on the likelihood as Davidson (1970) writes it, in π and ν."""

    def loss(free: Array) -> float:
        pi = dict(zip("abc", np.exp([free[0], free[1], -free[0] - free[1]]), strict=True))
        nu, total = math.exp(free[2]), 0.0
        for (one, other), verdicts in TIED.items():
            tie = nu * math.sqrt(pi[one] * pi[other])
            whole = pi[one] + pi[other] + tie
            for v in verdicts[np.isfinite(verdicts)]:
                total -= math.log({1: pi[one], 0: pi[other], 0.5: tie}[v] / whole)
        return total

    options = {"xatol": 1e-10, "fatol": 1e-12, "maxiter": 5000}
    best = minimize(loss, np.zeros(3), method="Nelder-Mead", options=options).x
    found = strengths(TIED)
    assert found["a"].estimate == pytest.approx(best[0], abs=1e-6)
    assert found["b"].estimate == pytest.approx(best[1], abs=1e-6)


def test_which_of_a_pair_is_named_first_does_not_matter() -> None:
    turned = {(other, one): 1 - verdicts for (one, other), verdicts in TIED.items()}
    found, again = strengths(TIED), strengths(turned)
    for name in "abc":
        assert vars(found[name]) == pytest.approx(vars(again[name]), abs=1e-7)


def test_a_verdict_between_is_shared_out() -> None:
    """0.75 is half a win and half a tie: the same as two rows of weight ½, in its estimate."""
    shared = strengths({("a", "b"): np.array([0.75, 0.75, 0, 0])})
    whole = strengths({("a", "b"): np.array([1, 0.5, 0, 0])})
    assert shared["a"].estimate == pytest.approx(whole["a"].estimate, abs=1e-7)


@pytest.mark.parametrize("nu", [0.0, 0.7])
def test_intervals_cover_where_rows_are_shared(nu: float) -> None:
    """Three systems on 150 rows, each row's verdicts made from one hidden draw for all pairs."""
    rng = np.random.default_rng(0)
    true = {"a": 0.6, "b": -0.1, "c": -0.5}
    inside, runs = dict.fromkeys(true, 0), 200
    for _ in range(runs):
        shared = rng.random(150)  # correlates the pairs of a row
        pairs = {}
        for one, other in (("a", "b"), ("b", "c"), ("a", "c")):
            weights = [math.exp(true[one]), nu * math.exp((true[one] + true[other]) / 2)]
            chances = np.cumsum([*weights, math.exp(true[other])])
            place = np.searchsorted(chances / chances[-1], shared)
            pairs[one, other] = np.array([1, 0.5, 0])[place]
        for name, one in strengths(pairs).items():
            inside[name] += one.low <= true[name] <= one.high
    assert all(0.9 <= count / runs <= 0.99 for count in inside.values()), inside


@pytest.mark.parametrize(
    ("pairs", "line"),
    [
        ({("a", "b"): [1, 1]}, "'b' never wins against 'a', nor .* no limit"),
        ({("a", "b"): [1, 0], ("c", "d"): [1, 0]}, "'a' never wins against 'c'"),
        ({("a", "b"): [1, 1, 0.5]}, "'b' never wins against 'a', .* but for ties"),
        ({("a", "b"): [0.5, 0.5]}, "every verdict is a tie"),
        ({("a", "b"): [1, NAN]}, "1 rows have a verdict; two are needed"),
        ({("a", "b"): [1, 0], ("b", "c"): [1, 0, 1]}, r"pairs have \[2, 3\] rows"),
        ({}, "no pair of systems"),
    ],
)
def test_what_has_no_strength_is_said(pairs: dict[tuple[str, str], list[float]], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        strengths({pair: np.array(verdicts, float) for pair, verdicts in pairs.items()})


def test_wins_elsewhere_tell_how_often_neither_wins() -> None:
    """a never loses to b but ties: b's games with c say what a tie is worth, so a has a limit."""
    found = strengths({("a", "b"): np.array([1, 1, 0.5, 1]), ("b", "c"): np.array([1, 0, 0.5, 1])})
    assert math.isfinite(found["a"].high)
    assert found["a"].estimate > found["b"].estimate > found["c"].estimate
