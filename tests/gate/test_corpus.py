"""The gate on corpus metrics: chrF2 and BLEU of made-up answers whose quality is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from harness.core import Example
from harness.errors import GateError, StoreError
from harness.gate.compare import changes
from harness.gate.decision import judge
from harness.gate.simulation import simulate
from harness.metrics.base import Array, Metric
from harness.metrics.bleu import Bleu
from harness.metrics.chrf import Chrf
from harness.metrics.corpus import CorpusMetric
from harness.metrics.degeneration import Empty
from harness.records import Answer, Likelihood
from harness.results.baseline import read_baseline, update_baseline, write_baseline
from harness.results.reading import read_run
from harness.results.snapshot import Rows, Snapshot, rounded, take
from tests.builders.answers import answer, answered, rows
from tests.builders.runs import make_run

ROWS = rows(64)
METRICS: tuple[Metric, ...] = (Chrf(), Bleu(), Empty())


def cell(seen: Sequence[Answer], **more: str) -> Rows:
    read = {metric.name: rounded(metric.read(seen, ROWS)) for metric in METRICS}
    return Rows("k", read, {"model": "m"}, **more)


def run(cells: Mapping[str, Rows], rows: Sequence[Example] = ROWS) -> Snapshot:
    definitions = {metric.name: dict(metric.defined(rows)) for metric in METRICS}
    return Snapshot("here", "task", {row.id: row.output for row in rows}, cells, {}, definitions)


GREEDY = answered(ROWS, 0.9, 1)
GOOD = run({"greedy": cell(GREEDY), "sample": cell(answered(ROWS, 0.85, 2))})


def statuses(after: Snapshot, before: Snapshot = GOOD) -> dict[str, str]:
    gate = judge(after, before, 0.01, False, METRICS)
    return {f"{one.cell} {one.metric}": one.status for one in gate.verdicts}


def test_the_same_answers_pass() -> None:
    assert set(statuses(GOOD).values()) == {"OK"}


def test_a_worse_decoding_fails_and_a_better_one_improves() -> None:
    worse = run({**GOOD.cells, "sample": cell(answered(ROWS, 0.5, 3))})
    found = statuses(worse)
    assert found["sample chrf"] == found["sample bleu"] == "FAIL"
    assert found["greedy chrf"] == found["greedy bleu"] == "OK"
    gate = judge(worse, GOOD, 0.01, False, METRICS)
    assert not gate.passed
    line = next(v.line for v in gate.failing if v.metric == "chrf")
    assert line.startswith("corpus value −")
    assert "tolerance 1 % of 100; most in the corpus value: 'r0" in line
    back = statuses(GOOD, worse)
    assert back["sample chrf"] == back["sample bleu"] == "IMPROVED"


def test_one_row_that_changed_does_not_fail() -> None:
    longest = max(range(64), key=lambda i: len(GREEDY[i].text))
    one = list(GREEDY)
    one[longest] = answer(one[longest].id, "")
    after = run({**GOOD.cells, "greedy": cell(one)})
    gate = judge(after, GOOD, 0.01, False, METRICS)
    assert gate.passed
    assert all(verdict.p == 1 for verdict in gate.verdicts)  # adjusted for six comparisons
    (found,) = (v for v in gate.verdicts if (v.cell, v.metric) == ("greedy", "chrf"))
    assert found.effect is not None
    assert found.effect.estimate < 0
    assert found.drivers[0][0] == one[longest].id
    assert found.detectable is not None
    assert found.detectable > 0


def test_a_baseline_keeps_what_is_tested(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    write_baseline(path, GOOD)
    again = read_baseline(path)
    for name, kept in GOOD.cells.items():
        for metric in METRICS:
            before, now = kept.metrics[metric.name], again.cells[name].metrics[metric.name]
            assert now.tested.tolist() == before.tested.tolist()
            assert now.values == before.values
    assert statuses(GOOD, again) == statuses(GOOD)
    assert update_baseline(path, GOOD) == ["2 of 2 cells as they were"]
    other = run({**GOOD.cells, "greedy": cell(answered(ROWS, 0.9, 8))})
    assert update_baseline(path, other)[-1] == "1 of 2 cells as they were"
    # counts are whole numbers, and written as such
    line = next(x for x in path.read_text("utf-8").splitlines() if '"chrf.sums"' in x)
    assert ".0" not in line


class Tokens(CorpusMetric):
    """NLL per token, of sums."""

    name = "tokens"
    title = "NLL per token"
    better = "lower"
    definition: ClassVar = {"tokens": "total NLL / total tokens"}
    sums = ("nll", "tokens")

    def statistics(self, seen: Sequence[Likelihood], rows: Sequence[Example]) -> Array:
        return np.array([(one.nll, one.n_tokens) for one in seen])

    def combine(self, sums: Array) -> Array:
        found: Array = sums[..., 0] / np.maximum(sums[..., 1], 1)
        return found

    def defined(self, rows: Sequence[Example]) -> Mapping[str, str]:
        return {**super().defined(rows), "rows": str(len(rows))}


def test_a_snapshot_of_a_stored_run_has_statistics_and_the_definition_for_its_rows(
    tmp_path: Path,
) -> None:
    manifest, measured = read_run(make_run(tmp_path / "results"))
    found = take("here", manifest, measured, [Tokens()])
    assert found.definitions["tokens"] == {
        **Tokens.definition,
        "statistics": "nll, tokens",
        "rows": str(len(manifest.rows)),
    }
    for name, cell_ in found.cells.items():
        seen = measured[name].observations
        expected = [[round(one.nll, 8), one.n_tokens] for one in seen]
        assert cell_.metrics["tokens"].tested.tolist() == expected


def test_a_baseline_that_lacks_a_row_is_damaged(tmp_path: Path) -> None:
    broken = GOOD.cells["greedy"].metrics["chrf"]
    short = replace(broken, sums=(broken.sums or ())[1:])
    cut = replace(GOOD.cells["greedy"], metrics={"chrf": short})
    write_baseline(tmp_path / "b.json", run({"greedy": cut}))
    with pytest.raises(StoreError, match="cell greedy does not have a number for each row"):
        read_baseline(tmp_path / "b.json")


def test_a_baseline_of_another_signature_is_refused() -> None:
    words = run(GOOD.cells)
    definitions = {**words.definitions, "bleu": dict(Bleu("13a").defined(ROWS))}
    with pytest.raises(GateError, match=r"its signature is 'nrefs:1\|.*tok:13a.*'.*tok:zh"):
        judge(GOOD, replace(words, definitions=definitions), 0.01, False, METRICS)


def test_two_runs_are_compared(tmp_path: Path) -> None:
    write_baseline(tmp_path / "a.json", GOOD)
    write_baseline(tmp_path / "b.json", run({**GOOD.cells, "sample": cell(answered(ROWS, 0.5, 3))}))
    found = changes(tmp_path / "a.json", tmp_path / "b.json").cells
    words = {(one.cell, one.metric.name): one.word for one in found}
    assert words["sample", "chrf"] == words["sample", "bleu"] == "worse"
    assert words["greedy", "chrf"] == "no difference shown"
    chrf = next(one for one in found if (one.cell, one.metric.name) == ("sample", "chrf"))
    assert chrf.what == "corpus chrF2"
    assert chrf.effect.high < 0
    assert len(chrf.rows) == 3


def test_the_gates_errors_are_simulated(tmp_path: Path) -> None:
    seeds = {
        f"sample-s{i}": replace(cell(answered(ROWS, 0.8, i)), group="sample") for i in range(3)
    }
    write_baseline(tmp_path / "a.json", run(seeds))
    rates = simulate(tmp_path / "a.json", None, 64, 40, 0.01)
    one = {rate.effect: rate for rate in rates if rate.cells == 1}
    assert one[0.0].alarm <= 0.05 + 3 * (0.05 * 0.95 / 40) ** 0.5
    assert one[0.05].alarm > one[0.0].alarm
