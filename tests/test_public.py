"""``import adaptbench`` from a script or a notebook: names, a sweep, a stored run."""

from __future__ import annotations

import dataclasses
import html
import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import adaptbench
from harness.cli import PASSED, main
from tests.builders import ROOT
from tests.builders.commands import Run
from tests.builders.tasks import Files

SWEEP: dict[str, Any] = {"strategy": "zeroshot,fewshot", "k": [1, 2], "seeds": (0,)}


@pytest.fixture
def given(files: Files, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)  # where no pyproject.toml is
    return {
        "model": tiny_model,
        "data": files.test,
        "train_data": files.train,
        "results_dir": tmp_path / "results",
        "progress": False,
        **SWEEP,
    }


def cold(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_public_name_is_there_and_documented() -> None:
    assert len(adaptbench.__all__) in range(20, 35)
    assert list(adaptbench.__all__) == sorted(adaptbench.__all__)
    for name in adaptbench.__all__:
        value = getattr(adaptbench, name)
        if name != "__version__":
            assert value.__doc__
            assert f"`{name}`" in (adaptbench.__doc__ or "")
    with pytest.raises(AttributeError, match="no attribute 'Likelyhood'"):
        _ = adaptbench.Likelyhood


def test_importing_it_imports_the_standard_library_only() -> None:
    code = "import sys; before = set(sys.modules); import adaptbench; dir(adaptbench)\n"
    code += "adaptbench.Example, adaptbench.Strategy, adaptbench.DataError\n"
    code += "names = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
    code += "print(sorted(names - set(sys.stdlib_module_names)))"
    assert cold(code).strip() == "['adaptbench', 'harness']"


def test_a_sweep_gives_what_pytest_gives(given: Any, suites: Run, tmp_path: Path) -> None:
    run = adaptbench.compare(**given)
    done = suites(
        "--strategy=zeroshot,fewshot", "--k=1,2", "--seeds=0", f"--results-dir={tmp_path / 'other'}"
    )
    assert done.status == 0, done.out
    theirs = adaptbench.load_run(tmp_path / "other")
    assert len(run.measurements) == 3
    assert not run.missing
    for name, measurement in run.measurements.items():
        assert measurement.cell.key == theirs.measurements[name].cell.key
        assert measurement.observations == theirs.measurements[name].observations
    assert run.conclusions == theirs.conclusions
    summary = json.loads((tmp_path / "other" / "summary.json").read_text("utf-8"))
    assert run.conclusions == summary["conclusions"]
    assert repr(run) in done.out.replace(str(tmp_path), "")  # the table of the terminal


def test_a_second_call_computes_nothing(given: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.run.bench import Bench

    first = adaptbench.compare(**given)
    monkeypatch.setattr(Bench, "compute", lambda *_: pytest.fail("computed again"))
    again = adaptbench.compare(**given)
    assert again.measurements == first.measurements


def test_what_a_run_says(given: Any, tmp_path: Path) -> None:
    run = adaptbench.compare(**given)
    table = run.table
    assert list(table["label"]) == ["zeroshot", "fewshot-random-k01", "fewshot-random-k02"]
    (zeroshot,) = (m for m in run.measurements.values() if m.cell.label == "zeroshot")
    rows = [math.exp(one.nll / one.n_tokens) for one in zeroshot.observations]
    assert table["mean"][0] == pytest.approx(sum(rows) / len(rows))
    page = run.report()
    assert page == tmp_path / "results" / "report.html"
    assert "zeroshot" in page.read_text("utf-8")
    elsewhere = run.report(tmp_path / "elsewhere")
    assert elsewhere == tmp_path / "elsewhere" / "report.html"
    assert elsewhere.with_suffix(".md").is_file()


def test_predictions_are_written(given: Any, tmp_path: Path) -> None:
    asked = {**given, "metrics": "exact", "decode": "greedy:max_new_tokens=2"}
    run = adaptbench.compare(**asked, predictions=tmp_path / "out" / "answers.json")
    assert len(run.measurements) == 3
    for name, one in run.measurements.items():
        text = (tmp_path / "out" / f"answers-{name}.json").read_text("utf-8")
        assert json.loads(text) == [{"id": row.id, "output": row.text} for row in one.answers]


def test_a_stored_run_needs_no_torch(given: Any) -> None:
    run = adaptbench.compare(**given)
    loaded = adaptbench.load_run(given["results_dir"])
    assert (repr(loaded), loaded.conclusions) == (repr(run), run.conclusions)
    code = "import sys, adaptbench\n"
    code += f"run = adaptbench.load_run({str(given['results_dir'])!r})\n"
    code += "run.table, run.conclusions, repr(run), run._repr_html_(), run.report()\n"
    code += "print([name for name in ('torch', 'transformers', 'pytest') if name in sys.modules])"
    assert cold(code).strip() == "[]"


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)


def test_a_notebook_shows_sentences_and_an_escaped_table(given: Any) -> None:
    odd = "<img src=x>"
    given["strategy"] = "zeroshot"
    del given["k"]
    run = adaptbench.compare(**given)
    assert "<td>zeroshot</td>" in run._repr_html_()
    known = run._content
    section = dataclasses.replace(known.headline, conclusions=(f"{odd} & more",))
    run.__dict__["_content"] = dataclasses.replace(
        known,
        sections=(section,),
        groups=(dataclasses.replace(known.groups[0], label=odd),),
    )
    shown = run._repr_html_()
    assert set(Tags(shown).tags) <= {"p", "table", "thead", "tbody", "tr", "th", "td"}
    assert html.escape(odd) in shown
    assert f"{html.escape(odd)} &amp; more" in shown


def test_a_notebook_names_metrics_and_shows_the_intervals_of_the_report(given: Any) -> None:
    asked = {**given, "k": [1], "seeds": [0, 1, 2], "decode": "greedy:max_new_tokens=2"}
    run = adaptbench.compare(**asked, metrics="perplexity,exact")
    lines = [re.findall(r"<td>(.*?)</td>", line) for line in run._repr_html_().split("<tr>")]
    shown = {(cells[0], cells[1]): cells for cells in lines if cells}
    table = run.table.set_index(["metric", "label"])
    assert set(shown) == set(table.index)
    for label, kind in (("zeroshot", "mean"), ("fewshot-random-k01", "mean_seeds")):
        of_report = table.loc[("perplexity", label)]
        ends = [f"{of_report[f'{kind}_{end}']:.4g}" for end in ("low", "high")]
        assert shown["perplexity", label][-3:-1] == ends


def test_settings_reach_the_training(given: Any) -> None:
    settings = {
        "qlora.max_steps": 2,
        "qlora.lr_scheduler_type": "linear",
        "qlora.target_modules": ["q_proj"],
    }
    del given["k"]
    run = adaptbench.compare(**given | {"strategy": "qlora", "quant": "none"}, settings=settings)
    (measurement,) = run.measurements.values()
    record: Any = measurement.training
    steps, used = (
        (record["steps"], record["settings"])
        if isinstance(record, dict)
        else (record.steps, record.settings)
    )
    assert steps == 2
    assert used["lr_scheduler_type"] == "linear"
    assert list(used["target_modules"]) == ["q_proj"]


def test_the_gate_of_a_run(given: Any, tmp_path: Path) -> None:
    run = adaptbench.compare(**given)
    baseline = tmp_path / "baseline.json"
    written = main(
        ["gate", str(given["results_dir"]), f"--baseline={baseline}", "--update-baseline"]
    )
    assert written == PASSED
    verdict = run.gate(baseline, "1%")
    assert (verdict.passed, verdict.compared, verdict.tolerance) == (True, 3, 0.01)
    assert "baseline.json" in run.report(gate=verdict).with_suffix(".md").read_text("utf-8")
    missing = run.gate(tmp_path / "none.json")
    assert not missing.passed
    with pytest.raises(adaptbench.OptionError, match="tolerance='2': expected a share"):
        run.gate(baseline, "2")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"limits": 3}, r"compare\(limits=…\): no such argument \(did you mean 'limit'\?\)"),
        ({"set": ["a=1"]}, "expected settings="),
        ({"baseline": "b.json"}, r"by Run\.gate\(\)"),
        ({"limit": 0}, "--limit=0: expected a whole number from 1"),
        ({"k": {1: 2}}, "expected a text, a number or a list, found dict"),
        ({"settings": {"qlora.rank": 2}}, "rank"),
        ({"settings": {"qlora.r": object()}}, "settings: expected a text, a number or a list"),
        ({"strategy": ["zeroshot", "fewshoot"]}, "no such strategy"),
        ({"model": "no/such-model-anywhere"}, "no/such-model-anywhere"),
    ],
)
def test_wrong_arguments_are_one_line(given: Any, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(adaptbench.AdaptbenchError, match=said) as caught:
        adaptbench.compare(**given | wrong)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(adaptbench.StoreError, match=re.escape(str(tmp_path))):
        adaptbench.load_run(tmp_path)


def test_ctrl_c_keeps_what_is_finished(given: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.run.bench import Bench

    plain, calls = Bench.measure, []

    def measure(self: Bench, *arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return plain(self, *arguments)

    monkeypatch.setattr(Bench, "measure", measure)
    with pytest.raises(KeyboardInterrupt):
        adaptbench.compare(**given)
    run = adaptbench.load_run(given["results_dir"])
    assert [one.cell.label for one in run.measurements.values()] == ["zeroshot"]
    assert list(run.missing.values()) == ["not run", "not run"]


def test_a_cell_that_fails_is_missing_and_the_others_are_measured(
    given: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.run.bench import Bench

    plain = Bench.measure

    def measure(self: Bench, case: Any, *more: Any) -> Any:
        if case.label == "fewshot-random-k01":
            raise adaptbench.PromptError("the row is too long")
        return plain(self, case, *more)

    monkeypatch.setattr(Bench, "measure", measure)
    run = adaptbench.compare(**given | {"progress": True})
    assert len(run.measurements) == 2
    assert [*run.missing.values()] == ["the row is too long"]
    assert "1 of 3 cells are missing; tiny-llama" in repr(run)
    told = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in told if " of 3:" in line] == [
        "1 of 3", "2 of 3", "3 of 3",
    ]  # fmt: skip
    with pytest.raises(adaptbench.PromptError, match="too long"):
        adaptbench.compare(**given | {"strategy": "fewshot", "k": 1})


def test_defaults_stand_in_pyproject(given: Any, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.adaptbench]\nlimit = 2\n", encoding="utf-8")
    run = adaptbench.compare(**given | {"strategy": "zeroshot"})
    assert [len(one.observations) for one in run.measurements.values()] == [2]


def test_a_run_without_any_cell_can_be_looked_at(
    given: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.run.bench import Bench

    def measure(self: Bench, *arguments: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Bench, "measure", measure)
    with pytest.raises(KeyboardInterrupt):
        adaptbench.compare(**given)
    run = adaptbench.load_run(given["results_dir"])
    gap = "3 of 3 cells are missing; tiny-llama-plain-zeroshot: not run"
    assert repr(run) == gap
    assert gap in run._repr_html_()
    assert (run.measurements, run.conclusions, len(run.table)) == ({}, [], 0)
    assert run.report().is_file()
