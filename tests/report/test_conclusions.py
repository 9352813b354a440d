"""Sentences that say what the numbers carry, and no more."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.metrics.base import Effect
from harness.metrics.perplexity import Perplexity
from harness.metrics.win_rate import WinRate
from harness.records import Likelihood
from harness.report.conclusions import conclusions, sureness
from harness.report.nouns import Group, GroupResult, Known
from harness.results.manifest import Control
from harness.statistics.uncertainty import Bounds, Comparison, compare_groups
from tests.builders.runs import make_run, report_of

RNG = np.random.default_rng(5)
LOGS = RNG.normal(2.9, 0.8, 80)


def scores(
    shift: float, spread: float = 0.02, seeds: int = 3, tokens: int = 10
) -> list[list[Likelihood]]:
    found = []
    for _ in range(seeds):
        logs = LOGS + shift + RNG.normal(0, spread, len(LOGS)) + RNG.normal(0, spread / 4)
        found.append(
            [Likelihood(f"r{i}", tokens * float(x), tokens, 3, 9, 50) for i, x in enumerate(logs)]
        )
    return found


def said(tmp_path: Path, **shifts: float) -> list[str]:
    """The sentences of a run with zero-shot and few-shot cells whose logarithms are shifted."""
    content = report_of(make_run(tmp_path / "results", **shifts))  # type: ignore[arg-type]
    return content.conclusions


def test_a_sure_improvement_has_its_size_and_interval(tmp_path: Path) -> None:
    # every row's logarithm is lower by log 2: half the perplexity
    (first,) = said(tmp_path, shift=-0.6931)
    assert first.startswith("fewshot-random-k01 has the lowest mean perplexity, ")
    assert "row by row 50 % below zero-shot [50, 5" in first or "[49, 5" in first
    assert first.endswith(", sure.")


def test_nothing_beats_zero_shot_where_nothing_does(tmp_path: Path) -> None:
    (first,) = said(tmp_path, shift=0.6931)
    assert first.startswith("Nothing beats zeroshot, mean perplexity ")
    assert "fewshot-random-k01 is 100 % above zero-shot [" in first
    assert first.endswith(", sure.")


def test_what_is_not_sure_is_not_called_so(tmp_path: Path) -> None:
    (first,) = said(tmp_path, shift=0.0)
    assert first.endswith("not sure.")


def test_sure_needs_p_and_the_interval_over_seeds() -> None:
    narrow, wide = Effect(-0.1, -0.15, -0.05), Effect(-0.1, -0.5, 0.6)
    assert sureness(Comparison(narrow, None, None, 0.001)) == "sure"
    assert sureness(Comparison(narrow, narrow, None, 0.001)) == "sure"
    assert sureness(Comparison(narrow, wide, None, 0.001)) == "sure for these seeds only"
    assert sureness(Comparison(narrow, narrow, None, 0.05)) == "not sure"


def test_one_of_many_seeds_is_sure_of_itself_only() -> None:
    narrow = Effect(-0.1, -0.15, -0.05)
    only = "sure for this seed only"
    assert sureness(Comparison(narrow, None, None, 0.001), seeds=1) == only
    assert sureness(Comparison(narrow, narrow, None, 0.001), seeds=1) == "sure"
    assert sureness(Comparison(narrow, None, None, 0.05), seeds=1) == "not sure"
    # a side without seeds, against one with three
    assert sureness(Comparison(narrow, None, None, 0.001), seeds=3) == "sure for these seeds only"


def group(
    label: str, strategy: str, k: int, mean: float | None, model: str = "m", bits: float = 2.0
) -> GroupResult:
    facts = Group(
        *(label, strategy, model, "none", "float32", "plain", "", "", k, "random", "run"),
        *(80, (0, 1, 2), 3, 3, 50.0, None, None, None),
    )
    known = {"mean_perplexity": Known(mean, None), "bits_per_byte": Known(bits, None)}
    return GroupResult(facts, mean, None, known, Bounds(), 0)


def sentences(entries: Sequence[GroupResult], seen: Sequence[list[list[Likelihood]]]) -> list[str]:
    """What is said of groups with these likelihoods."""
    values = [
        np.array([[one.nll / one.n_tokens for one in seed] for seed in seeds]) for seeds in seen
    ]
    counts = [tuple(one.n_tokens for one in seeds[0]) for seeds in seen]
    return conclusions(Perplexity(), Control(), entries, values, counts)


def test_more_shots_are_compared_with_the_fewest() -> None:
    groups = [group(f"fewshot-random-k{k:02d}", "fewshot", k, 20.0) for k in (1, 3, 5)]
    better = sentences(groups, [scores(0.0), scores(-0.1), scores(-0.2)])
    # exp(−0.2) = 0.819
    assert any("fewshot-random-k05 is 18 % below 1-shot [" in text for text in better)
    same = sentences(groups, [scores(0.0, 0.2), scores(0.0, 0.2), scores(0.0, 0.2)])
    assert any("fewshot-random-k05 is not shown to differ from 1-shot: " in text for text in same)


def trained(label: str, mean: float) -> GroupResult:
    found = group(label, "qlora", 0, mean)
    return replace(found, group=replace(found.group, training_tokens=1000.0))


def test_the_best_of_several_settings_is_compared_with_the_next() -> None:
    groups = [trained(f"qlora-r{r:02d}", mean) for r, mean in ((4, 20.0), (8, 16.0), (16, 18.0))]
    found = sentences(groups, [scores(0.0), scores(-0.3), scores(-0.1)])
    # exp(−0.2) = 0.819: against −0.1, the next best, not against the first
    (told,) = (text for text in found if " below qlora-r16 [" in text)
    assert told.startswith("qlora-r08 is 18 % below qlora-r16 [")
    assert told.endswith(", sure.")
    one = sentences(groups[:1], [scores(0.0)])
    assert not any(" below " in text for text in one)


def test_models_with_other_tokenizers_are_compared_by_bits_per_byte_only() -> None:
    groups = [
        group("zeroshot", "zeroshot", 0, 30.0, model="a", bits=2.5),
        group("zeroshot", "zeroshot", 0, 10.0, model="b", bits=2.9),
    ]
    found = sentences(groups, [scores(0.0, seeds=1), scores(0.0, seeds=1, tokens=20)])
    assert found[-1].endswith("The best of each: a 2.500 (zeroshot); b 2.900 (zeroshot).")
    assert [text.partition(":")[0] for text in found[:2]] == ["a", "b"]
    alike = sentences(groups, [scores(0.0, seeds=1), scores(0.0, seeds=1)])
    assert not any("tokenizers differ" in text for text in alike)


@pytest.mark.parametrize("means", [(None, None), (None, 20.0)])
def test_what_is_not_finite_is_not_ranked(means: tuple[float | None, ...]) -> None:
    groups = [
        group("zeroshot", "zeroshot", 0, means[0]),
        group("fewshot-random-k01", "fewshot", 1, means[1]),
    ]
    (sentence,) = sentences(groups, [scores(0.0), scores(0.0)])
    assert sentence == (
        "No strategy has a finite perplexity."
        if means[1] is None
        else "fewshot-random-k01: mean perplexity 20.00; there is nothing to compare with."
    )


def test_nothing_measured_says_nothing() -> None:
    assert sentences([], []) == []


def wins(rates: Sequence[float], trusted: bool) -> list[str]:
    """What is said of so many groups of 100 rows that win these shares of rows."""
    metric, results, tested = WinRate(), [], []
    for i, rate in enumerate(rates):
        values = np.array([[1.0] * round(100 * rate) + [0.0] * round(100 * (1 - rate))])
        (found,) = compare_groups(metric, [(values, np.full_like(values, 0.5))])
        facts = replace(group(f"s{i}", "s", 0, rate).group, seeds=(), against="zeroshot")
        results.append(GroupResult(facts, rate, None, {}, Bounds(), 0, found))
        tested.append(values)
    return conclusions(metric, Control(), results, tested, [None] * len(rates), trusted)


def test_wins_are_told_as_shares_of_rows() -> None:
    many, few, half = wins([0.8, 0.2, 0.52], trusted=True)
    # the interval of 80 of 100 is about ±8
    assert re.fullmatch(r"s0 wins 80 % of rows \[7\d, 8\d\] against zeroshot, sure\.", many)
    assert re.fullmatch(r"s1 wins 20 % of rows \[1\d, 2\d\] against zeroshot, sure\.", few)
    assert half.startswith("s2 is not shown to win more or less than half against zeroshot: 52 %")


def test_a_judge_that_is_not_trusted_makes_nothing_sure() -> None:
    for line in wins([0.8, 0.2, 0.52], trusted=False):
        assert " sure" not in line
    assert wins([0.8], trusted=False)[0].endswith(", by a judge that is not trusted.")
