"""Intervals against scipy's BCa, against loops in plain Python, and by how often they cover."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from scipy import stats

from harness.statistics.intervals import (
    RESAMPLES,
    THIN,
    Array,
    Interval,
    Resamples,
    quantile,
    two_level,
)

SD_LOG = 0.86  # of perplexities over rows: skewed, as a benchmark's are


def skewed(n: int, columns: int, seed: int = 0) -> Array:
    """Log-normal rows around another mean in every column."""
    random = np.random.default_rng(seed)
    return np.exp(SD_LOG * random.normal(size=(n, columns)) + 0.3 * np.arange(columns))


def limits(found: Interval) -> tuple[float, float]:
    return found.low, found.high


def by_hand(
    draws: list[float], leaving_out: list[float], estimate: float, level: float
) -> tuple[float, float]:
    """Efron 1987 as loops over floats: quantiles of the draws at Φ(z0 + (z0 + z) / (1 − a(z0 + z)))."""
    normal = statistics.NormalDist()
    z0 = normal.inv_cdf(sum(draw < estimate for draw in draws) / len(draws))
    center = statistics.fmean(leaving_out)
    cubes = sum((center - value) ** 3 for value in leaving_out)
    squares = sum((center - value) ** 2 for value in leaving_out)
    a = cubes / (6 * squares**1.5)
    draws = sorted(draws)
    found = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        z = z0 + normal.inv_cdf(tail)
        place = normal.cdf(z0 + z / (1 - a * z)) * (len(draws) - 1)
        below = math.floor(place)
        found.append(draws[below] + (place - below) * (draws[below + 1] - draws[below]))
    return found[0], found[1]


# --- draws


def test_draws_are_rows_with_replacement() -> None:
    counts = np.concatenate(Resamples(20, 5_000, seed=3).counts)
    assert np.array_equal(counts.sum(axis=1), np.full(5_000, 20))
    # A row's count is binomial, 20 trials of 1/20: mean 1, variance 0.95. The tolerances are five
    # standard errors over 5,000 draws, and of the variance over all rows.
    assert counts.mean(axis=0) == pytest.approx(np.ones(20), abs=5 * math.sqrt(0.95 / 5_000))
    assert counts.var(axis=0).mean() == pytest.approx(0.95, abs=0.03)
    assert len({draw.tobytes() for draw in counts}) == 5_000


def test_equal_seeds_give_equal_results() -> None:
    rows = skewed(30, 2)
    first = Resamples(30, 999, seed=7).means(rows)
    assert Resamples(30, 999, seed=7).means(rows) == first
    assert Resamples(30, 999, seed=8).means(rows) != first


# --- BCa


@pytest.mark.parametrize("level", [0.95, 0.8])
@pytest.mark.parametrize("n", [5, 30, 250])
def test_means_are_those_of_scipy(n: int, level: float) -> None:
    # scipy.stats.bootstrap asks its generator for the same rows with the same call, so that the
    # limits agree to rounding; its jackknife leaves rows out one by one. Multiples of 1/1024 add
    # up exactly: of five rows, one draw in 26 ties with the estimate.
    rows = np.round(skewed(n, 3, seed=n) * 1024) / 1024
    found = Resamples(n, 1_999, seed=5).means(rows, level)
    for column, interval in zip(rows.T, found, strict=True):
        expected = stats.bootstrap(
            (column,),
            np.mean,
            n_resamples=1_999,
            confidence_level=level,
            method="BCa",
            rng=np.random.default_rng(5),
        ).confidence_interval
        assert interval.estimate == pytest.approx(statistics.fmean(column), rel=1e-12)
        assert limits(interval) == pytest.approx(tuple(expected), rel=1e-9)


@pytest.mark.parametrize("n", [5, 30, 250])
def test_ratios_are_those_of_scipy(n: int) -> None:
    bottom = np.round(skewed(n, 3, seed=n) * 1024) / 1024
    top = bottom * np.exp(np.random.default_rng(n).normal(0.1, 0.3, (n, 3)))
    top = np.round(top * 1024) / 1024
    found = Resamples(n, 1_999, seed=5).ratios(top, bottom)
    for over, under, interval in zip(top.T, bottom.T, found, strict=True):
        expected = stats.bootstrap(
            (over, under),
            lambda x, y, axis: x.mean(axis=axis) / y.mean(axis=axis),
            n_resamples=1_999,
            paired=True,
            vectorized=True,
            method="BCa",
            rng=np.random.default_rng(5),
        ).confidence_interval
        assert interval.estimate == pytest.approx(sum(over) / sum(under), rel=1e-12)
        assert limits(interval) == pytest.approx(tuple(expected), rel=1e-9)


def test_draws_of_scipys_own_give_the_same_interval() -> None:
    # scipy.stats.bootstrap with another seed. With so many draws, the upper limit's own error is
    # 0.7 % of the width (measured over 60 seeds); the other sign of the acceleration would move
    # it by 17 %, no bias by 5 %.
    (column,) = skewed(25, 1, seed=2).T
    (found,) = Resamples(25, 40_000, seed=1).means(column[:, None])
    expected = stats.bootstrap(
        (column,), np.mean, n_resamples=40_000, method="BCa", rng=np.random.default_rng(99)
    ).confidence_interval
    width = expected.high - expected.low
    assert limits(found) == pytest.approx(tuple(expected), abs=0.03 * width)


def test_the_formula_in_plain_python() -> None:
    # Loops over Python's floats, with the normal distribution of the standard library.
    rows = skewed(12, 2, seed=4)
    resamples = Resamples(12, 999, seed=6)
    column, other = rows[:, 0].tolist(), rows[:, 1].tolist()
    drawn = [
        [row for row, times in enumerate(draw) for _ in range(times)]
        for draw in np.concatenate(resamples.counts)
    ]

    def mean(chosen: list[int]) -> float:
        return statistics.fmean(column[row] for row in chosen)

    def ratio(chosen: list[int]) -> float:
        return sum(column[row] for row in chosen) / sum(other[row] for row in chosen)

    everything = list(range(12))
    for statistic, (found,) in (
        (mean, resamples.means(rows[:, :1], 0.9)),
        (ratio, resamples.ratios(rows[:, :1], rows[:, 1:], 0.9)),
    ):
        expected = by_hand(
            [statistic(draw) for draw in drawn],
            [statistic(everything[:row] + everything[row + 1 :]) for row in everything],
            statistic(everything),
            0.9,
        )
        assert limits(found) == pytest.approx(expected, rel=1e-9)


def test_a_draw_that_ties_with_the_estimate_counts_half() -> None:
    # scipy.stats.bootstrap, which counts half too: 0s and 1s in 16 rows, so that every mean is
    # exact, and one draw in five ties. Counted in full or not at all, they would move both limits.
    column = np.array([1.0] * 5 + [0.0] * 11)
    (found,) = Resamples(16, 1_999, seed=5).means(column[:, None])
    expected = stats.bootstrap(
        (column,), np.mean, n_resamples=1_999, method="BCa", rng=np.random.default_rng(5)
    ).confidence_interval
    assert limits(found) == pytest.approx(tuple(expected), rel=1e-12)


@pytest.mark.parametrize("factor", [0.1, 0.3, 0.7])
def test_ties_survive_rounding(factor: float) -> None:
    # Whole numbers add up exactly, their multiples do not: means that tie differ in the last bit.
    # One draw in seven ties with the estimate.
    whole = np.array([4.0] * 6 + [2.0] * 3 + [6.0] * 3)[:, None]
    (exact,) = Resamples(12, 1_999).means(whole)
    (found,) = Resamples(12, 1_999).means(whole * factor)
    assert limits(found) == pytest.approx((exact.low * factor, exact.high * factor), rel=1e-12)


def test_limits_follow_a_change_of_units_and_of_direction() -> None:
    # BCa respects monotone transformations; for straight lines that is exact. Turning the scale
    # round swaps the limits, and with them the signs of bias and acceleration.
    rows = skewed(40, 2)
    resamples = Resamples(40, 999)
    for plain, shifted, mirrored in zip(
        resamples.means(rows),
        resamples.means(3 * rows + 10),
        resamples.means(-rows),
        strict=True,
    ):
        assert limits(shifted) == pytest.approx((3 * plain.low + 10, 3 * plain.high + 10))
        assert limits(mirrored) == pytest.approx((-plain.high, -plain.low))


def test_the_exponential_of_an_interval_for_logs_is_that_of_the_geometric_mean() -> None:
    # scipy.stats.bootstrap of scipy.stats.gmean, on the same draws. The jackknife's acceleration
    # is not quite the same on both scales: 0.1 % of the width.
    column = skewed(100, 1)
    (found,) = Resamples(100, 4_999, seed=5).means(np.log(column))
    expected = stats.bootstrap(
        (column[:, 0],),
        stats.gmean,
        n_resamples=4_999,
        method="BCa",
        rng=np.random.default_rng(5),
    ).confidence_interval
    width = expected.high - expected.low
    transformed = (math.exp(found.low), math.exp(found.high))
    assert transformed == pytest.approx(tuple(expected), abs=0.003 * width)


def test_a_column_has_one_interval_whatever_stands_beside_it() -> None:
    rows = skewed(50, 5)
    resamples = Resamples(50, 999)
    together = resamples.means(rows)
    order = [3, 0, 4, 2, 1]
    shuffled = resamples.means(rows[:, order])
    over = resamples.ratios(rows, rows[:, ::-1])
    for column in range(5):
        expected = pytest.approx(limits(together[column]), rel=1e-12)
        assert limits(resamples.means(rows[:, [column]])[0]) == expected
        assert limits(shuffled[order.index(column)]) == expected
        (alone,) = resamples.ratios(rows[:, [column]], rows[:, [4 - column]])
        assert limits(over[column]) == pytest.approx(limits(alone), rel=1e-12)


def test_a_ratio_over_ones_is_a_mean() -> None:
    rows = skewed(50, 2)
    resamples = Resamples(50, 999)
    for mean, ratio in zip(
        resamples.means(rows), resamples.ratios(rows, np.ones_like(rows)), strict=True
    ):
        assert limits(ratio) == pytest.approx(limits(mean), rel=1e-12)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -0.3, 1e-9, 7.3e8])
def test_a_constant_column_has_no_width(value: float) -> None:
    rows = np.column_stack([np.full(250, value), skewed(250, 1)])
    with np.errstate(all="raise"):
        constant, other = Resamples(250, 999).means(rows)
    assert constant.low == constant.estimate == constant.high == pytest.approx(value, rel=1e-12)
    assert other.low < other.estimate < other.high


def test_a_constant_ratio_has_no_width() -> None:
    bottom = skewed(250, 2)
    found = Resamples(250, 999).ratios(bottom * np.array([1.0, 0.7]), bottom)
    for interval, expected in zip(found, (1.0, 0.7), strict=True):
        assert interval.low == interval.estimate == interval.high == pytest.approx(expected)


def test_limits_stay_within_the_rows() -> None:
    # Two rows, a table of few rows, and one row that is all there is.
    for rows in (skewed(2, 20), skewed(3, 20), np.eye(250)[:, :1]):
        for column, interval in zip(rows.T, Resamples(len(rows), 999).means(rows), strict=True):
            assert interval.low < interval.estimate < interval.high
            within = (interval.low - column.min(), column.max() - interval.high)
            assert min(within) >= -1e-12 * column.max()  # but for rounding


def test_draws_that_are_all_on_one_side_have_limits() -> None:
    # Four draws of three rows, of which one is far off: once in 130 times none has it, all are
    # below the estimate, and the bias would be infinite.
    rows = np.array([[0.0], [1.0], [100.0]])
    one_sided = 0
    for seed in range(1_000):
        resamples = Resamples(3, 4, seed)
        one_sided += bool((resamples.drawn_means(rows) < rows.mean()).all())
        (found,) = resamples.means(rows)
        assert 0 <= found.low <= found.high <= 100
    assert one_sided > 0


def test_more_confidence_is_a_wider_interval() -> None:
    rows = skewed(50, 1)
    resamples = Resamples(50)
    (narrow,), (usual,), (wide,) = (resamples.means(rows, level) for level in (0.8, 0.95, 0.99))
    assert wide.low < usual.low < narrow.low < narrow.high < usual.high < wide.high
    assert resamples.means(rows) == [usual]
    assert resamples.drawn_means(rows).shape == (RESAMPLES, 1) == (9_999, 1)


RUNS = 4_000


@pytest.mark.parametrize(
    ("scale", "truth", "measured"),
    [
        # Over 20,000 tables with 1,999 draws: 94.6 % (n = 30: 93.5, n = 1000: 94.9).
        ("log", 0.0, 0.946),
        # 93.6 %, of the misses 2.8 below and 3.6 above: known of bootstraps of skewed rows
        # (n = 30: 90.4, n = 1000: 94.4).
        ("plain", math.exp(SD_LOG**2 / 2), 0.936),
    ],
)
def test_coverage_of_means(scale: str, truth: float, measured: float) -> None:
    logs = np.random.default_rng(11).normal(0, SD_LOG, (250, RUNS))
    found = Resamples(250, 1_999, seed=12).means(logs if scale == "log" else np.exp(logs))
    covered = np.mean([interval.low <= truth <= interval.high for interval in found])
    assert covered == pytest.approx(measured, abs=3 * math.sqrt(0.06 * 0.94 / RUNS))


# --- seeds and rows

# Six targets rated by four judges, and the mean squares of its table of variance: 32.49 between
# judges with 3 degrees of freedom, 11.24 between targets, 1.02 of the residual (Shrout & Fleiss,
# Psychological Bulletin 86, 1979, tables 2 and 3). The judges stand for seeds.
JUDGES = np.array([[9, 6, 8, 7, 10, 6], [2, 1, 4, 1, 5, 2], [5, 3, 6, 2, 6, 4], [8, 2, 8, 6, 9, 7]])
T_3 = 3.1824  # Student's t, 3 degrees of freedom, 97.5 %: any table
T_3_OF_90 = 2.3534  # the same, 95 %


@pytest.mark.parametrize(("level", "t"), [(0.95, T_3), (0.9, T_3_OF_90)])
def test_a_published_table_of_variance(level: float, t: float) -> None:
    values = JUDGES.astype(float)
    # Rows whose own limits are 1.5 and 2.5 standard errors away.
    mean, error = values.mean(), math.sqrt(11.24 / 24)
    found = two_level(values, Interval(mean, mean - 1.5 * error, mean + 2.5 * error), level)
    seeds, rows = 32.49, 11.24 - 1.02
    assert found.estimate == mean
    for limit, own in ((mean - found.low, 1.5), (found.high - mean, 2.5)):
        weighted = (seeds * t + rows * own) / (seeds + rows)
        assert limit == pytest.approx(weighted * math.sqrt((seeds + rows) / 24), rel=5e-4)


def mean_squares(values: Array) -> tuple[float, float, float]:
    """Of seeds, rows and residual: by least squares, from how much worse smaller models fit."""
    seeds, n = values.shape
    of_seed = np.kron(np.eye(seeds), np.ones((n, 1)))
    of_row = np.kron(np.ones((seeds, 1)), np.eye(n))

    def left(design: Array) -> float:
        fitted = design @ np.linalg.lstsq(design, values.ravel(), rcond=None)[0]
        return float(((values.ravel() - fitted) ** 2).sum())

    full = left(np.hstack([of_seed, of_row]))
    return (
        (left(of_row) - full) / (seeds - 1),
        (left(of_seed) - full) / (n - 1),
        full / ((seeds - 1) * (n - 1)),
    )


@pytest.mark.parametrize(("seeds", "n"), [(2, 2), (2, 30), (3, 25), (10, 8)])
def test_the_formula_from_least_squares(seeds: int, n: int) -> None:
    random = np.random.default_rng(seeds)
    values = random.normal(size=(seeds, 1)) / 4 + random.normal(size=n) * 2
    values += random.normal(size=(seeds, n)) / 2
    (rows,) = Resamples(n, 999).means(values.mean(axis=0)[:, None])
    found = two_level(values, rows)
    between_seeds, between_rows, residual = mean_squares(values)
    assert between_rows > residual
    t = stats.t.ppf(0.975, seeds - 1)
    total = between_seeds + between_rows - residual
    standard_error = values.mean(axis=0).std(ddof=1) / math.sqrt(n)
    for limit, own in (
        (found.estimate - found.low, rows.estimate - rows.low),
        (found.high - found.estimate, rows.high - rows.estimate),
    ):
        of_rows = (between_rows - residual) * own / standard_error
        expected = (between_seeds * t + of_rows) / total * math.sqrt(total / (seeds * n))
        assert limit == pytest.approx(expected, rel=1e-9)


def test_seeds_that_agree_leave_the_interval_over_rows() -> None:
    column = np.log(skewed(30, 1))
    (rows,) = Resamples(30, 999).means(column)
    found = two_level(np.repeat(column.T, 3, axis=0), rows)
    assert limits(found) == pytest.approx(limits(rows), rel=1e-12)


@pytest.mark.parametrize("level", [0.95, 0.9])
def test_rows_that_agree_leave_students_interval_over_seeds(level: float) -> None:
    # scipy.stats.ttest_1samp over the seeds' values.
    of_seeds = np.array([9.1, 9.5, 8.7])
    found = two_level(np.tile(of_seeds[:, None], 40), Interval(9.1, 9.1, 9.1), level)
    expected = stats.ttest_1samp(of_seeds, 0).confidence_interval(level)
    assert limits(found) == pytest.approx(tuple(expected), rel=1e-9)


def test_rows_that_differ_less_than_their_error_count_nothing() -> None:
    # MS_rows < MS_error: no variance is negative. What is left is Student's interval over the
    # seeds' means (scipy.stats.ttest_1samp).
    values = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.5], [4.0, 5.0, 4.5]])
    _, between_rows, residual = mean_squares(values)
    assert between_rows < residual
    mean = float(values.mean())
    found = two_level(values, Interval(mean, mean - 0.1, mean + 0.2))
    expected = stats.ttest_1samp(values.mean(axis=1), 0).confidence_interval(0.95)
    assert limits(found) == pytest.approx(tuple(expected), rel=1e-9)


def test_values_that_are_all_alike_leave_the_interval_over_rows() -> None:
    rows = Interval(2.0, 2.0, 2.0)
    assert two_level(np.full((3, 5), 2.0), rows) == rows


def test_the_order_of_seeds_and_rows_is_nothing_to_an_interval() -> None:
    values = np.random.default_rng(2).normal(size=(4, 9)) + np.arange(9)
    rows = Interval(float(values.mean()), 3.0, 6.0)
    found = two_level(values, rows)
    assert limits(two_level(values[::-1, ::-1], rows)) == pytest.approx(limits(found), rel=1e-12)


def test_three_seeds_are_less_certain_than_a_bootstrap_of_them_says() -> None:
    # scipy.stats.bootstrap of the three means never leaves their range, which has the true mean in
    # it three times in four.
    random = np.random.default_rng(3)
    values = random.normal(0, 0.2, (3, 1)) + random.normal(0, 0.1, 60)
    values += random.normal(0, 0.05, (3, 60))
    (rows,) = Resamples(60, 999).means(values.mean(axis=0)[:, None])
    found = two_level(values, rows)
    naive = stats.bootstrap(
        (values.mean(axis=1),),
        np.mean,
        method="percentile",
        n_resamples=999,
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert found.low < naive.low < naive.high < found.high
    assert found.high - found.low > 2 * (naive.high - naive.low)


TABLES = 2_000


@pytest.mark.parametrize(
    ("seeds", "sd_seed", "sd_row", "sd_error", "measured"),
    [
        # Measured over 10,000 tables of 250 rows with 1,999 draws (standard error 0.2 %): nominal
        # where one part decides, up to 97.6 % where both do, and 94.0 % at the least, for two
        # seeds that decide nearly alone.
        (2, 0.0, SD_LOG, 0.15, 0.958),
        (2, 0.05, SD_LOG, 0.15, 0.976),
        (2, 0.5, SD_LOG, 0.15, 0.940),
        (2, 0.05, 0.0, 0.15, 0.947),
        (3, 0.0, SD_LOG, 0.15, 0.952),
        (3, 0.05, SD_LOG, 0.15, 0.968),
        (3, 0.0, SD_LOG, 0.8, 0.971),
        (3, 0.5, SD_LOG, 0.15, 0.952),
        (5, 0.1, SD_LOG, 0.15, 0.961),
        (5, 0.05, 0.05, 0.5, 0.955),
        (10, 0.02, SD_LOG, 0.15, 0.948),
        (10, 0.1, SD_LOG, 0.15, 0.955),
    ],
)
def test_coverage_over_seeds_and_rows(
    seeds: int, sd_seed: float, sd_row: float, sd_error: float, measured: float
) -> None:
    random = np.random.default_rng(21)
    values = sd_error * random.standard_normal((TABLES, seeds, 250))
    values += sd_seed * random.standard_normal((TABLES, seeds, 1))
    values += sd_row * random.standard_normal((TABLES, 1, 250))
    rows = Resamples(250, 999, seed=22).means(values.mean(axis=1).T)
    found = [two_level(table, over) for table, over in zip(values, rows, strict=True)]
    covered = np.mean([interval.low <= 0 <= interval.high for interval in found])
    error = math.sqrt(measured * (1 - measured) / TABLES)
    assert covered == pytest.approx(measured, abs=3.3 * error)


@pytest.mark.parametrize("n", [1, 2, 3, 50, 999, 40_000])
@pytest.mark.parametrize("kind", ["normal", "skewed", "ties"])
def test_a_quantile_is_numpys(n: int, kind: str) -> None:
    random = np.random.default_rng(n)
    values = random.normal(size=n)
    if kind == "skewed":  # its thinned values do not look like the rest: the smallest come last
        values = np.sort(np.exp(3 * values))[::-1].copy()
    if kind == "ties":
        values = values.round(1)
    shares = [0, 1e-6, 2.5e-5, 0.001, 0.025, 0.3, 0.5, 0.7, 0.975, 0.9999, 1 - 1e-6, 1]
    found = [quantile(values, share) for share in shares]
    assert found == pytest.approx(np.quantile(values, shares), rel=1e-9, abs=1e-12)


def test_a_quantile_near_the_end_is_found_where_the_thinned_values_mislead() -> None:
    values = np.full(40_000, -1.0)
    values[::THIN] = np.arange(2_500)  # none of them is as small as the rest
    values[1] = -5.0
    assert quantile(values, 0.0) == -5.0
    assert quantile(values, 1e-4) == np.quantile(values, 1e-4) == -1.0
    values[::THIN] = -9.0 - np.arange(2_500)  # all of them are smaller than the rest
    assert quantile(values, 1e-3) == pytest.approx(np.quantile(values, 1e-3))
