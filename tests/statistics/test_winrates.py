"""Win rates, what the order of answers does to them, and what was left unjudged."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.records import Preference, Ruling
from harness.statistics.intervals import share_of
from harness.statistics.winrates import both_orders, bounds, win_rate

NAN = np.nan


def test_a_win_rate_counts_ties_half_and_leaves_out_what_was_not_judged() -> None:
    found = win_rate(np.array([1, 1, 0, 0.5, NAN]))
    assert (found.rate.estimate, found.rows) == (0.625, 4)
    sample = [1, 1, 0, 0.5]
    deviation = math.sqrt(sum((x - 0.625) ** 2 for x in sample) / 3)
    assert found.standard_error == pytest.approx(deviation / 2)
    with pytest.raises(ValueError, match="1 rows have a verdict"):
        win_rate(np.array([1, NAN]))


def test_its_interval_is_scipys_bca() -> None:
    from scipy.stats import bootstrap

    sample = np.random.default_rng(0).choice([0, 0.5, 1], size=90, p=[0.2, 0.2, 0.6])
    theirs = bootstrap((sample,), np.mean, rng=np.random.default_rng(1)).confidence_interval
    ours = win_rate(sample).rate
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.008)


def test_draws_of_a_row_are_one_observation() -> None:
    rows = np.random.default_rng(2).choice([0, 0.5, 1.0], size=60)
    again = np.stack([rows, rows, rows])
    assert win_rate(again) == win_rate(rows)  # three times the same says nothing more
    mixed = np.array([[1, 0, NAN], [0, 0, NAN], [NAN, 1, NAN]])
    assert win_rate(mixed) == win_rate(np.array([0.5, 1 / 3]))


def test_systems_that_always_tie_have_p_1() -> None:
    assert win_rate(np.full(50, 0.5)).p == 1
    assert win_rate(np.array([0.5] * 49 + [1.0])).p == 1  # one row says nothing
    assert win_rate(np.ones(20)).p < 0.001


def test_p_is_that_of_all_flips() -> None:
    """By brute force: 2^10 signs of ten rows, three of them ties."""
    verdicts = np.array([1, 1, 1, 1, 1, 0, 0, 0.5, 0.5, 0.5])
    moved = verdicts - 0.5
    signs = np.array(np.meshgrid(*[[1, -1]] * 10)).reshape(10, -1)
    expected = np.mean(np.abs(moved @ signs) >= abs(moved.sum()) - 1e-9)
    assert win_rate(verdicts).p == pytest.approx(expected)


def test_rows_that_all_agree_have_exact_limits() -> None:
    """Clopper & Pearson's, by statsmodels 0.15.0: proportion_confint(method="beta")."""
    found = share_of(np.ones(40))
    assert (found.low, found.high) == (pytest.approx(0.9119026971), 1)
    found = share_of(np.zeros(100))
    assert (found.low, found.high) == (0, pytest.approx(0.0362166926))
    found = share_of(np.full(7, 0.5))
    assert (found.low, found.high) == (0.5, 0.5)


def test_two_orders_that_differ_are_half_a_win_and_what_the_order_does_is_told() -> None:
    # rows: agree for us, flip to whatever stands first, agree against, flip to the second
    first, second = np.array([1, 1, 0, 0.0]), np.array([1, 0, 0, 1.0])
    verdicts, order = both_orders(first, second)
    assert verdicts.tolist() == [1, 0.5, 0, 0.5]
    assert order.flips.estimate == 0.5
    assert order.first.estimate == 0.5
    _, always_first = both_orders(np.ones(10), np.zeros(10))
    assert (always_first.flips.estimate, always_first.first.estimate) == (1, 1)
    with pytest.raises(ValueError, match="1 rows were judged in both orders"):
        both_orders(np.array([1, 1.0]), np.array([NAN, 1]))


@pytest.mark.parametrize("first", [0, 0.5, 1, None])
@pytest.mark.parametrize("second", [0, 0.5, 1, None])
def test_it_is_the_rule_of_a_preference(first: float | None, second: float | None) -> None:
    """A win beside a tie is half a win as well, and not three quarters."""
    there = None if second is None else 1 - second
    one = Preference("r", "a", "b", Ruling("", first), Ruling("", there))
    rows = ([first, 1, 0], [second, 1, 0])
    verdicts, _ = both_orders(*(np.array(side, dtype=float) for side in rows))
    if one.value is None:
        assert np.isnan(verdicts[0])
    else:
        assert verdicts[0] == one.value


def test_expectations_on_one_side_are_no_flip() -> None:
    verdicts, order = both_orders(np.array([0.8, 0.6, 0.3]), np.array([0.6, 0.4, 0.1]))
    assert verdicts == pytest.approx([0.7, 0.5, 0.2])
    assert order.flips.estimate == pytest.approx(1 / 3)


def test_the_order_is_read_over_rows_and_not_over_pairs() -> None:
    """Ten pairs of each row that are judged alike make no interval narrower."""
    rng = np.random.default_rng(3)
    first, second = rng.integers(0, 2, (2, 50)).astype(float)
    _, once = both_orders(first, second)
    verdicts, often = both_orders(np.tile(first, (10, 1)), np.tile(second, (10, 1)))
    assert verdicts.shape == (10, 50)
    for one, many in ((once.flips, often.flips), (once.first, often.first)):
        assert (one.low, one.high) == pytest.approx((many.low, many.high))


def test_bounds_of_what_was_not_judged() -> None:
    found = bounds(np.array([5, 4, NAN, NAN]), worst=0, best=5)
    assert (found.judged, found.worst, found.best, found.unjudged) == (4.5, 2.25, 4.75, 0.5)
    draws = bounds(np.array([[1, NAN], [0, NAN]]), worst=0, best=1)
    assert (draws.judged, draws.worst, draws.best, draws.unjudged) == (0.5, 0.25, 0.75, 0.5)
    nothing = bounds(np.full(3, NAN), 0, 1)
    assert math.isnan(nothing.judged)
    assert (nothing.worst, nothing.best) == (0, 1)
    with pytest.raises(ValueError, match="no rows"):
        bounds(np.empty(0), 0, 1)
