"""Training through the command line: recipes, curves, formats, leakage, ways of scoring."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.builders import ROOT
from tests.builders.commands import Run
from tests.builders.processes import ForkServer
from tests.builders.tasks import Files, row, write_rows

QUICK = ("--strategy=qlora", "--quant=none", "--seeds=0")


def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def summary(tmp_path: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((results(tmp_path) / "summary.json").read_text("utf-8"))
    return found


def test_a_recipe_runs_to_a_report_with_a_curve(suites: Run, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        'strategy = ["zeroshot", "qlora"]\nquant = "none"\nseeds = [0, 1]\n'
        "[qlora]\nr = 4\nnum_train_epochs = 2\neval_steps = 1\n[trial.qlora]\nmax_steps = 2\n"
    )
    done = suites(f"--recipe={recipe}", "--set", "qlora.learning_rate=1e-2", "--limit=3")
    assert done.status == 0, done.out
    assert "qlora: the checkpoint was chosen on the test set" in done.out
    content = summary(tmp_path)
    (training,) = content["trainings"]  # type: ignore[misc]
    assert training["settings"]["learning_rate"] == 1e-2
    assert training["steps"] == 2  # the trial's
    curve = training["runs"][1]["evaluations"]
    assert [point["step"] for point in curve] == [0, 1, 2]
    # The curve's best point is the number in the table.
    best = min(point["mean_perplexity"] for point in curve)
    (cell,) = [c for c in content["cells"] if c["label"] == "qlora" and c["seed"] == 1]  # type: ignore[attr-defined]
    assert cell["mean_perplexity"] == pytest.approx(best, rel=1e-5)
    figure = results(tmp_path) / "figures" / f"curve-{training['slug']}.svg"
    assert figure.read_text("utf-8").startswith("<svg")
    # The recipe beside the report asks for the same cells: nothing is computed again.
    before = {path: path.stat().st_mtime_ns for path in (results(tmp_path) / "cells").iterdir()}
    again = suites(
        f"--recipe={results(tmp_path) / 'recipe.toml'}",
        f"--results-dir={results(tmp_path)}",
        defaults=False,
    )
    assert again.status == 0, again.out
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert len(list((results(tmp_path) / "cells").iterdir())) == len(before)


def test_the_models_write_if_they_are_asked_to(suites: Run, tmp_path: Path) -> None:
    flags = (*QUICK, "--set", "qlora.max_steps=1", "--set", "decoding.greedy.max_new_tokens=5")
    done = suites(*flags, "--metrics=perplexity,chrf", "--limit=2")
    assert done.status == 0, done.out
    first, second = summary(tmp_path)["samples"]  # type: ignore[misc]
    assert (first["id"], second["id"]) == ("test-000", "test-001")
    assert "What the models write" in (results(tmp_path) / "report.md").read_text("utf-8")
    stored = sorted((results(tmp_path) / "cells").iterdir())
    again = suites(*flags, "--limit=2")  # not asked to any more: the likelihoods are as they were
    assert again.status == 0
    assert summary(tmp_path)["samples"] == []
    assert sorted((results(tmp_path) / "cells").iterdir()) == stored


def test_held_out_rows_choose_the_checkpoint(suites: Run, tmp_path: Path) -> None:
    done = suites(*QUICK, "--select-on=holdout")
    assert done.status == 0, done.out
    assert "chosen on the test set" not in done.out
    (training,) = summary(tmp_path)["trainings"]  # type: ignore[misc]
    assert training["select_on"] == "holdout"
    assert training["holdout"] == 2  # a fifth of twelve
    assert training["rows"] == 10
    assert len(training["runs"][0]["evaluations"]) >= 3


def test_scoring_as_trained_and_merged_trains_once_for_two_workers(
    suites: Run, tmp_path: Path
) -> None:
    """Four cells that need two adapters."""
    done = suites(
        "--strategy=qlora", "--quant=none", "--seeds=0,1", "--score-as=trained,merged", "-n2"
    )
    assert done.status == 0, done.out
    assert "qlora-merged" in done.out
    adapters = [p for p in (results(tmp_path) / "adapters").iterdir() if p.is_dir()]
    assert len(adapters) == 2
    cells = summary(tmp_path)["cells"]
    values = {(c["label"], c["seed"]): c["mean_perplexity"] for c in cells}  # type: ignore[attr-defined]
    for seed in (0, 1):
        # Without quantization, merging costs nothing but rounding.
        assert values["qlora", seed] == pytest.approx(values["qlora-merged", seed], rel=1e-5)
    trained = {json.loads(p.read_text())["training"]["seconds"] for p in cell_files(tmp_path)}
    assert len(trained) == 2  # both cells of a seed tell of one training


def cell_files(tmp_path: Path) -> list[Path]:
    return sorted((results(tmp_path) / "cells").iterdir())


def test_a_training_run_that_is_killed_is_resumed(
    files: Files, tiny_model: Path, tmp_path: Path, processes: ForkServer
) -> None:
    def arguments(folder: str) -> list[str]:
        return [
            *("suites/", "-p", "no:cacheprovider", *QUICK),
            f"--model={tiny_model}",
            f"--data={files.test}",
            f"--train-data={files.train}",
            f"--results-dir={tmp_path / folder}",
            *("--set", "qlora.num_train_epochs=40", "--set", "qlora.eval_steps=0.25"),
            *("--set", "qlora.save_steps=5"),
        ]

    assert processes.run("pytest", *arguments("whole")).status == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *arguments("killed")],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").glob("adapters/*.work/checkpoint-*/complete.json")):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not list((tmp_path / "killed").glob("adapters/*/adapter_model.safetensors"))
    assert processes.run("pytest", *arguments("killed")).status == 0
    first, second = (
        json.loads((tmp_path / folder / "summary.json").read_text())["cells"][0]["mean_perplexity"]
        for folder in ("whole", "killed")
    )
    assert second == pytest.approx(first, rel=1e-4)
    (record,) = (tmp_path / "killed").glob("adapters/*/adaptbench-training.json")
    assert json.loads(record.read_text())["resumed_from"] >= 5
    reports = [(tmp_path / folder / "report.md").read_bytes() for folder in ("whole", "killed")]
    assert reports[0] == reports[1]
    assert not list((tmp_path / "killed" / "adapters").glob("*.work"))


def test_a_training_row_in_the_test_set_is_an_error(
    suites: Run, files: Files, tmp_path: Path
) -> None:
    test = json.loads(files.test.read_text("utf-8"))
    train = [*(row(i, 9, "train") for i in range(8)), test[2] | {"id": "copied"}]
    leaky = write_rows(tmp_path / "leaky.json", train)
    flags = (*QUICK, f"--train-data={leaky}")
    refused = suites(*flags)
    assert refused.status == 4
    assert "training row 'copied' is row 'test-002'" in refused.err
    assert "--allow-leakage" in refused.err
    assert not results(tmp_path).exists()
    # Nothing is trained on it here, so it is left out, and the report names it.
    shown = suites("--strategy=fewshot", "--k=1", "--seeds=0", f"--train-data={leaky}")
    assert shown.status == 0
    assert "1 training rows left out" in shown.out
    allowed = suites(*flags, "--allow-leakage")
    assert allowed.status == 0, allowed.out
    assert "1 training rows in the test set" in allowed.out
    (training,) = summary(tmp_path)["trainings"]  # type: ignore[misc]
    assert training["rows"] == 9
    assert training["pool"] == 9


@pytest.mark.parametrize("kind", ["csv", "conversations"])
def test_other_formats_are_trained_on(suites: Run, files: Files, tmp_path: Path, kind: str) -> None:
    rows = json.loads(files.train.read_text("utf-8"))
    if kind == "csv":
        path = tmp_path / "train.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["instruction", "input", "output"])
            writer.writerows([r["instruction"], "", r["output"]] for r in rows)
    else:
        path = tmp_path / "train.jsonl"
        lines = [
            {
                "conversations": [
                    {"from": "human", "value": r["instruction"]},
                    {"from": "gpt", "value": r["output"]},
                ],
                "score": i,
            }
            for i, r in enumerate(rows)
        ]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        path.write_text(text, encoding="utf-8")
    done = suites(*QUICK, f"--train-data={path}", "--set", "qlora.max_steps=2")
    assert done.status == 0, done.out
    (training,) = summary(tmp_path)["trainings"]  # type: ignore[misc]
    assert training["rows"] == 12
    if kind == "conversations":
        again = suites(*QUICK, f"--train-data={path}", "--format=instruction")
        assert again.status == 4
        assert str(path) in again.err


def test_a_subset_and_a_curriculum(suites: Run, tmp_path: Path) -> None:
    done = suites(
        *QUICK,
        "--set",
        "subset.top=6",
        "--set",
        "curriculum.levels=2",
        "--set",
        "curriculum.by.length=-1",
    )
    assert done.status == 0, done.out
    (training,) = summary(tmp_path)["trainings"]  # type: ignore[misc]
    assert training["rows"] == 6
    assert len(training["ids"]) == 6
    assert [stage["rows"] for stage in training["stages"]] == [3, 3]
    wrong = suites(*QUICK, "--set", "subset.top=6", "--set", "subset.by=score")
    assert wrong.status == 4
    assert "has no score" in wrong.err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--set", "qlora.lerning_rate=1"), "(did you mean 'learning_rate'?)"),
        (("--set", "qlora"), "--set qlora: expected KEY=VALUE"),
        (("--recipe=nowhere.toml",), "--recipe=nowhere.toml: no such file"),
        (("--score-as=melted",), "--score-as=melted: expected one of trained, merged"),
        (("--select-on=train",), "--select-on=train: expected one of test, holdout"),
        (("--format=xml",), "--format=xml: expected one of auto"),
        (("--set", "subset.top=99"), "the training pool has only 12 rows"),
    ],
)
def test_a_mistake_is_one_line(
    suites: Run, tmp_path: Path, flags: tuple[str, ...], says: str
) -> None:
    done = suites(*QUICK, *flags)
    assert done.status == 4
    assert says in done.err
    assert "Traceback" not in done.out + done.err
    assert not results(tmp_path).exists()


def test_layers_that_are_not_there_are_one_line(suites: Run, tmp_path: Path) -> None:
    done = suites(*QUICK, "--set", 'qlora.target_modules=["no_such"]')
    assert done.status == 1
    assert "qlora.target_modules=('no_such',)" in done.out
    assert "Traceback" not in done.out


def adapters(tmp_path: Path) -> list[dict[str, object]]:
    files = sorted((results(tmp_path) / "adapters").glob("*/adaptbench-training.json"))
    return [json.loads(path.read_text("utf-8")) for path in files]


def test_seeds_and_settings_of_a_run_are_trained_in_one_batch(suites: Run, tmp_path: Path) -> None:
    """The first cell trains what the others need; those that are not run are not trained."""
    flags = (
        *("--strategy=qlora", "--quant=none", "--limit=2", "--set", "qlora.max_steps=2"),
        *("--set", "qlora.learning_rate=[1e-3,1e-2]", "--set", "qlora.together=8"),
    )
    some = suites(*flags, "--seeds=0,1,2", "-k", "s0 or s1", "--score-as=trained,merged")
    assert some.status == 0, some.out
    trained = adapters(tmp_path)
    assert [record["together"] for record in trained] == [4] * 4
    assert "up to 4 adapters in one batch" in (results(tmp_path) / "report.md").read_text("utf-8")
    whole = suites(*flags, "--seeds=0,1,2")
    assert whole.status == 0, whole.out
    assert sorted(record["together"] for record in adapters(tmp_path)) == [2, 2, 4, 4, 4, 4]


def test_a_seed_that_diverges_fails_alone(suites: Run, tmp_path: Path) -> None:
    done = suites(
        *(
            "--strategy=qlora",
            "--quant=none",
            "--limit=2",
            "--seeds=0",
            "--set",
            "qlora.together=8",
        ),
        *("--set", "qlora.learning_rate=[1e-3,1e30]", "--set", "qlora.max_grad_norm=0"),
        *("--set", "qlora.max_steps=4", "--set", "qlora.lr_scheduler_type=constant"),
    )
    assert done.status == 1
    assert "1 failed, 1 passed" in done.out
    assert "training on tiny-llama: the loss is nan at step" in done.out
    (record,) = adapters(tmp_path)
    assert record["settings"]["learning_rate"] == 1e-3  # type: ignore[index]
    assert len(record["losses"]) == 4  # type: ignore[arg-type]
