"""The order of a run: one seed of everything first, and what it says after each round."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.config.options import parse_options
from harness.run import rounds
from harness.run.plan import Plan, make_plan
from harness.session import Session
from tests.builders.commands import SWEEP, Run, summary
from tests.builders.models import make_llama
from tests.builders.tasks import Files

IMPATIENT = ("-p", "tests.integration.impatient")


@pytest.fixture
def flags(files: Files, tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        "model": str(tiny_model), "data": str(files.test), "train_data": str(files.train),
        "strategy": "zeroshot,fewshot,qlora", "k": "1,2", "seeds": "3,0",
        "results_dir": str(tmp_path / "results"),
    }  # fmt: skip


def ids(plan: Plan) -> list[list[str]]:
    return [[case.short for case in cases] for cases in plan.rounds]


def test_one_seed_of_every_strategy_comes_first(flags: dict[str, Any]) -> None:
    """And before the first adapter is trained, all that needs none."""
    assert ids(make_plan(parse_options(flags))) == [
        ["zeroshot", "fewshot-random-k01-s3", "fewshot-random-k02-s3"],
        ["qlora-s3"],
        ["fewshot-random-k01-s0", "fewshot-random-k02-s0", "qlora-s0"],
    ]


def test_a_models_rounds_stand_together_and_judges_come_last(
    flags: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    other = make_llama(tmp_path / "other-llama")
    flags |= {
        "model": f"{tiny_model},{other}", "strategy": "zeroshot,fewshot", "k": "1",
        "metrics": "perplexity,judge", "judge": str(tiny_model),
    }  # fmt: skip
    plan = make_plan(parse_options(flags))
    said = [{(case.model_name, case.seed) for case in cases} for cases in plan.rounds]
    assert said[:4] == [
        {("tiny-llama", None), ("tiny-llama", 3)},
        {("tiny-llama", 0)},
        {("other-llama", None), ("other-llama", 3)},
        {("other-llama", 0)},
    ]
    assert [case.judging is not None for cases in plan.rounds for case in cases].index(True) == len(
        [case for cases in plan.rounds[:4] for case in cases]
    )
    assert len(plan.rounds) == 5
    together = [case for cases in plan.rounds for case in cases]
    assert sorted(case.id for case in together) == sorted(case.id for case in plan.cases)


def test_a_report_so_far_says_so_and_the_last_one_does_not(
    flags: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "WORTH_A_REPORT", 0.0)
    plan = make_plan(parse_options(flags | {"strategy": "zeroshot,fewshot", "k": "1"}))
    session = Session(plan)
    session.start(plan.cases)
    ended = []
    for case in (case for cases in plan.rounds for case in cases):
        session.measure(case, lambda: 0)
        session.saw(case.id, "computed", None)
        ended.append(session.round_ended())
        if ended[-1]:
            session.report_so_far()
            early = summary(tmp_path)
            page = (tmp_path / "results" / "report.html").read_text("utf-8")
            text = (tmp_path / "results" / "report.md").read_text("utf-8")
    # Zero-shot and the first seed; the second seed's end is the run's.
    assert ended == [False, True, False]
    assert early["so_far"] is True
    assert [cell["label"] for cell in early["cells"]] == ["zeroshot", "fewshot-random-k01"]
    assert early["missing"] == [{"id": plan.cases[-1].id, "reason": "still to be computed"}]
    assert "<h1>adaptbench report, so far</h1>" in page
    assert "So far:</strong> 2 of 3 cells" in page
    assert "**So far:** 2 of 3 cells." in text
    assert "Incomplete" not in text + page

    session.finish()
    last = summary(tmp_path)
    assert last["so_far"] is False
    assert len(last["cells"]) == 3
    assert "so far" not in (tmp_path / "results" / "report.md").read_text("utf-8")
    # The cells stand in the order of the report, whatever order they were measured in.
    assert [cell["id"] for cell in last["cells"]] == [case.id for case in plan.cases]


def test_no_report_so_far_where_nothing_was_computed_or_the_round_was_short(
    flags: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(parse_options(flags | {"strategy": "zeroshot,fewshot", "k": "1"}))

    def ended(state: str) -> list[bool]:
        session = Session(plan)
        found = []
        for case in (case for cases in plan.rounds for case in cases):
            session.saw(case.id, state, None)
            found.append(session.round_ended())
        return found

    assert not any(ended("computed"))  # in less than the seconds that are worth a report
    monkeypatch.setattr(rounds, "WORTH_A_REPORT", 0.0)
    assert ended("computed") == [False, True, False]
    assert not any(ended("cached"))


def test_a_failed_cell_does_not_hold_its_round_up(
    flags: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "WORTH_A_REPORT", 0.0)
    plan = make_plan(parse_options(flags | {"strategy": "zeroshot,fewshot", "k": "1"}))
    session = Session(plan)
    session.saw(plan.cases[0].id, "computed", None)
    session.saw(plan.rounds[0][1].id, None, "no memory")
    assert session.round_ended()


def test_a_kept_log_has_a_line_a_cell_and_the_table_so_far(suites: Run, tmp_path: Path) -> None:
    done = suites(*SWEEP, *IMPATIENT)
    assert done.status == 0, done.out + done.err
    cells = [line for line in done.lines if " s, " in line and " cells" in line]
    order = ["zeroshot", "fewshot-random-k01-s0", "fewshot-random-k02-s0",
             "fewshot-random-k01-s1", "fewshot-random-k02-s1"]  # fmt: skip
    assert [line.partition(":")[0] for line in cells] == [f"tiny-llama-plain-{n}" for n in order]
    assert "rows/s; 1 of 5 cells, about 0:" in cells[0]
    assert cells[-1].endswith("rows/s; 5 of 5 cells")
    (title,) = [line for line in done.lines if "so far" in line]
    assert "adaptbench: so far, 3 of 5 cells: mean perplexity" in title
    assert done.lines.index(title) < done.lines.index(cells[3])
    assert "5 passed" in done.out

    again = suites(*SWEEP, *IMPATIENT)  # from the store: dots, and one table
    assert not [line for line in again.lines if "rows/s" in line or "so far" in line]
    assert any(line.startswith("suites/test_perplexity.py .....") for line in again.lines)


def test_workers_measure_in_rounds_too(suites: Run, tmp_path: Path) -> None:
    done = suites(*SWEEP, *IMPATIENT, "-n", "2")
    assert done.status == 0, done.out + done.err
    assert len([line for line in done.lines if " rows/s; " in line]) == 5
    content = json.loads((tmp_path / "results" / "run.json").read_text("utf-8"))
    assert content["so_far"] is False


def test_a_chosen_part_has_rounds_of_its_own(suites: Run) -> None:
    done = suites(*SWEEP, *IMPATIENT, "-k", "k02")
    assert done.status == 0, done.out + done.err
    assert [line.partition("; ")[2][:6] for line in done.lines if " rows/s; " in line] == [
        "1 of 2", "2 of 2",
    ]  # fmt: skip
