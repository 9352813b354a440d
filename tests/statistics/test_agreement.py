"""Agreement against published worked examples, and against the formulas in plain Python."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from harness.statistics.agreement import (
    agreement,
    auc,
    bootstrapped,
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
