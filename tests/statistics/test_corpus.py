"""Statistics of corpus metrics: against sacrebleu, against all exchanges, against means."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
import sacrebleu

from harness.core import Example
from harness.metrics.base import Array, Metric
from harness.metrics.bleu import Bleu
from harness.metrics.chrf import Chrf
from harness.metrics.corpus import CorpusMetric
from harness.records import Answer
from harness.statistics.corpus import (
    difference_interval,
    exchange_p,
    row_values,
    value_interval,
)
from harness.statistics.family import Pair, compare_family, compare_values
from harness.statistics.intervals import Resamples, two_level
from harness.statistics.paired import holm
from harness.statistics.uncertainty import Bounds, cell_bounds, compare_groups, group_bounds
from tests.builders.answers import answer, answered, rows

N = 64
ROWS = rows(N)
METRICS: tuple[CorpusMetric, ...] = (Bleu(), Chrf())


def sums(metric: CorpusMetric, seen: Sequence[Answer], examples: Sequence[Example] = ROWS) -> Array:
    found = metric.read(seen, examples).sums
    assert found is not None
    return found


def differing(metric: CorpusMetric, count: int) -> tuple[Array, Array]:
    """Two systems that differ in so many rows, where the second's answers are worse."""
    good = answered(ROWS, 0.8, seed=1)
    longest = sorted(range(N), key=lambda i: -len(good[i].text))[:count]
    bad = [answer(one.id, "之" * 9) if i in longest else one for i, one in enumerate(good)]
    return sums(metric, good), sums(metric, bad)


# ------------------------------------------------------------------- tests


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_identical_systems_have_p_1(metric: CorpusMetric) -> None:
    same = sums(metric, answered(ROWS, 0.7))
    for alternative in ("two-sided", "greater", "less"):
        assert exchange_p(metric, [(same, same)], alternative=alternative).tolist() == [1.0]
    (found,) = compare_groups(metric, [(same[None], same[None])])
    assert found is not None
    assert found.p == 1
    assert (found.effect.estimate, found.effect.low, found.effect.high) == (0, 0, 0)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_few_rows_that_changed_are_not_sure(metric: CorpusMetric) -> None:
    # k rows that all got worse: of the 2^k exchanges of these, one is as extreme on either side.
    for count, expected in ((1, 1.0), (2, 0.5), (3, 0.25), (5, 1 / 16)):
        good, bad = differing(metric, count)
        (p,) = exchange_p(metric, [(good, bad)], alternative="two-sided", resamples=4_999)
        assert p == pytest.approx(expected, abs=0.03)
    good, bad = differing(metric, 20)
    assert exchange_p(metric, [(good, bad)], alternative="two-sided")[0] < 0.001
    assert exchange_p(metric, [(good, bad)])[0] < 0.001  # ours is larger
    assert exchange_p(metric, [(bad, good)])[0] > 0.999


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_with_few_rows_every_exchange_is_tried(metric: CorpusMetric) -> None:
    examples = rows(8)
    one = sums(metric, answered(examples, 0.8, 1), examples)
    other = sums(metric, answered(examples, 0.6, 2), examples)
    (found,) = exchange_p(metric, [(one, other)], alternative="greater")

    def difference(swap: Sequence[bool]) -> float:
        chosen = np.array(swap)[:, None]
        ours, theirs = np.where(chosen, other, one), np.where(chosen, one, other)
        return float(metric.combine(ours.sum(0)) - metric.combine(theirs.sum(0)))

    observed = difference([False] * 8)
    every = [difference(swap) for swap in itertools.product((False, True), repeat=8)]
    assert found == np.mean([value >= observed - 1e-9 for value in every])


def test_pairs_are_tested_as_each_alone_is() -> None:
    metric = Chrf()
    base = sums(metric, answered(ROWS, 0.7))
    others = [sums(metric, answered(ROWS, 0.65, seed)) for seed in range(40)]
    together = exchange_p(metric, [(base, one) for one in others], resamples=999)
    alone = [exchange_p(metric, [(base, one)], resamples=999)[0] for one in others]
    assert together.tolist() == alone


@pytest.mark.parametrize("changed", [1, 2, 5, 20])
def test_false_alarms_of_a_family_stay_below_five_percent(changed: int) -> None:
    # Two systems of the same quality; which one has which of a row's two answers is a coin's throw.
    metric, cells, runs = Chrf(), 4, 120
    known = [sums(metric, answered(ROWS, 0.7, seed)) for seed in range(2)]
    rng, alarms = np.random.default_rng(changed), 0
    for run in range(runs):
        pairs = []
        for _ in range(cells):
            places = rng.choice(N, changed, replace=False)
            swap = np.zeros((N, 1), dtype=bool)
            swap[places[rng.random(changed) < 0.5]] = True
            ours, theirs = known[0].copy(), known[0].copy()
            theirs[places] = known[1][places]
            pairs.append((np.where(swap, theirs, ours), np.where(swap, ours, theirs)))
        p = exchange_p(metric, pairs, alternative="two-sided", resamples=399, seed=run)
        alarms += min(holm(list(p))) < 0.05
    # three standard errors at 5 %
    assert alarms / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


# ------------------------------------------------------------------- intervals


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_an_interval_is_as_wide_as_sacrebleus(metric: CorpusMetric) -> None:
    examples = rows(200)
    seen = answered(examples, 0.7)
    texts, references = [one.text for one in seen], [[one.output for one in examples]]
    scorer = sacrebleu.BLEU(tokenize="zh") if metric.name == "bleu" else sacrebleu.CHRF()
    theirs: Any = scorer.corpus_score(texts, references, n_bootstrap=1_000)
    (found,) = cell_bounds(metric, [sums(metric, seen, examples)])
    assert found.mean is not None
    low, high = found.mean
    # theirs is the percentile bootstrap's, of 1,000 draws: its ends are known to about 5 %
    ci, mean = float(theirs._ci), float(theirs._mean)
    assert (high - low) / 2 == pytest.approx(ci, rel=0.1)
    assert low < theirs.score < high
    assert (low + high) / 2 == pytest.approx(mean, abs=0.3 * ci)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_what_rows_contribute_has_the_corpuss_value_and_its_standard_error(
    metric: CorpusMetric,
) -> None:
    tested = sums(metric, answered(ROWS, 0.7))
    values = row_values(metric, tested)
    assert values.mean() == pytest.approx(float(metric.combine(tested.sum(0))), abs=1e-9)
    draws = Resamples(N)
    again = [metric.combine(block.astype(float) @ tested) for block in draws.counts]
    error = np.concatenate(again).std()
    assert values.std(ddof=1) / math.sqrt(N) == pytest.approx(error, rel=0.1)
    two = np.stack([tested, tested[::-1]])
    assert row_values(metric, two)[1] == pytest.approx(values[::-1])


def test_a_row_that_is_not_finite_has_no_interval_and_spoils_no_other() -> None:
    metric = Chrf()
    tested = sums(metric, answered(ROWS, 0.7))
    broken = tested.copy()
    broken[3, 5] = np.nan
    good, bad, short = cell_bounds(metric, [tested, broken, tested[:1]])
    assert good == cell_bounds(metric, [tested])[0]
    assert bad == short == Bounds()
    assert compare_groups(metric, [(broken[None], tested[None]), None]) == [None, None]


# ------------------------------------------------------------------- a mean as a corpus metric


class Plain(Metric):
    name = "plain"
    title = "mean"
    better = "higher"
    span = 10.0
    definition: ClassVar = {"plain": "a mean"}


class Summed(CorpusMetric):
    """The same mean from sums."""

    name = "summed"
    title = "mean"
    better = "higher"
    span = 10.0
    definition: ClassVar = {"summed": "a mean"}
    sums = ("value", "rows")

    def combine(self, sums: Array) -> Array:
        found: Array = sums[..., 0] / np.maximum(sums[..., 1], 1)
        return found


RNG = np.random.default_rng(5)
VALUES = RNG.normal(5, 2, (3, N))
OTHERS = VALUES.mean(0) + RNG.normal(0.2, 1, (2, N))


def as_sums(values: Array) -> Array:
    return np.stack([values, np.ones_like(values)], axis=-1)


def test_a_mean_from_sums_has_the_means_intervals_and_tests() -> None:
    plain, summed = Plain(), Summed()
    assert row_values(summed, as_sums(VALUES)) == pytest.approx(VALUES)
    for one, other in zip(
        group_bounds(plain, [VALUES, OTHERS[:1]]),
        group_bounds(summed, [as_sums(VALUES), as_sums(OTHERS[:1])]),
        strict=True,
    ):
        assert other.mean == pytest.approx(one.mean)
        assert other.center == pytest.approx(one.center)
        assert other.mean_seeds == (one.mean_seeds and pytest.approx(one.mean_seeds))
    (one,) = compare_groups(plain, [(VALUES, OTHERS)])
    (other,) = compare_groups(summed, [(as_sums(VALUES), as_sums(OTHERS))])
    assert one is not None
    assert other is not None
    assert other.p == one.p
    for name in ("effect", "seeds_effect"):
        assert vars(getattr(other, name)) == pytest.approx(vars(getattr(one, name)))


def test_families_mix_metrics_of_both_kinds() -> None:
    plain, summed = Plain(), Summed()
    ids = [f"r{i}" for i in range(N)]
    mixed = [
        Pair(plain, VALUES[0], OTHERS[0]),
        Pair(summed, as_sums(OTHERS[0]), as_sums(VALUES[0])),
        Pair(plain, VALUES[1], VALUES[1]),
        Pair(summed, as_sums(VALUES[2]), as_sums(VALUES[2] - 1 + VALUES[0] / 9)),
    ]
    means = [
        Pair(plain, *((x if x.ndim == 1 else x[:, 0]) for x in (pair.before, pair.after)))
        for pair in mixed
    ]
    for one, other in zip(
        compare_family(means, ids, 0.01), compare_family(mixed, ids, 0.01), strict=True
    ):
        assert (other.p_worse, other.p_better) == (one.p_worse, one.p_better)
        assert vars(other.effect) == pytest.approx(vars(one.effect))
        assert vars(other.mean_effect) == pytest.approx(vars(one.mean_effect))
        assert other.detectable == pytest.approx(one.detectable)
        assert other.rows_needed == one.rows_needed
        assert [name for name, _ in other.drivers] == [name for name, _ in one.drivers]
    for one, other in zip(compare_values(means, 4), compare_values(mixed, 4), strict=True):
        assert other.p == one.p
        assert other.parts == pytest.approx(one.parts)


def test_one_row_says_nothing() -> None:
    metric = Summed()
    pair = Pair(metric, as_sums(VALUES[0, :1]), as_sums(VALUES[0, :1] - 1))
    (found,) = compare_family([pair], ["r"], 0.01)
    assert found.p_worse == 1
    assert found.effect.estimate == pytest.approx(-1)
    assert math.isinf(found.detectable)


def test_over_seeds_a_value_is_the_mean_of_the_seeds_values() -> None:
    metric = Bleu()
    ours = np.stack([sums(metric, answered(ROWS, 0.8, seed)) for seed in range(3)])
    theirs = sums(metric, answered(ROWS, 0.6, 9))[None]
    each = metric.combine(ours.sum(1))
    draws = Resamples(N)
    assert value_interval(metric, ours, draws).estimate == pytest.approx(each.mean())
    found = difference_interval(metric, ours, theirs, draws)
    assert found.estimate == pytest.approx(each.mean() - metric.combine(theirs[0].sum(0)))
    assert 0 < found.low < found.estimate < found.high
    (bounds,) = group_bounds(metric, [ours])
    assert bounds.mean is not None
    assert bounds.mean_seeds is not None
    values = row_values(metric, ours)
    assert values.mean(1) == pytest.approx(each)
    whole = two_level(values, value_interval(metric, ours, draws))
    assert bounds.mean_seeds == (whole.low, whole.high) != bounds.mean
