"""What GitHub Actions is told, and that it is told nothing elsewhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from harness.gate.decision import judge
from harness.gate.verdict import Gate, Verdict
from harness.metrics.perplexity import Perplexity
from harness.report import github
from tests.builders.runs import make_run, report_of
from tests.builders.snapshots import LOGS, rows, run

ON = {"GITHUB_ACTIONS": "true"}


def failing() -> Gate:
    return judge(
        run({"a": rows(LOGS + 0.1), "n": rows(LOGS)}),
        run({"a": rows(LOGS)}),
        0.01,
        False,
        [Perplexity()],
    )


def test_a_regression_is_an_error_annotation() -> None:
    (command,) = github.commands(failing(), ON)
    assert command.startswith("::error title=adaptbench gate::FAIL a: geometric mean +10.52 %25 [")
    assert github.commands(failing(), {}) == []


def test_what_a_name_holds_can_not_end_the_command() -> None:
    verdict = Verdict("a", "WARN", "row 'x\n::error::forged\r%0A'")
    gate = Gate("b", 0.01, False, 1, (verdict,), ())
    (command,) = github.commands(gate, ON)
    assert "\n" not in command
    assert "\r" not in command
    assert "%250A" in command
    assert command.startswith("::warning ")


def test_a_problem_is_one_error() -> None:
    gate = Gate("b.json", 0.01, False, problem="b.json: damaged")
    assert github.commands(gate, ON) == ["::error title=adaptbench gate::b.json: damaged"]


def test_strict_makes_an_inconclusive_cell_an_error() -> None:
    verdict = Verdict("a", "INCONCLUSIVE", "x", fails=True)
    gate = Gate("b", 0.01, True, 1, (verdict,), ())
    assert github.commands(gate, ON)[0].startswith("::error ")
    gate = dataclasses.replace(gate, verdicts=(dataclasses.replace(verdict, fails=False),))
    assert github.commands(gate, ON)[0].startswith("::warning ")


def test_the_job_summary_is_added_to(tmp_path: Path) -> None:
    content = report_of(make_run(tmp_path / "results"), failing())
    path = tmp_path / "summary.md"
    path.write_text("before\n", "utf-8")
    assert github.add_job_summary(content, {"GITHUB_STEP_SUMMARY": str(path)}) is None
    text = path.read_text("utf-8")
    assert text.startswith("before\n# adaptbench: task, 40 test rows")
    assert "## Gate: failed, 1 of 2 cells" in text
    assert "| zeroshot |" in text
    assert github.add_job_summary(content, {}) is None
    trouble = github.add_job_summary(content, {"GITHUB_STEP_SUMMARY": str(tmp_path)})
    assert trouble is not None
    assert "the job summary cannot be written" in trouble


@pytest.mark.parametrize("passed", [True, False])
def test_every_line_of_the_summarys_tables_has_as_many_cells(tmp_path: Path, passed: bool) -> None:
    gate = None if passed else failing()
    content = report_of(make_run(tmp_path / "results"), gate)
    path = tmp_path / "summary.md"
    github.add_job_summary(content, {"GITHUB_STEP_SUMMARY": str(path)})
    tables = [block for block in path.read_text("utf-8").split("\n\n") if block.startswith("| ")]
    assert len(tables) == (1 if passed else 2)
    for table in tables:
        # the header, the rule and at least one row, each cut by as many bars that are not escaped
        sizes = {line.replace(r"\|", "").count("|") for line in table.splitlines()}
        assert len(sizes) == 1, table
        assert len(table.splitlines()) >= 3
