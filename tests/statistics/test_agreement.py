"""Agreement against published worked examples, and against the formulas in plain Python."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from harness.statistics.agreement import (
    agreement,
    alpha,
    auc,
    bootstrapped,
    kappa,
    krippendorff_alpha,
    paired_auc,
    spearman,
    weighted_kappa,
)

NAN = np.nan
# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C: four observers,
# twelve units, values missing; he gives 0.743 nominal, 0.815 ordinal, 0.849 interval.
FOUR = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
)


@pytest.mark.parametrize(
    ("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_alpha_is_the_published_one(level: str, published: float) -> None:
    found = krippendorff_alpha(FOUR, level)  # type: ignore[arg-type]
    assert round(found, 3) == published


def test_kappa_by_its_definition() -> None:
    rng = random.Random(0)
    one = [rng.randrange(6) for _ in range(60)]
    other = [min(5, max(0, x + rng.choice((-2, -1, 0, 0, 0, 1)))) for x in one]
    for weights, power in (("linear", 1), ("quadratic", 2)):
        observed = sum(abs(a - b) ** power for a, b in zip(one, other, strict=True)) / 60
        expected = sum(abs(a - b) ** power for a in one for b in other) / 3600
        found = weighted_kappa(np.array(one, float), np.array(other, float), weights)
        assert found == pytest.approx(1 - observed / expected)


def test_kappa_of_cohens_table() -> None:
    # Cohen 1960, table 1: 0.25+… shares of three categories; κ = 0.492
    table = [[0.44, 0.07, 0.09], [0.05, 0.20, 0.05], [0.01, 0.03, 0.06]]
    pairs = [
        (i, j) for i, row in enumerate(table) for j, share in enumerate(row) for _ in range(round(100 * share))
    ]  # fmt: skip
    one, other = (np.array(side, float) for side in zip(*pairs, strict=True))
    observed = sum(table[i][i] for i in range(3))
    expected = sum(sum(table[i]) * sum(row[i] for row in table) for i in range(3))
    found = weighted_kappa(one, other, "nominal")
    assert found == pytest.approx((observed - expected) / (1 - expected))


# Two judges of fifteen rows. κ by scikit-learn 1.9.1 (cohen_kappa_score), α by krippendorff 0.9.0.
ONE = np.array([0, 1, 2, 3, 4, 5, 3, 2, 2, 4, 5, 1, 0, 3, 3.0])
OTHER = np.array([0, 1, 2, 3, 5, 5, 2, 2, 3, 4, 4, 1, 2, 3, 1.0])
KAPPAS = {"nominal": 0.5135135135, "linear": 0.6858638743, "quadratic": 0.8221343874}
ALPHAS = {"nominal": 0.5271739130, "ordinal": 0.8222171007, "interval": 0.8280632411}


@pytest.mark.parametrize("weights", KAPPAS)
def test_kappa_is_scikit_learns(weights: str) -> None:
    assert weighted_kappa(ONE, OTHER, weights) == pytest.approx(KAPPAS[weights], abs=1e-9)
    assert kappa(ONE, OTHER, weights).estimate == pytest.approx(KAPPAS[weights], abs=1e-9)


@pytest.mark.parametrize("level", ALPHAS)
def test_alpha_is_krippendorffs(level: str) -> None:
    both = np.stack([ONE, OTHER])
    assert krippendorff_alpha(both, level) == pytest.approx(ALPHAS[level], abs=1e-9)  # type: ignore[arg-type]
    assert alpha(ONE, OTHER, level).estimate == pytest.approx(ALPHAS[level], abs=1e-9)  # type: ignore[arg-type]


def test_intervals_of_kappa_and_alpha_are_scipys() -> None:
    """The tables' bootstrap against scipy's BCa of the plain functions, on draws of its own."""
    from scipy.stats import bootstrap

    rng = np.random.default_rng(5)
    one = rng.integers(0, 6, 80).astype(float)
    other = np.clip(one + rng.integers(-2, 3, 80), 0, 5)
    for ours, plain in (
        (kappa(one, other), weighted_kappa),
        (
            alpha(one, other, "ordinal"),
            lambda a, b: krippendorff_alpha(np.stack([a, b]), "ordinal"),
        ),
    ):
        theirs = bootstrap(
            (one, other), plain, paired=True, vectorized=False, n_resamples=1500,
            rng=np.random.default_rng(6),
        ).confidence_interval  # fmt: skip
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.015)


def test_judges_that_say_one_thing_have_no_kappa() -> None:
    assert np.isnan(kappa(np.ones(5), np.ones(5)).estimate)
    assert np.isnan(alpha(np.ones(5), np.ones(5)).low)
    assert kappa(np.ones(6), np.arange(6.0)).estimate == 0  # one that says one thing only
    assert kappa(np.ones(6), np.arange(6.0)).high == 0


def test_auc_counts_pairs_and_half_of_ties() -> None:
    higher, lower = [3.0, 1.0, 2.0], [1.0, 2.0]
    pairs = list(itertools.product(higher, lower))
    expected = sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)
    assert auc(np.array(higher), np.array(lower)) == pytest.approx(expected)


def test_spearman_is_scipys() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(1)
    one = rng.integers(0, 6, 40).astype(float)
    other = one + rng.normal(0, 2, 40)
    assert spearman(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert np.isnan(spearman(np.ones(5), np.arange(5.0)))


def test_rows_without_both_verdicts_are_left_out() -> None:
    one, other = np.array([1, 2, NAN, 3.0]), np.array([1, 3, 3, NAN])
    assert agreement(one, other).estimate == 0.5
    assert paired_auc(np.array([2, 1, NAN]), np.array([1, 1, 0.0])).estimate == 0.75
    with pytest.raises(ValueError, match="1 rows have both verdicts; two are needed"):
        agreement(one[1:3], other[1:3])


def test_a_bootstrapped_interval_holds_the_estimate_and_repeats() -> None:
    rng = np.random.default_rng(2)
    one = rng.integers(0, 6, 80).astype(float)
    other = np.clip(one + rng.integers(-1, 2, 80), 0, 5)
    found = bootstrapped(weighted_kappa, one, other)
    assert found.low < found.estimate < found.high
    assert found == bootstrapped(weighted_kappa, one, other)
    assert found.high - found.low < 0.2
