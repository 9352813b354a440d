"""Paired tests against every flip there is, Fisher's own example, closed testing and statsmodels."""

from __future__ import annotations

import math
from itertools import chain, combinations, product
from typing import Literal

import numpy as np
import pytest
from scipy import integrate, stats

from harness.statistics.intervals import Array
from harness.statistics.paired import (
    ALPHA,
    MAX_ROWS,
    POWER,
    detectable,
    fewest_rows,
    holm,
    permutation_p,
    power,
    resamples_for,
    rows_needed,
)

Alternative = Literal["greater", "less", "two-sided"]
ALTERNATIVES: tuple[Alternative, ...] = ("greater", "less", "two-sided")

# Heights of 15 pairs of Zea mays, crossed less self-fertilized, in eighths of an inch (Darwin 1876).
# Fisher, The Design of Experiments, 1935, section 21: of the 2^15 sums that the signs can make, 863
# are as large as theirs.
DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
ONE_SIDED = 863 / 2**15


def every_flip(differences: list[int], alternative: Alternative) -> float:
    """The exact p-value of whole numbers: all signs, counted one by one."""
    sums = [
        sum(sign * value for sign, value in zip(signs, differences, strict=True))
        for signs in product((1, -1), repeat=len(differences))
    ]
    above = sum(value >= sum(differences) for value in sums) / len(sums)
    below = sum(value <= sum(differences) for value in sums) / len(sums)
    return {"greater": above, "less": below, "two-sided": min(1, 2 * min(above, below))}[
        alternative
    ]


def shifted(n: int, columns: int, mean: float = 0.0, seed: int = 0) -> Array:
    """Normal differences of standard deviation 1."""
    return np.random.default_rng(seed).normal(mean, 1, (n, columns))


# --- permutation test


def test_fishers_example() -> None:
    # A family so large that the flips asked for are more than there are: the test is exact.
    family = 164
    assert resamples_for(family - 1) < 2**15 <= resamples_for(family)
    column = np.array(DARWIN, float)[:, None]
    assert permutation_p(column, family).tolist() == [ONE_SIDED]
    assert permutation_p(-column, family, "less").tolist() == [ONE_SIDED]
    assert permutation_p(column, family, "two-sided").tolist() == [2 * ONE_SIDED]
    assert permutation_p(column, family, "less").tolist() == [every_flip(DARWIN, "less")]
    # The same as one of so many columns, and when so many flips are asked for.
    assert permutation_p(np.repeat(column, family, axis=1)).tolist() == [ONE_SIDED] * family
    assert permutation_p(column, resamples=2**15).tolist() == [ONE_SIDED]


def test_fishers_example_by_chance() -> None:
    # 9,999 flips at random, and the observed signs: a whole number of 10,000ths, within four
    # standard errors of Fisher's.
    (p,) = permutation_p(np.array(DARWIN, float)[:, None])
    assert p * 10_000 == pytest.approx(round(p * 10_000), abs=1e-6)
    assert p == pytest.approx(ONE_SIDED, abs=4 * math.sqrt(ONE_SIDED * (1 - ONE_SIDED) / 9_999))


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("n", [2, 3, 5, 8, 11])
def test_few_rows_are_exact(n: int, alternative: Alternative) -> None:
    # Every flip in plain Python. Small whole numbers, so that many sums tie with the observed one.
    table = np.random.default_rng(n).integers(-3, 5, (n, 4))
    expected = [every_flip(column.tolist(), alternative) for column in table.T]
    assert permutation_p(table.astype(float), alternative=alternative).tolist() == expected


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("factor", [0.1, 0.3, 0.7])
def test_ties_survive_rounding(factor: float, alternative: Alternative) -> None:
    # Sums of whole numbers that tie differ in the last bit when their multiples are added up.
    column = [3, -1, 2, 2, -1, 3, 1, 4]
    table = np.array(column)[:, None] * factor
    found = permutation_p(table, alternative=alternative)
    assert found.tolist() == [every_flip(column, alternative)]


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("n", [10, 40])
def test_every_column_gets_the_p_of_scipy(n: int, alternative: Alternative) -> None:
    # scipy.stats.permutation_test of the differences themselves, one column at a time.
    table = shifted(n, 3, 0.2, seed=n)
    expected = [
        stats.permutation_test(
            (column,),
            np.mean,
            permutation_type="samples",
            n_resamples=9_999,
            batch=4_096,
            alternative=alternative,
            rng=np.random.default_rng(4),
        ).pvalue
        for column in table.T
    ]
    found = permutation_p(table, alternative=alternative, seed=4)
    assert found.tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_many_rows_agree_with_students_test(alternative: Alternative) -> None:
    # scipy.stats.ttest_1samp, within four standard errors of 9,999 flips.
    table = shifted(250, 20, 0.08)
    expected = stats.ttest_1samp(table, 0, alternative=alternative).pvalue
    error = np.sqrt(expected * (1 - expected) / 9_999)
    tails = 2 if alternative == "two-sided" else 1
    found = permutation_p(table, alternative=alternative)
    assert (np.abs(found - expected) < 4 * tails * error + 1e-3).all()


def test_a_rise_is_what_greater_finds() -> None:
    table = np.abs(shifted(30, 1))
    assert permutation_p(table)[0] < 0.001
    assert permutation_p(-table)[0] == 1
    assert permutation_p(-table, alternative="less") == permutation_p(table)


@pytest.mark.parametrize(
    ("columns", "comparisons", "resamples", "flips"),
    [(1, None, None, 9_999), (200, None, None, 39_999), (2, 200, None, 39_999), (2, 200, 499, 499)],
)
def test_p_is_never_zero(
    columns: int, comparisons: int | None, resamples: int | None, flips: int
) -> None:
    # No flip of 250 equal differences comes near: only the observed one counts.
    table = np.ones((250, columns))
    for alternative, tails in (("greater", 1), ("two-sided", 2)):
        found = permutation_p(table, comparisons, alternative, resamples=resamples)
        assert found.tolist() == pytest.approx([tails / (flips + 1)] * columns, rel=1e-12)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("n", [0, 1, 2, 5, 250])
def test_identical_scores_have_a_p_of_one(n: int, alternative: Alternative) -> None:
    assert permutation_p(np.zeros((n, 3)), alternative=alternative).tolist() == [1, 1, 1]


def test_one_row_proves_nothing() -> None:
    assert permutation_p(np.array([[5.0, -5.0]])).tolist() == [1, 1]


def test_no_comparisons() -> None:
    assert permutation_p(np.zeros((5, 0))).tolist() == []
    assert holm([]) == []


def test_a_column_has_one_p_whatever_stands_beside_it() -> None:
    table = shifted(60, 5, 0.15)
    together = permutation_p(table)
    order = [3, 0, 4, 2, 1]
    assert permutation_p(table[:, order]).tolist() == together[order].tolist()
    for column in range(5):
        assert permutation_p(table[:, [column]]).tolist() == [together[column]]
    # Of a large family too, where only some of it is asked for.
    whole = permutation_p(table, 100)
    assert permutation_p(table[:, [2, 4]], 100).tolist() == whole[[2, 4]].tolist()
    assert whole.tolist() != together.tolist()


def test_flips_are_shared() -> None:
    # A column, the same in other units, and the same once more: one p, to the last flip.
    column = shifted(60, 1, 0.15)
    p = permutation_p(np.hstack([column, 3 * column, column]))
    assert p[0] == p[1] == p[2]


def test_equal_seeds_give_equal_p() -> None:
    table = shifted(60, 3, 0.15)
    assert permutation_p(table, seed=1).tolist() == permutation_p(table, seed=1).tolist()
    assert permutation_p(table, seed=1).tolist() != permutation_p(table, seed=2).tolist()


def test_p_holds_its_level() -> None:
    # 1,000 null comparisons of 12 rows, heavy-tailed and symmetric about 0:
    # every flip is tried, so that P(p ≤ α) is α to within 1/4096. Four standard errors.
    random = np.random.default_rng(1)
    table = random.standard_t(3, (12, 1_000))
    for alternative in ALTERNATIVES:
        p = permutation_p(table, alternative=alternative)
        for level in (0.05, 0.2):
            error = math.sqrt(level * (1 - level) / 1_000)
            assert np.mean(p <= level) == pytest.approx(level, abs=4 * error)


# --- families


def test_any_family_can_reject() -> None:
    # The smallest p there is, times the number of comparisons, stays at a tenth of α.
    for comparisons in (1, 50, 51, 500, 501, 10_000):
        assert comparisons / (resamples_for(comparisons) + 1) <= ALPHA / 10
    assert [resamples_for(count) for count in (1, 50, 500)] == [9_999, 9_999, 99_999]


def test_one_rise_among_five_hundred_is_found() -> None:
    # 17 rows: few, but more than 99,999 flips could try out. In parts of 50, to save memory.
    table = shifted(17, 500, seed=6)
    table[:, 123] = 1
    p = np.concatenate([permutation_p(part, 500) for part in np.split(table, 10, axis=1)])
    adjusted = holm(p.tolist())
    assert adjusted[123] < ALPHA
    assert min(adjusted[:123] + adjusted[124:]) > ALPHA


# Benjamini & Hochberg, J. R. Statist. Soc. B 57, 1995, section 4.1: 15 p-values, of which the
# procedures of Bonferroni and Hochberg, and so that of Holm between them, reject three.
HEART = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459]
HEART += [0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.000]


def test_a_published_family() -> None:
    adjusted = holm(HEART)
    assert sum(p <= ALPHA for p in adjusted) == 3
    # statsmodels 0.15.0, multipletests(method="holm"). The seventh and eighth are below the sixth
    # before they are made monotone (9 · 0.0298 and 8 · 0.0344).
    assert adjusted[:9] == pytest.approx(
        [0.0015, 0.0056, 0.0247, 0.114, 0.2211, 0.278, 0.278, 0.278, 0.3213]
    )
    assert adjusted[9:] == [1] * 6


def test_holm_is_closed_testing() -> None:
    # Marcus, Peritz & Gabriel 1976: a hypothesis falls when every set that holds it does, here
    # each set by Bonferroni. All sets of seven, ties among them, tried out.
    random = np.random.default_rng(5)
    for _ in range(20):
        p = np.round(random.uniform(0, 0.3, 7), 2).tolist()
        sets = chain.from_iterable(combinations(range(7), size) for size in range(1, 8))
        expected = [0.0] * 7
        for members in sets:
            whole = min(1.0, len(members) * min(p[member] for member in members))
            for member in members:
                expected[member] = max(expected[member], whole)
        assert holm(p) == pytest.approx(expected)


def test_holm_keeps_the_order_of_its_arguments() -> None:
    order = np.random.default_rng(0).permutation(len(HEART))
    in_order = holm(HEART)
    assert holm([HEART[index] for index in order]) == [in_order[index] for index in order]


def test_holm_of_one_is_itself() -> None:
    assert holm([0.03]) == [0.03]


# --- power


@pytest.mark.parametrize(
    ("n", "comparisons", "expected"),
    [
        # statsmodels 0.15.0, TTestPower().solve_power(nobs=n, alpha=0.05 / comparisons,
        # power=0.8, alternative="larger")
        (5, 1, 1.35942),
        (10, 1, 0.85284),
        (30, 1, 0.46495),
        (30, 10, 0.66221),
        (250, 1, 0.15769),
        (250, 6, 0.20582),
        (250, 500, 0.29250),
        (2000, 3, 0.06644),
    ],
)
def test_detectable_is_that_of_statsmodels(n: int, comparisons: int, expected: float) -> None:
    assert detectable(n, comparisons) == pytest.approx(expected, rel=1e-4)


def by_quadrature(effect: float, n: int, comparisons: int) -> float:
    """P(Z + δ√n > c·s) by quadrature over s = √(χ²/ν), with no noncentral distribution."""
    freedom = n - 1
    critical = stats.t.isf(0.05 / comparisons, freedom)
    return integrate.quad(
        lambda s: (
            stats.norm.cdf(effect * math.sqrt(n) - critical * s)
            * stats.chi2.pdf(freedom * s * s, freedom)
            * 2
            * freedom
            * s
        ),
        max(0, 1 - 12 / math.sqrt(2 * freedom)),
        1 + 12 / math.sqrt(2 * freedom),
        limit=200,
    )[0]


@pytest.mark.parametrize("comparisons", [1, 10, 500])
@pytest.mark.parametrize("n", [14, 30, 250, 100_000])
def test_what_is_detectable_has_four_chances_in_five(n: int, comparisons: int) -> None:
    effect = detectable(n, comparisons)
    assert by_quadrature(effect, n, comparisons) == pytest.approx(0.8, abs=1e-6)
    assert power(0, n, comparisons) == pytest.approx(0.05 / comparisons)
    for part in (0.3, 1.2):
        expected = by_quadrature(part * effect, n, comparisons)
        assert power(part * effect, n, comparisons) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("comparisons", [1, 3, 20, 500])
def test_fewer_rows_than_flips_can_make_rare_detect_nothing(comparisons: int) -> None:
    # All rows rose alike: p is 2⁻ⁿ, the smallest there is, and Holm takes it times the family.
    fewest = fewest_rows(comparisons)
    assert comparisons * 2.0**-fewest < ALPHA <= comparisons * 2.0 ** (1 - fewest)
    risen = np.ones((fewest, 1))
    assert comparisons * permutation_p(risen, comparisons)[0] < ALPHA
    assert comparisons * permutation_p(risen[1:], comparisons)[0] >= ALPHA
    assert detectable(fewest - 1, comparisons) == math.inf
    assert power(100.0, fewest - 1, comparisons) == 0.0
    assert math.isfinite(detectable(fewest, comparisons))


def test_something_is_detectable_with_any_number_of_rows() -> None:
    # √n·δ on the way to 80 % is beyond what a noncentral t can be computed for where n is large:
    # scipy.special.nctdtr is nan there, here and there from 1,390 rows on. Against the normal
    # approximation (1.6449 + 0.8416) / √n, which is 0.1 % short at so many rows.
    for n in range(1_380, 2_600, 10):
        assert detectable(n, 1) * math.sqrt(n) == pytest.approx(2.4865, rel=2e-3)


def test_the_permutation_test_has_the_power_that_is_computed() -> None:
    # 2,000 comparisons of 30 rows at the effect that the t test finds in 80 %; measured: 79.9 %.
    # In parts of 50, for which 9,999 flips are drawn.
    table = shifted(30, 2_000, detectable(30, 1), seed=8)
    p = np.concatenate([permutation_p(part) for part in np.split(table, 40, axis=1)])
    assert np.mean(p <= ALPHA) == pytest.approx(POWER, abs=4 * math.sqrt(0.8 * 0.2 / 2_000))


def test_more_rows_detect_less_and_more_comparisons_more() -> None:
    assert [detectable(n, 1) for n in (0, 1)] == [math.inf, math.inf]
    by_rows = [detectable(n, 6) for n in (7, 8, 10, 100, 1_000)]
    assert by_rows == sorted(by_rows, reverse=True)
    by_family = [detectable(100, comparisons) for comparisons in (1, 2, 10, 500)]
    assert by_family == sorted(by_family)
    assert len(set(by_rows)) == 5
    assert len(set(by_family)) == 4


@pytest.mark.parametrize(
    ("sd", "rise", "comparisons", "expected"),
    [
        # statsmodels 0.15.0, TTestPower().solve_power(effect_size=log1p(rise) / sd,
        # alpha=0.05 / comparisons, power=0.8, alternative="larger"), rounded up from
        (0.15, 0.01, 1, 1407),  # 1406.35
        (0.15, 0.01, 6, 2382),  # 2381.99
        (0.15, 0.01, 500, 4734),  # 4733.62
        (0.30, 0.02, 10, 2684),  # 2683.73
        (0.86, 0.01, 1, 46186),  # 46185.19
        (0.15, 0.10, 1, 17),  # 16.75
        (0.05, 0.05, 1, 9),  # 8.03
    ],
)
def test_rows_needed_are_those_of_statsmodels(
    sd: float, rise: float, comparisons: int, expected: int
) -> None:
    assert rows_needed(sd, math.log1p(rise), comparisons) == expected


@pytest.mark.parametrize("comparisons", [1, 20])
@pytest.mark.parametrize("sd", [0.02, 0.1, 0.4])
def test_rows_needed_are_the_fewest(sd: float, comparisons: int) -> None:
    n = rows_needed(sd, math.log(1.05), comparisons)
    assert n is not None
    effect = math.log(1.05) / sd
    assert by_quadrature(effect, n, comparisons) >= 0.8
    assert n == fewest_rows(comparisons) or by_quadrature(effect, n - 1, comparisons) < 0.8


def test_rows_nobody_has() -> None:
    # By the normal approximation, (1.6449 + 0.8416)² = 6.18 rows at a standardized effect of 1:
    # 7.6 million at 0.0009, 12.4 million at 0.000706.
    found = rows_needed(1.0, 0.0009, 1)
    assert found == pytest.approx(6.1826 / 0.0009**2, rel=1e-4)
    assert rows_needed(1.0, 0.000706, 1) is None
    assert MAX_ROWS == 10_000_000
    assert rows_needed(1.0, 1e-9, 1) is None
    # In a family of 500 (3.7190 + 0.8416)² = 20.8: 9.3 million at 0.0015, 10.6 at 0.0014.
    assert rows_needed(1.0, 0.0015, 500) == pytest.approx(20.799 / 0.0015**2, rel=2e-3)
    assert rows_needed(1.0, 0.0014, 500) is None
    with np.errstate(all="raise"):
        assert rows_needed(1.0, 0.0, 1) is None


def test_differences_without_spread_need_as_many_rows_as_flips_do() -> None:
    # 2⁻⁵ is below 0.05; 20 · 2⁻⁹ too
    assert rows_needed(0.0, 0.01, 1) == 5
    assert rows_needed(0.0, 0.01, 20) == 9
