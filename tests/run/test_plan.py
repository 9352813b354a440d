"""What a plan refuses before anything is read, loaded or computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.config.options import parse_options
from harness.errors import MetricError
from harness.run import plan as plan_module
from harness.run.plan import make_plan
from tests.builders.commands import Run
from tests.builders.tasks import Files


def test_an_unknown_metric_is_found_before_anything_is_read(
    files: Files, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Any] = []
    monkeypatch.setattr(plan_module, "read_task", read.append)
    flags = {"model": str(tiny_model), "data": str(files.test), "train_data": str(files.train)}
    with pytest.raises(MetricError) as caught:
        make_plan(parse_options(flags | {"metrics": "perplexity,perplexiti"}))
    line = str(caught.value)
    assert line.startswith(
        "--metrics=perplexiti: no such metric (did you mean 'perplexity'?); known: "
    )
    assert "\n" not in line
    assert read == []


def test_a_known_metric_makes_a_plan(files: Files, tiny_model: Path) -> None:
    flags = {"model": str(tiny_model), "data": str(files.test), "train_data": str(files.train)}
    made = make_plan(parse_options(flags | {"metrics": "perplexity", "strategy": "zeroshot"}))
    assert made.options.metrics == ("perplexity",)
    assert [case.id for case in made.cases] == ["tiny-llama-plain-zeroshot"]


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("data", "test.json: the training rows are those that come with adaptbench, which may be"),
        ("train_data", "train.json: the test rows are those that come with adaptbench, which may"),
    ],
)
def test_rows_of_ones_own_beside_shipped_ones_are_warned_of(
    files: Files, tiny_model: Path, flag: str, says: str
) -> None:
    own = {"data": str(files.test), "train_data": str(files.train)}
    flags = {"model": str(tiny_model), "strategy": "fewshot", "k": "1"}
    (line,) = make_plan(parse_options(flags | {flag: own[flag]})).task.warnings
    assert says in line
    assert make_plan(parse_options(flags | own)).task.warnings == ()
    assert make_plan(parse_options(flags)).task.warnings == ()
    alone = flags | {flag: own[flag], "strategy": "zeroshot"}
    assert make_plan(parse_options(alone)).task.warnings == ()


def test_an_unknown_metric_ends_pytest_with_status_4(suites: Run, tmp_path: Path) -> None:
    done = suites("--strategy=zeroshot", "--metrics=chrff")
    assert done.status == 4, done.out + done.err
    (line,) = [line for line in done.err.splitlines() if line.strip()]
    assert "--metrics=chrff: no such metric (did you mean 'chrf'?); known: " in line
    assert "Traceback" not in done.out + done.err
    assert not (tmp_path / "results").exists()
