"""The examples run: the script, the notebook, and what a third party adds, found by its name."""

from __future__ import annotations

import csv
import html
import importlib.util
import json
import math
import os
import re
import shutil
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import adaptbench
from tests.builders import ROOT
from tests.builders.processes import ForkServer

EXAMPLES = ROOT / "examples"

Python = Callable[..., str]
Typed = Callable[..., adaptbench.Run]

PERPLEXITIES = (2.0, 49.0, 51.0, 1000.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the examples, to be the working directory."""
    leave = shutil.ignore_patterns("__pycache__", "results")
    return Path(shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=leave))


@pytest.fixture
def python(folder: Path, processes: ForkServer) -> Python:
    """Run ``python -m MODULE`` in the folder, and return what it said."""

    def run(module: str, *words: str, **environment: str) -> str:
        env = {"PYTHONPATH": str(ROOT), **environment}
        done = processes.run(module, *words, folder=folder, env=env)
        assert done.status == 0, done.out + done.err
        return done.out

    return run


@pytest.fixture
def run(folder: Path, python: Python, tiny_model: Path) -> Callable[..., adaptbench.Run]:
    """Type ``adaptbench run`` in the folder, and load what it stored."""

    def type_in(*flags: str) -> adaptbench.Run:
        python("adaptbench", "run", f"--model={tiny_model}", "-p", "no:cacheprovider", *flags)
        return adaptbench.load_run(folder / "results")

    return type_in


def example(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, EXAMPLES / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def likelihoods() -> list[adaptbench.Likelihood]:
    return [
        adaptbench.Likelihood(f"r{n}", 3 * math.log(value), 3, 2, 6, 5)
        for n, value in enumerate(PERPLEXITIES)
    ]


def test_the_script(folder: Path, python: Python, tiny_model: Path) -> None:
    out = python("compare", MODEL=str(tiny_model), LIMIT="3")
    assert "fewshot-random-k03" in out
    stored = adaptbench.load_run(folder / "results")
    assert len(stored.measurements) == 5
    assert all(sentence in out for sentence in stored.conclusions)
    assert (folder / out.splitlines()[-1]).name == "report.html"
    assert (folder / out.splitlines()[-1]).is_file()


def test_every_cell_of_the_notebook_but_those_for_a_gpu(
    folder: Path, python: Python, tiny_model: Path
) -> None:
    notebook: Any = json.loads((folder / "gpu.ipynb").read_text("utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    needing = [cell for cell in cells if "gpu" in cell["metadata"].get("tags", ())]
    assert needing == cells[-1:]
    for cell in cells:
        compile("".join(cell["source"]), "cell", "exec")
        assert not cell["outputs"]
    script = "\n".join("".join(cell["source"]) for cell in cells if cell not in needing)
    script += "\nprint(run._repr_html_())\nprint(Page(run.report())._repr_html_()[:20])\n"
    (folder / "cells.py").write_text(script, encoding="utf-8")
    out = python("cells", MODEL=str(tiny_model), LIMIT="3", STEPS="2")
    assert "<td>qlora</td>" in out
    assert out.splitlines()[-1] == '<iframe srcdoc="&lt;'
    assert len(adaptbench.load_run(folder / "results").measurements) == 1 + 4 + 2


def test_the_first_hour_in_a_kernel(
    folder: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every cell as Jupyter runs it; what a reader is told to look at is there to be seen."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.chdir(folder)
    settings = {"MODEL": str(tiny_model), "LIMIT": "3", "STEPS": "1", "SEEDS": "0"}
    places = {"IPYTHONDIR": str(tmp_path / "ipython"), "JUPYTER_RUNTIME_DIR": str(tmp_path / "run")}
    for name, value in {**settings, **places, "PYTHONPATH": str(ROOT)}.items():
        monkeypatch.setenv(name, value)
    book = nbformat.read(folder / "first-hour.ipynb", as_version=4)
    nbformat.validate(book)
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in cells)
    nbclient.NotebookClient(book, timeout=120, kernel_name="python3").execute()

    assert "24 rows" in shown(cells, "adaptbench data", "text")
    assert "<td>fewshot-random-k04</td>" in shown(cells, 'strategy=["zeroshot", "fewshot"], k')
    assert "<td>qlora</td>" in shown(cells, "run = compare(**SWEEP)")
    answers = shown(cells, "predictions=")
    assert all(f"<td>{name}</td>" in answers for name in ("perplexity", "exact", "chrf"))
    predicted = shown(cells, "pandas.read_csv")
    asked = json.loads((folder / "test.json").read_text("utf-8"))[:3]
    assert all(row["id"] in predicted and row["output"] in predicted for row in asked)
    (source,) = re.findall('<iframe srcdoc="([^"]*)"', shown(cells, "<iframe"))
    assert html.unescape(source) == (folder / "results" / "report.html").read_text("utf-8")
    # Four cells of likelihoods and four of answers; every answer stands in a file.
    assert len(adaptbench.load_run(folder / "results").measurements) == 8
    assert len(list((folder / "answers").glob("predictions-*.csv"))) == 4


def shown(cells: list[Any], source: str, kind: str = "text/html") -> str:
    """What the one cell with this in its source shows; of kind ``text``, what it prints."""
    (cell,) = (one for one in cells if source in one.source)
    if kind == "text":
        return "".join(one.text for one in cell.outputs if one.output_type == "stream")
    (result,) = (one for one in cell.outputs if one.output_type == "execute_result")
    return str(result.data[kind])


def test_the_examples_use_public_names_only() -> None:
    for path in (*EXAMPLES.rglob("*.py"), *EXAMPLES.rglob("*.ipynb")):
        assert "harness" not in path.read_text("utf-8")


def test_what_the_metrics_say_of_rows() -> None:
    hard, confidence = (
        example("metrics/hard.py").Hard(),
        example("metrics/confidence.py").Confidence(),
    )
    row = adaptbench.Example("r0", "問", "答")
    seen = likelihoods()
    assert [hard.row(one, row) for one in seen] == [0, 0, 1, 1]
    assert [confidence.row(one, row) for one in seen] == pytest.approx(
        [1 / value for value in PERPLEXITIES]
    )
    assert (hard.worsening, confidence.worsening) == (1, -1)
    rows = [replace(row, id=one.id) for one in seen]
    assert hard.read(seen, rows).aggregates == {"hard": 0.5}


def test_what_the_strategy_shows() -> None:
    shortest = example("strategies/shortest.py").Shortest
    pool = [adaptbench.Example(f"r{n}", "問", "答" * n) for n in (5, 1, 4, 2, 3)]
    shown = shortest(n=3).adapt(pool, 0).demonstrations
    assert [row.id for row in shown] == ["r1", "r2", "r3"]
    assert shortest(n=3).label == "shortest-n03"


# From here on the harness finds the files by their names, in folders of the working directory.


def test_the_strategy_runs_with_its_setting(run: Typed) -> None:
    flags = ("--strategy=zeroshot,shortest", "--set", "shortest.n=[1, 3]", "--limit=3")
    cells = [one.cell for one in run(*flags).measurements.values()]
    assert {(cell.label, cell.k) for cell in cells} == {
        ("zeroshot", 0),
        ("shortest-n01", 1),
        ("shortest-n03", 3),
    }


def test_the_metrics_stand_in_the_reports(folder: Path, run: Typed) -> None:
    flags = ("--strategy=zeroshot", "--metrics=perplexity,hard,confidence", "--report=csv")
    stored = run(*flags, "--limit=6")
    (seen,) = (one.observations for one in stored.measurements.values())
    values = [one.nll / one.n_tokens for one in seen]
    expected = {
        "share of hard rows": statistics.fmean(value > math.log(50) for value in values),
        "mean probability per token": statistics.fmean(math.exp(-value) for value in values),
    }
    with (folder / "results" / "report.csv").open(encoding="utf-8", newline="") as file:
        numbers = [number(text) for line in csv.DictReader(file) for text in line.values()]
    for title, value in expected.items():
        assert title in (folder / "results" / "report.md").read_text("utf-8")
        assert title in (folder / "results" / "report.html").read_text("utf-8")
        assert any(math.isclose(found, value, rel_tol=1e-9) for found in numbers)


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def test_the_task_is_found_by_its_name(run: Typed) -> None:
    stored = run("--task=rhymes", "--strategy=zeroshot,fewshot", "--k=1")
    task = example("tasks/rhymes.py").Rhymes()
    rows, pool = list(task.test()), list(task.train())
    for measurement in stored.measurements.values():
        assert [one.id for one in measurement.observations] == [row.id for row in rows]
        shown = {name for one in measurement.observations for name in one.demo_ids}
        assert shown <= {row.id for row in pool}
    assert all(row.output[-1] and len(row.output) == 5 for row in (*rows, *pool))


def test_the_readme_names_every_file() -> None:
    text = (EXAMPLES / "README.md").read_text("utf-8")
    files = [path for path in EXAMPLES.rglob("*") if path.suffix in (".py", ".ipynb")]
    assert files
    for path in files:
        assert f"`{path.relative_to(EXAMPLES).as_posix()}`" in text, os.fspath(path)
