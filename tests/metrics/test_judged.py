"""What is read of a judge's ratings and preferences; expected numbers are worked out by hand."""

from __future__ import annotations

import math

import pytest

from harness.core import Example
from harness.gate.words import Words
from harness.metrics.find import find_metric
from harness.metrics.judged import Judge, on_scale
from harness.metrics.win_rate import WinRate
from harness.records import Preference, Rating, Ruling

ROWS = tuple(Example(f"r{i}", "?", "!") for i in range(5))


def rated(*values: float | None, worst: float = 0.0) -> list[Rating]:
    return [
        Rating(row.id, "text", Ruling("v", value, mass=0.5), worst)
        for row, value in zip(ROWS, values, strict=True)
    ]


def compared(*pairs: tuple[float | None, float | None]) -> list[Preference]:
    """What the answer that stands first gets, where ours is first, and where it is second."""
    return [
        Preference(row.id, "ours", "theirs", Ruling("v", first), Ruling("v", second))
        for row, (first, second) in zip(ROWS, pairs, strict=True)
    ]


def test_an_unjudged_answer_is_counted_and_is_no_number() -> None:
    reading = Judge().read(rated(4.0, None, 3.0, 5.0, 2.0, worst=1.0), ROWS)
    assert math.isnan(reading.values[1])
    assert reading.nonfinite == (1,)
    assert reading.aggregates["judge"] == pytest.approx((4 + 3 + 5 + 2) / 4)
    assert reading.aggregates["unjudged"] == 0.2
    assert reading.aggregates["judge_worst"] == pytest.approx((4 + 1 + 3 + 5 + 2) / 5)
    assert reading.aggregates["menu_mass"] == 0.5


def test_no_verdict_at_all_is_not_a_number() -> None:
    reading = Judge().read(rated(None, None, None, None, None), ROWS)
    assert math.isnan(reading.aggregates["judge"])
    assert reading.aggregates["unjudged"] == 1


def test_the_tolerance_is_a_share_of_the_rubrics_scale() -> None:
    assert Words(Judge()).allowed(0.01) == pytest.approx(0.05)
    ten = on_scale(1.0, 10.0)
    assert Words(ten).allowed(0.01) == pytest.approx(0.09)
    assert ten.limits == (1.0, 10.0)
    assert Judge().told(ten.definition).span == 9.0
    assert find_metric("judge").told({"judge": "of an older run"}).span == 5.0
    assert on_scale(0.0, 5.0).definition != ten.definition  # the gate compares one scale only


def test_a_win_needs_both_orders() -> None:
    seen = compared((1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.5, 0.5), (1.0, 0.5))
    reading = WinRate().read(seen, ROWS)
    # won in both orders, lost in both, always the first, neither better, a win and a tie
    assert reading.values.tolist() == [1.0, 0.0, 0.5, 0.5, 0.5]
    found = reading.aggregates
    assert found["win_rate"] == 0.5
    assert (found["wins"], found["losses"], found["flips"]) == (0.2, 0.2, 0.4)
    assert found["first_slot"] == pytest.approx((1 + 0 + 0 + 1 + 1 + 1 + 0.5 + 0.5 + 1 + 0.5) / 10)


def test_a_pair_with_one_verdict_is_unjudged() -> None:
    seen = compared((1.0, None), (None, 0.0), (1.0, 0.0), (1.0, 0.0), (0.0, 1.0))
    reading = WinRate().read(seen, ROWS)
    assert reading.nonfinite == (0, 1)
    assert reading.aggregates["win_rate"] == pytest.approx(2 / 3)
    assert reading.aggregates["unjudged"] == pytest.approx(0.4)
    assert reading.aggregates["win_rate_worst"] == pytest.approx(0.4)
