"""Cells compared as one family, each by the direction of its metric."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from scipy import stats

from harness.metrics.base import Array, Metric
from harness.metrics.perplexity import Perplexity
from harness.statistics.family import Pair, compare_family

N = 12
RNG = np.random.default_rng(2)
BEFORE = RNG.normal(0.5, 0.1, N)
CHANGE = RNG.normal(-0.02, 0.05, N)


class Likely(Metric):
    name = "likely"
    title = "likelihood"
    better = "higher"
    definition: ClassVar = {"likely": "likelihood"}


def by_scipy(differences: Array) -> float:
    """The share of all 2¹² sign flips whose mean is at least as large."""
    found = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=2**N,
        alternative="greater",
    )  # fmt: skip
    return float(found.pvalue)


def test_a_fall_is_worse_where_higher_is_better() -> None:
    pair = Pair(Likely(), BEFORE, BEFORE + CHANGE)
    (found,) = compare_family([pair], [str(i) for i in range(N)], 0.01)
    assert found.p_worse == pytest.approx(by_scipy(-CHANGE), abs=1e-9)
    assert found.p_worse < 0.05
    assert found.p_better == 1
    assert found.effect.estimate == pytest.approx(CHANGE.mean())
    assert found.drivers[0][0] == str(int(CHANGE.argmin()))
    assert found.drivers[0][1] == pytest.approx(-CHANGE.min() / N)


def test_a_fall_is_better_where_lower_is() -> None:
    pair = Pair(Perplexity(), BEFORE, BEFORE + CHANGE)
    (found,) = compare_family([pair], [str(i) for i in range(N)], 0.01)
    assert found.p_better == pytest.approx(by_scipy(-CHANGE), abs=1e-9)
    assert found.effect.estimate == pytest.approx(np.exp(CHANGE.mean()) - 1)
