"""What so many rows can show: closed forms, and how often a difference is found."""

from __future__ import annotations

import numpy as np
import pytest

from harness.statistics.unseen import detectable_rate, rows_needed, unseen


@pytest.mark.parametrize(("rows", "half", "found"), [(250, 6.2, 8.9), (64, 12.2, 17.5)])
def test_what_a_win_rate_can_show(rows: int, half: float, found: float) -> None:
    """1.960 · 50 / √n and 2.802 · 50 / √n points."""
    told = detectable_rate(rows)
    assert (round(100 * told.half_width, 1), round(100 * told.detectable, 1)) == (half, found)


def test_what_scores_can_show() -> None:
    assert unseen(250, 1.2).detectable == pytest.approx(2.8016 * 1.2 / 250**0.5, abs=1e-4)
    with pytest.raises(ValueError, match="rows=0"):
        unseen(0, 1.0)


def test_rows_that_show_a_difference() -> None:
    # (1.96 + 0.84)² · (1.2 / 0.25)² = 180.8: 4.15 or 4.4 of 5
    assert rows_needed(0.25, 1.2) == 181
    assert rows_needed(-0.25, 1.2) == 181
    for rows in (40, 250):  # one is the other's inverse
        assert rows_needed(unseen(rows, 1.2).detectable, 1.2) in (rows, rows + 1)


def test_what_is_detectable_is_found_four_times_in_five() -> None:
    rng = np.random.default_rng(0)
    told = detectable_rate(250)
    wins = rng.binomial(250, 0.5 + told.detectable, 20_000) / 250
    found = np.abs(wins - 0.5) > told.half_width
    assert 0.78 < found.mean() < 0.83
