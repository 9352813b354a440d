"""The gate's verdicts on made-up runs whose changes are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from harness.errors import GateError
from harness.gate.decision import judge
from harness.gate.verdict import Gate, Verdict
from harness.metrics.base import Effect, Metric
from harness.metrics.judged import Judge
from harness.metrics.perplexity import Perplexity
from harness.results.snapshot import Rows, Snapshot, Values
from tests.builders.snapshots import IDS, LOGS, RNG, TOKENS, N, but, rows, run

Change = Callable[[np.ndarray[Any, Any]], Any]
METRICS = (Perplexity(),)


def noise(spread: float, seed: int) -> np.ndarray[Any, Any]:
    """Differences whose mean is exactly 0."""
    values = np.random.default_rng(seed).normal(0, spread, N)
    return values - values.mean()


def judged(
    before: Mapping[str, Rows],
    after: Mapping[str, Rows],
    tolerance: float = 0.01,
    strict: bool = False,
) -> Gate:
    return judge(run(after, where="here"), run(before), tolerance, strict, METRICS)


def only(gate: Gate, cell: str = "a") -> Verdict:
    (verdict,) = (verdict for verdict in gate.verdicts if verdict.cell == cell)
    return verdict


def test_the_same_numbers_pass() -> None:
    cells = {name: rows(LOGS + shift) for name, shift in (("a", 0), ("b", 0.3))}
    gate = judged(cells, cells)
    assert gate.passed
    assert [v.status for v in gate.verdicts] == ["OK", "OK"]
    assert [v.p for v in gate.verdicts] == [1.0, 1.0]
    assert only(gate).effect == Effect(0.0, 0.0, 0.0)
    assert only(gate).detectable == 0.0


def test_a_rise_in_one_of_twelve_cells_fails_and_is_named() -> None:
    before = {f"c{i:02d}": rows(LOGS) for i in range(12)}
    after = {name: rows(LOGS + noise(0.05, i)) for i, name in enumerate(before)}
    after["c07"] = rows(LOGS + noise(0.05, 7) + math.log(1.03))
    gate = judged(before, after)
    assert not gate.passed
    assert [v.cell for v in gate.failing] == ["c07"]
    worst = gate.verdicts[0]
    assert worst.cell == "c07"  # first
    assert worst.effect is not None
    assert worst.effect.estimate == pytest.approx(0.03, abs=1e-4)
    assert worst.effect.low < 0.03 < worst.effect.high
    assert "+3.00 %" in worst.line
    assert not any(v.fails for v in gate.verdicts[1:])


def test_a_rise_within_the_tolerance_passes_however_sure_it_is() -> None:
    before, after = {"a": rows(LOGS)}, {"a": rows(LOGS + noise(0.01, 1) + math.log(1.009))}
    verdict = only(judged(before, after))
    assert verdict.status in ("OK", "WARN")
    assert not verdict.fails
    assert verdict.p is not None
    assert verdict.p < 0.001
    assert only(judged(before, after, tolerance=0.005)).status == "FAIL"


def test_chance_alone_does_not_fail() -> None:
    """A rise of 2 % whose standard error is 1.9 %: p is about 0.15."""
    before, after = {"a": rows(LOGS)}, {"a": rows(LOGS + noise(0.3, 2) + math.log(1.02))}
    verdict = only(judged(before, after))
    assert verdict.p is not None
    assert 0.05 < verdict.p < 0.3
    assert verdict.status == "INCONCLUSIVE"


def test_p_is_adjusted_for_the_family() -> None:
    """A rise at z = 2.1 has p ≈ 0.018: enough alone, not among twelve."""
    change = noise(0.1, 4)
    change += 2.1 * change.std(ddof=1) / math.sqrt(N)
    alone = judged({"a": rows(LOGS)}, {"a": rows(LOGS + change)}, tolerance=0.005)
    assert only(alone).status == "FAIL"
    others = {f"b{i}": rows(LOGS) for i in range(11)}
    family = judged(
        {"a": rows(LOGS), **others}, {"a": rows(LOGS + change), **others}, tolerance=0.005
    )
    assert only(family).status != "FAIL"
    assert only(alone).p is not None
    assert only(family).p == pytest.approx(12 * only(alone).p, rel=0.25)  # type: ignore[operator]


def test_one_outlier_moves_the_mean_and_does_not_fail() -> None:
    logs = LOGS.copy()
    logs[LOGS.argmax()] += 1.0  # the worst row, nearly three times as bad
    before, after = {"a": rows(LOGS)}, {"a": rows(logs)}
    mean = np.exp(logs).mean() / np.exp(LOGS).mean()
    assert mean > 1.05  # a plain threshold of 2 % would fail
    verdict = only(judged(before, after))
    assert not verdict.fails
    assert verdict.drivers[0][0] == IDS[int(LOGS.argmax())]
    assert verdict.drivers[0][1] == pytest.approx(mean - 1, rel=1e-3)


def test_the_mean_rose_without_the_geometric_mean_is_a_warning_that_names_rows() -> None:
    hard = np.quantile(LOGS, 0.8) < LOGS
    logs = LOGS + np.where(hard, 0.12, -0.04)
    gate = judged({"a": rows(LOGS)}, {"a": rows(logs)})
    verdict = only(gate)
    assert verdict.status == "WARN"
    assert gate.passed
    assert verdict.mean_effect is not None
    assert verdict.mean_effect.low > 0
    # By numpy: the rows whose exp(after) − exp(before) is largest.
    largest = np.argsort(np.exp(LOGS) - np.exp(logs))[:3]
    assert [name for name, _ in verdict.drivers] == [IDS[i] for i in largest]
    assert repr(IDS[largest[0]]) in verdict.line


def test_what_could_not_be_seen_is_inconclusive_and_says_how_many_rows_would_do() -> None:
    before, after = {"a": rows(LOGS)}, {"a": rows(LOGS + noise(0.2, 5))}
    gate = judged(before, after)
    verdict = only(gate)
    assert verdict.status == "INCONCLUSIVE"
    assert gate.passed
    # n = ((z₀.₉₅ + z₀.₈) · 0.2 / log 1.01)² = (2.486 · sd / 0.00995)², sd as drawn
    sd = float(noise(0.2, 5).std(ddof=1))
    assert verdict.rows_needed == pytest.approx((2.4865 * sd / math.log(1.01)) ** 2, rel=0.005)
    assert verdict.detectable == pytest.approx(math.expm1(2.4865 * sd / math.sqrt(N)), rel=0.01)
    assert f"{verdict.rows_needed} rows would show one of 1 %" in verdict.line
    strict = judged(before, after, strict=True)
    assert not strict.passed
    assert only(strict).status == "INCONCLUSIVE"


def test_strict_looks_behind_a_warning_too() -> None:
    hard = np.quantile(LOGS, 0.8) < LOGS
    logs = LOGS + np.where(hard, 0.14, -0.05) + noise(0.2, 6)
    verdict = only(judged({"a": rows(LOGS)}, {"a": rows(logs)}, strict=True))
    assert verdict.status == "WARN"
    assert verdict.fails


def test_better_is_improved_even_where_a_rise_could_have_gone_unseen() -> None:
    gate = judged({"a": rows(LOGS)}, {"a": rows(LOGS - 0.1 + noise(0.2, 8))}, strict=True)
    assert only(gate).status == "IMPROVED"
    assert gate.passed
    assert only(gate).p is not None
    assert only(gate).p < 0.001  # type: ignore[operator]


def test_new_cells_pass_and_missing_ones_fail() -> None:
    gate = judged({"old": rows(LOGS, "k1")}, {"new": rows(LOGS, "k2")})
    assert {v.cell: v.status for v in gate.verdicts} == {"new": "NEW", "old": "MISSING"}
    assert [v.cell for v in gate.failing] == ["old"]
    assert "--update-baseline" in only(gate, "old").line
    assert "renamed" not in only(gate, "old").line


def test_a_renamed_cell_is_recognized() -> None:
    gate = judged({"old": rows(LOGS, "same")}, {"new": rows(LOGS, "same")})
    assert not gate.passed
    assert "new computes the same, so it was renamed" in only(gate, "old").line


def test_a_cell_that_failed_says_why_it_is_missing() -> None:
    current = run({"a": rows(LOGS)}, missing={"b": "row 'x' does not fit"})
    gate = judge(current, run({"a": rows(LOGS), "b": rows(LOGS)}), 0.01, False, METRICS)
    assert "row 'x' does not fit" in only(gate, "b").line


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e6])
def test_a_row_that_is_not_finite_fails_and_is_named(bad: float) -> None:
    good = rows(LOGS)
    sums = good.metrics["perplexity"].totals
    broken = but(good, nll=(*sums[:7], bad, *sums[8:]))
    gate = judged({"a": good, "b": good}, {"a": broken, "b": good})
    assert only(gate).status == "FAIL"
    assert "'row-007'" in only(gate).line
    assert only(gate, "b").status == "OK"


def test_another_tokenizer_fails() -> None:
    good = rows(LOGS)
    other = but(good, tokens=(TOKENS[0] + 1, *TOKENS[1:]))
    verdict = only(judged({"a": good}, {"a": other}))
    assert verdict.status == "FAIL"
    assert "row 'row-000' has 21 scored tokens, in the baseline 20" in verdict.line


OTHER_ROWS: dict[str, Callable[[dict[str, str]], dict[str, str]]] = {
    "row 'row-003' has another text": lambda rows: rows | {"row-003": "else"},
    "row 'row-249' is missing": lambda rows: dict(list(rows.items())[:-1]),
    "row 'more' is new": lambda rows: rows | {"more": "x"},
    "another order": lambda rows: dict(reversed(rows.items())),
}


@pytest.mark.parametrize(("says", "change"), OTHER_ROWS.items(), ids=OTHER_ROWS.keys())
def test_other_test_rows_can_not_be_compared(
    says: str, change: Callable[[dict[str, str]], dict[str, str]]
) -> None:
    baseline = run({"a": rows(LOGS)})
    current = replace(baseline, rows=change(dict(baseline.rows)))
    with pytest.raises(GateError, match=says) as caught:
        judge(current, baseline, 0.01, False, METRICS)
    assert "there.json" in str(caught.value)
    assert "--update-baseline" in str(caught.value)


def test_another_metric_can_not_be_compared() -> None:
    other = {**Perplexity.definition, "log_perplexity": "NLL / characters"}
    baseline = run({"a": rows(LOGS)}, definitions={"perplexity": other})
    with pytest.raises(GateError, match=r"there\.json: another definition of the metric: its log_"):
        judge(run({"a": rows(LOGS)}), baseline, 0.01, False, METRICS)


def test_what_else_is_different_stands_beside_the_verdict() -> None:
    before = {f"c{i}": rows(LOGS, prompt=f"p{i}", **{"torch version": "2.12"}) for i in range(3)}
    after = {f"c{i}": rows(LOGS, prompt=f"q{i}", **{"torch version": "2.13"}) for i in range(3)}
    gate = judged(before, after)
    assert [(d.what, d.before, d.after, d.cells) for d in gate.differences] == [
        ("prompt", None, None, 3),
        ("torch version", "2.12", "2.13", 3),
    ]
    assert only(gate, "c0").changed == ("prompt", "torch version")


def test_a_tolerance_within_the_noise_of_scoring_is_remarked_on() -> None:
    noisy = replace(rows(LOGS), noise=0.004)
    (note,) = judged({"a": noisy}, {"a": rows(LOGS)}).notes
    assert "3 times the noise" in note
    assert "1.2 %" in note
    assert not judged({"a": noisy}, {"a": rows(LOGS)}, tolerance=0.013).notes


def test_one_row_is_inconclusive() -> None:
    gate = judge(run({"a": rows([3.1])}, 1), run({"a": rows([3.0])}, 1), 0.01, False, METRICS)
    assert only(gate).status == "INCONCLUSIVE"
    assert only(gate).detectable == math.inf


@pytest.mark.parametrize(("n", "cells"), [(8, 20), (4, 1), (1, 1)])
def test_with_too_few_rows_to_ever_fail_nothing_could_have_been_seen(n: int, cells: int) -> None:
    """The smallest p of n rows is 2⁻ⁿ; times the cells it is never below 0.05."""
    before = {f"c{i}": rows(LOGS[:n]) for i in range(cells)}
    after = {f"c{i}": rows(LOGS[:n] + 0.4) for i in range(cells)}
    gate = judge(run(after, n), run(before, n), 0.01, True, METRICS)
    assert not gate.passed
    assert all(verdict.fails for verdict in gate.verdicts)
    assert gate.verdicts[0].detectable == math.inf


def test_few_rows_that_all_rose_alike_could_not_fail_either() -> None:
    """Their spread is 0, which is no reason to believe that a rise would be seen."""
    same = but(rows(LOGS[:4]), tokens=(1,) * 4, nll=(1.0, 2.0, 3.0, 4.0))
    risen = but(same, nll=(1.5, 2.5, 3.5, 4.5))
    gate = judge(run({"a": risen}, 4), run({"a": same}, 4), 0.01, True, METRICS)
    assert not gate.passed
    assert judge(run({"a": same}, 4), run({"a": same}, 4), 0.01, True, METRICS).passed


def test_a_row_that_is_all_but_impossible_is_judged() -> None:
    """Its perplexity is e^600; the cube of that is more than a float holds."""
    logs = LOGS.copy()
    logs[3] = 600.0
    verdict = only(judged({"a": rows(LOGS)}, {"a": rows(logs)}))
    assert verdict.drivers[0][0] == "row-003"
    assert "'row-003'" in verdict.line


def test_a_move_that_machines_make_is_no_warning() -> None:
    gate = judged({"a": rows(LOGS)}, {"a": rows(LOGS + 1e-5)})
    assert only(gate).status == "OK"


def test_a_row_that_got_far_worse_is_named_where_nothing_is_sure() -> None:
    logs = LOGS.copy()
    logs[5] += 8.0  # three thousand times
    verdict = only(judged({"a": rows(LOGS)}, {"a": rows(logs)}))
    assert verdict.status == "INCONCLUSIVE"
    assert "'row-005'" in verdict.line


def test_the_order_of_cells_decides_nothing() -> None:
    before = {f"c{i}": rows(LOGS + 0.1 * i) for i in range(4)}
    after = {name: rows(LOGS + 0.1 * i + noise(0.1, i)) for i, name in enumerate(before)}
    one = judged(before, after)
    two = judged(dict(reversed(before.items())), dict(reversed(after.items())))
    assert {v.cell: (v.status, v.p) for v in one.verdicts} == {
        v.cell: (v.status, v.p) for v in two.verdicts
    }


class Hard(Metric):
    """A share: lower is better, on a linear scale."""

    name = "hard"
    title = "share of hard rows"
    better = "lower"
    definition: ClassVar = {"hard": "share of hard rows"}


class Likely(Metric):
    """Higher is better, on a linear scale."""

    name = "likely"
    title = "mean likelihood"
    better = "higher"
    definition: ClassVar = {"likely": "mean likelihood"}


def linear(cell: Rows, **values: np.ndarray[Any, Any]) -> Rows:
    """The cell with values of further metrics."""
    more = {name: Values(tuple(map(float, found)), None, {}) for name, found in values.items()}
    return replace(cell, metrics={**cell.metrics, **more})


def of_three(cell: Rows) -> Snapshot:
    known = {metric.name: dict(metric.definition) for metric in (*METRICS, Hard(), Likely())}
    return run({"a": cell}, definitions=known)


@pytest.mark.parametrize(("moved", "hard", "likely"), [
    (0.0, "OK", "OK"), (0.2, "FAIL", "IMPROVED"), (-0.2, "IMPROVED", "FAIL"),
])  # fmt: skip
def test_each_metric_has_its_own_direction(moved: float, hard: str, likely: str) -> None:
    values = 0.5 + 0.01 * RNG.standard_normal(N)
    noisy = values + 1e-4 * RNG.standard_normal(N)
    before = of_three(linear(rows(LOGS), hard=values, likely=values))
    after = of_three(linear(rows(LOGS), hard=noisy + moved, likely=noisy + moved))
    gate = judge(after, before, 0.01, False, [*METRICS, Hard(), Likely()])
    assert gate.compared == 3
    found = {verdict.metric: verdict for verdict in gate.verdicts}
    assert {name: v.status for name, v in found.items()} == {
        "perplexity": "OK", "hard": hard, "likely": likely,
    }  # fmt: skip
    assert found["hard"].effect is not None
    assert found["hard"].effect.estimate == pytest.approx(moved, abs=1e-4)
    assert gate.name_of(found["hard"]) == "a [hard]"


def test_a_metric_of_the_baseline_that_is_not_read_is_a_problem() -> None:
    values = np.full(N, 0.5)
    baseline = of_three(linear(rows(LOGS), hard=values, likely=values))
    with pytest.raises(GateError, match="holds the metric 'hard' too"):
        judge(run({"a": rows(LOGS)}), baseline, 0.01, False, METRICS)


def test_a_metric_that_the_baseline_has_not_is_new() -> None:
    values = np.full(N, 0.5)
    current = of_three(linear(rows(LOGS), hard=values, likely=values))
    gate = judge(current, run({"a": rows(LOGS)}), 0.01, False, [*METRICS, Hard(), Likely()])
    assert gate.passed
    assert sorted(v.status for v in gate.verdicts) == ["NEW", "NEW", "OK"]


def rating(scores: np.ndarray[Any, Any], **facts: Any) -> Rows:
    """A cell of a judge's scores."""
    values = Values(tuple(scores.tolist()), None, {"judge": float(np.nanmean(scores))})
    return Rows("k", {"judge": values}, {"judge": "a", "rubric": "b", **facts})


def gate_of_ratings(before: Rows, after: Rows) -> Verdict:
    known = {"judge": dict(Judge.definition)}
    sides = [run({"a": one}, definitions=known) for one in (after, before)]
    return only(judge(*sides, 0.01, False, (Judge(),)))


SCORES = np.random.default_rng(8).integers(0, 6, N).astype(float)


def test_a_row_without_a_verdict_fails_closed() -> None:
    holed = SCORES.copy()
    holed[[2, 9]] = np.nan
    verdict = gate_of_ratings(rating(SCORES), rating(holed))
    assert (verdict.status, verdict.fails) == ("FAIL", True)
    assert verdict.line == "2 rows are unjudged: 'row-002', 'row-009'"


@pytest.mark.parametrize("fact", ["judge", "rubric"])
def test_another_judge_is_not_compared_with(fact: str) -> None:
    verdict = gate_of_ratings(rating(SCORES), rating(SCORES + 0.1, **{fact: "another"}))
    assert (verdict.status, verdict.fails) == ("FAIL", True)
    assert verdict.line.startswith(f"the {fact} is another than in the baseline")


def test_a_judges_score_is_held_like_any_metric() -> None:
    assert gate_of_ratings(rating(SCORES), rating(SCORES)).status == "OK"
    worse = np.where(np.arange(N) % 3 == 0, np.maximum(SCORES - 1, 0), SCORES)
    verdict = gate_of_ratings(rating(SCORES), rating(worse))
    assert verdict.status == "FAIL"
    assert "tolerance 1 % of 5" in verdict.line
