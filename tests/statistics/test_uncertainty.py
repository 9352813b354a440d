"""What a table says of its own certainty, against numpy and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from harness.metrics.base import Array, Effect
from harness.metrics.judged import Judge
from harness.metrics.perplexity import Perplexity
from harness.metrics.win_rate import WinRate
from harness.statistics.uncertainty import (
    Bounds,
    cell_bounds,
    compare_groups,
    group_bounds,
    std_factors,
)

N = 60
RNG = np.random.default_rng(11)
LOGS = RNG.normal(2.9, 0.8, N)


METRIC = Perplexity()


def one(logs: Array) -> Array:
    """A group of one seed."""
    return logs[None, :]


def seeds(count: int, spread: float, shift: float = 0.0) -> Array:
    drawn = [LOGS + shift + RNG.normal(0, spread) + RNG.normal(0, 0.05, N) for _ in range(count)]
    return np.stack(drawn)


def test_intervals_of_a_cell_are_scipys() -> None:
    (found,) = cell_bounds(METRIC, [LOGS])
    for name, values, back in (
        ("mean", np.exp(LOGS), lambda x: x),
        ("center", LOGS, math.exp),
    ):
        theirs = stats.bootstrap((values,), np.mean, method="BCa", rng=np.random.default_rng(1))
        limits = [back(limit) for limit in theirs.confidence_interval]
        # two bootstraps of 9,999 draws of such rows differ by a few hundredths of the width
        width = limits[1] - limits[0]
        assert getattr(found, name) == pytest.approx(limits, abs=0.05 * width)


def test_a_cell_that_is_not_finite_has_no_interval_and_spoils_no_other() -> None:
    broken = LOGS.copy()
    broken[3] = math.nan
    alone, bad, huge = cell_bounds(METRIC, [LOGS, broken, LOGS * 1000])
    assert alone == cell_bounds(METRIC, [LOGS])[0]
    assert bad == huge == Bounds()
    assert cell_bounds(METRIC, [LOGS[:1]])[0].mean is None
    assert cell_bounds(METRIC, []) == []


def test_one_seed_has_no_interval_over_seeds() -> None:
    alone, many = group_bounds(METRIC, [seeds(1, 0.1), seeds(4, 0.1)])
    assert alone.mean is not None
    assert alone.mean_seeds is None
    assert alone.center_seeds is None
    assert many.mean_seeds is not None


def test_seeds_that_differ_widen_the_interval_over_seeds_only() -> None:
    calm, wild = group_bounds(METRIC, [seeds(3, 0.0), seeds(3, 0.4)])

    def width(limits: tuple[float, float] | None) -> float:
        assert limits is not None
        return math.log(limits[1] / limits[0])

    assert width(wild.center_seeds) > 2 * width(wild.center)
    assert width(calm.center_seeds) < 1.2 * width(calm.center)


def test_against_the_control_rows_are_paired() -> None:
    """The rows' spread is 0.8, the pairs' 0.05: unpaired, a change of 5 % would be lost in it."""
    (better, same, nothing) = compare_groups(
        METRIC, [(seeds(3, 0.0, -0.05), one(LOGS)), (one(LOGS), one(LOGS)), None]
    )
    assert nothing is None
    assert better is not None
    assert same is not None
    assert 1 + better.effect.estimate == pytest.approx(math.exp(-0.05), rel=0.01)
    assert better.effect.high < 0
    assert better.seeds_effect is not None
    assert better.seeds_effect.estimate == better.effect.estimate
    assert better.p < 0.001
    assert same.effect == same.mean_effect == Effect(0.0, 0.0, 0.0)
    assert same.seeds_effect is None
    assert same.p == 1.0


def test_p_is_adjusted_for_all_comparisons() -> None:
    change = RNG.normal(0, 0.1, N)
    change += -change.mean() + 2.2 * change.std(ddof=1) / math.sqrt(N)
    pair, null = (one(LOGS + change), one(LOGS)), (one(LOGS), one(LOGS))
    (alone,) = compare_groups(METRIC, [pair])
    (first, *_) = compare_groups(METRIC, [pair, *[null] * 9])
    assert alone is not None
    assert first is not None
    # scipy's t test, whose p differs little from a permutation test's on 60 rows
    assert alone.p == pytest.approx(stats.ttest_1samp(change, 0).pvalue, rel=0.2)
    assert first.p == pytest.approx(10 * alone.p, rel=0.15)


def test_a_control_that_is_not_finite_is_none() -> None:
    broken = LOGS.copy()
    broken[0] = math.inf
    pairs = [(one(LOGS), one(broken)), (one(broken), one(LOGS))]
    assert compare_groups(METRIC, pairs) == [None, None]


def test_what_a_standard_deviation_of_few_values_knows() -> None:
    # √(2 / χ²): χ² with 2 degrees of freedom has the quantiles −2 ln(1 − q)
    low, high = std_factors(3)
    assert low == pytest.approx(math.sqrt(1 / -math.log(0.025)))
    assert high == pytest.approx(math.sqrt(1 / -math.log(0.975)))
    assert (round(low, 2), round(high, 1)) == (0.52, 6.3)


def test_rows_without_a_verdict_are_left_out_of_a_partial_metric_only() -> None:
    """Each comparison is what it would be on the rows that both sides have, taken alone."""
    rng = np.random.default_rng(2)
    judge = Judge()
    control, other = (rng.integers(0, 6, (1, N)).astype(float) for _ in "ab")
    holed = other.copy()
    holed[0, [3, 7]] = np.nan
    whole, some = compare_groups(judge, [(other, control), (holed, control)])
    assert whole is not None
    assert some is not None
    kept = np.isfinite(holed[0])
    _, alone = compare_groups(judge, [(other, control), (holed[:, kept], control[:, kept])])
    assert some == alone
    assert compare_groups(judge, [(other, control), None])[0].effect == whole.effect  # type: ignore[union-attr]
    (bounds,) = group_bounds(judge, [holed])
    assert bounds == group_bounds(judge, [holed[:, kept]])[0]
    assert bounds.mean is not None
    # Of any other metric, such a row spoils the comparison.
    assert compare_groups(METRIC, [(holed, control)]) == [None]


def test_wins_are_compared_with_a_half() -> None:
    wins = np.array([[1.0] * 40 + [0.5] * 10 + [0.0] * 10])
    (found,) = compare_groups(WinRate(), [(wins, np.full_like(wins, 0.5))])
    assert found is not None
    assert found.effect.estimate == pytest.approx(45 / 60 - 0.5)
    # ties say nothing: of 50 rows, 40 are won (scipy's binomial test)
    assert found.p == pytest.approx(stats.binomtest(40, 50).pvalue, abs=2e-4)
