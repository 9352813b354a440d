"""What a table says of its own certainty, against numpy and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from harness.records import Likelihood
from harness.statistics.uncertainty import cell_intervals, group_intervals, std_factors, versus

N = 60
RNG = np.random.default_rng(11)
LOGS = RNG.normal(2.9, 0.8, N)


def scores(logs: np.ndarray) -> list[Likelihood]:  # type: ignore[type-arg]
    return [Likelihood(f"r{i}", 10 * float(x), 10, 2, 6, 5) for i, x in enumerate(logs)]


def seeds(count: int, spread: float, shift: float = 0.0) -> list[list[Likelihood]]:
    return [
        scores(LOGS + shift + RNG.normal(0, spread) + RNG.normal(0, 0.05, N)) for _ in range(count)
    ]


def test_intervals_of_a_cell_are_scipys() -> None:
    (found,) = cell_intervals([scores(LOGS)])
    for name, values, back in (
        ("mean_interval", np.exp(LOGS), lambda x: x),
        ("geometric_interval", LOGS, math.exp),
    ):
        theirs = stats.bootstrap((values,), np.mean, method="BCa", rng=np.random.default_rng(1))
        limits = [back(limit) for limit in theirs.confidence_interval]
        # two bootstraps of 9,999 draws of such rows differ by a few hundredths of the width
        width = limits[1] - limits[0]
        assert found[name] == pytest.approx(limits, abs=0.05 * width)


def test_a_cell_that_is_not_finite_has_no_interval_and_spoils_no_other() -> None:
    broken = scores(LOGS)
    broken[3] = Likelihood("r3", math.nan, 10, 2, 6, 5)
    alone, bad, huge = cell_intervals([scores(LOGS), broken, scores(LOGS * 1000)])
    assert alone == cell_intervals([scores(LOGS)])[0]
    assert bad == huge == {"geometric_interval": None, "mean_interval": None}
    assert cell_intervals([scores(LOGS[:1])])[0]["mean_interval"] is None
    assert cell_intervals([]) == []


def test_one_seed_has_no_interval_over_seeds() -> None:
    one, many = group_intervals([seeds(1, 0.1), seeds(4, 0.1)])
    assert one["mean_interval"] is not None
    assert one["mean_seeds_interval"] is None
    assert one["geometric_seeds_interval"] is None
    assert many["mean_seeds_interval"] is not None


def test_seeds_that_differ_widen_the_interval_over_seeds_only() -> None:
    calm, wild = group_intervals([seeds(3, 0.0), seeds(3, 0.4)])

    def width(limits: list[float] | None) -> float:
        assert limits is not None
        return math.log(limits[1] / limits[0])

    assert width(wild["geometric_seeds_interval"]) > 2 * width(wild["geometric_interval"])
    assert width(calm["geometric_seeds_interval"]) < 1.2 * width(calm["geometric_interval"])


def test_against_a_rival_rows_are_paired() -> None:
    """The rows' spread is 0.8, the pairs' 0.05: unpaired, a change of 5 % would be lost in it."""
    (better, same, nothing) = versus(
        [(seeds(3, 0.0, -0.05), [scores(LOGS)]), ([scores(LOGS)], [scores(LOGS)]), None]
    )
    assert nothing is None
    assert better is not None
    assert same is not None
    assert better["ratio"][0] == pytest.approx(math.exp(-0.05), rel=0.01)
    assert better["ratio"][2] < 1
    assert better["seeds_ratio"][0] == better["ratio"][0]
    assert better["p"] < 0.001
    assert same["ratio"] == same["mean_ratio"] == [1.0, 1.0, 1.0]
    assert same["seeds_ratio"] is None
    assert same["p"] == 1.0


def test_p_is_adjusted_for_all_comparisons() -> None:
    change = RNG.normal(0, 0.1, N)
    change += -change.mean() + 2.2 * change.std(ddof=1) / math.sqrt(N)
    pair = ([scores(LOGS + change)], [scores(LOGS)])
    null = ([scores(LOGS)], [scores(LOGS)])
    (alone,) = versus([pair])
    (first, *_) = versus([pair, *[null] * 9])
    assert alone is not None
    assert first is not None
    # scipy's t test, whose p differs little from a permutation test's on 60 rows
    assert alone["p"] == pytest.approx(stats.ttest_1samp(change, 0).pvalue, rel=0.2)
    assert first["p"] == pytest.approx(10 * alone["p"], rel=0.15)


def test_a_rival_that_is_not_finite_is_no_rival() -> None:
    broken = scores(LOGS)
    broken[0] = Likelihood("r0", math.inf, 10, 2, 6, 5)
    assert versus([([scores(LOGS)], [broken]), ([broken], [scores(LOGS)])]) == [None, None]


def test_what_a_standard_deviation_of_few_values_knows() -> None:
    # √(2 / χ²): χ² with 2 degrees of freedom has the quantiles −2 ln(1 − q)
    low, high = std_factors(3)
    assert low == pytest.approx(math.sqrt(1 / -math.log(0.025)))
    assert high == pytest.approx(math.sqrt(1 / -math.log(0.975)))
    assert (round(low, 2), round(high, 1)) == (0.52, 6.3)
