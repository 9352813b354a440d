"""``pytest suites/`` as a user runs it, in a process of its own, on a tiny model."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Files, Run, make_llama, write_rows

SWEEP = ("--strategy=zeroshot,fewshot", "--k=1,2", "--seeds=0,1")


def summary(tmp_path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((tmp_path / "results" / "summary.json").read_text("utf-8"))
    return value


def test_a_run_and_its_repetition(suites: Run, tmp_path: Path) -> None:
    first = suites(*SWEEP)
    assert first.status == 0, first.out + first.err
    assert "5 passed" in first.out
    assert "adaptbench: 5 cells · data/test, 5 rows · tiny-llama, float32 on cpu" in first.out
    assert "fewshot-random-k02" in first.out
    assert "± n/a" in first.out  # zero-shot has no spread
    content = summary(tmp_path)
    assert [cell["cached"] for cell in content["cells"]] == [False] * 5
    assert [group["n_seeds"] for group in content["groups"]] == [1, 2, 2]
    for cell in content["cells"]:
        body = json.loads((tmp_path / "results" / cell["file"]).read_text("utf-8"))
        assert body["key"] == cell["key"]
        assert len(body["scores"]) == 5
        assert all(len(score["demo_ids"]) == cell["k"] for score in body["scores"])
    reports = {
        name: (tmp_path / "results" / name).read_bytes() for name in ("report.md", "report.html")
    }

    # Again: nothing is computed, torch is not even imported, the reports are the same bytes.
    again = suites(*SWEEP, "-p", "tests.integration.no_torch")
    assert again.status == 0, again.out + again.err
    assert [cell["cached"] for cell in summary(tmp_path)["cells"]] == [True] * 5
    for name, content_before in reports.items():
        assert (tmp_path / "results" / name).read_bytes() == content_before


def test_collect_only_imports_no_torch_and_writes_nothing(suites: Run, tmp_path: Path) -> None:
    done = suites("--collect-only", "-q", "-p", "tests.integration.no_torch")
    assert done.status == 0, done.out + done.err
    ids = [line for line in done.lines if "::" in line]
    assert len(ids) == 1 + 9 + 3
    assert all(line.isascii() for line in ids)
    assert ids[0].endswith("::test_mean_perplexity[tiny-llama-plain-zeroshot]")
    assert not (tmp_path / "results").exists()


def test_numbers_equal_a_script_that_uses_the_harness_without_pytest(
    suites: Run, files: Files, tiny_model: Path, tmp_path: Path
) -> None:
    from harness.bench import Bench
    from harness.options import parse_options
    from harness.plan import make_plan
    from harness.stats import summarize

    suites(*SWEEP)
    options = parse_options(
        {
            "strategy": "zeroshot,fewshot", "k": "1,2", "seeds": "0,1", "model": str(tiny_model),
            "data": str(files.test), "train_data": str(files.train),
            "results_dir": str(tmp_path / "script"),
        }
    )  # fmt: skip
    bench = Bench(make_plan(options))
    found = {
        case.id: summarize(bench.measure(case).measurement.scores).mean_perplexity
        for case in bench.plan.cases
    }
    expected = {cell["id"]: cell["mean_perplexity"] for cell in summary(tmp_path)["cells"]}
    assert found == pytest.approx(expected, rel=1e-6)


def test_what_changes_the_number_is_computed_again(
    suites: Run, files: Files, tiny_model: Path, tmp_path: Path
) -> None:
    one = ("--strategy=zeroshot",)
    suites(*one)

    def cached(*flags: str) -> bool:
        done = suites(*one, *flags)
        assert done.status == 0, done.out + done.err
        value: bool = summary(tmp_path)["cells"][0]["cached"]
        return value

    assert cached()
    assert not cached("--prompt=role")
    assert not cached("--dtype=bfloat16")
    assert not cached("--scorer=reference")
    assert not cached("--limit=3")
    assert not cached("--fresh")
    assert cached()
    moved = shutil.copytree(tiny_model, tmp_path / "renamed")
    assert cached(f"--model={moved}")  # the same bytes under another name
    other = make_llama(tmp_path / "other", seed=1)
    assert not cached(f"--model={other}")
    rows = json.loads(files.test.read_text("utf-8"))
    rows[0]["output"] += "也"
    write_rows(files.test, rows)
    assert not cached()


def test_selection_last_failed_stop_and_junit(suites: Run, tmp_path: Path, files: Files) -> None:
    chosen = suites(*SWEEP, "-k", "k01 and s1")
    assert "1 passed, 4 deselected" in chosen.out
    assert "4 of 5 cells are missing" in chosen.out

    # One test row too long for the k-shot prompts of this model: the few-shot cells fail.
    short = make_llama(tmp_path / "short", max_position_embeddings=130)
    flags = (*SWEEP, f"--model={short}", f"--junitxml={tmp_path / 'junit.xml'}")
    failing = suites(*flags)
    assert failing.status == 1
    assert "1 passed" in failing.out
    assert "4 failed" in failing.out
    line = next(line for line in failing.lines if "do not fit" in line)
    assert "row 'test-" in line
    assert "demonstrations" in line
    assert "Traceback" not in failing.out
    cases = ET.parse(tmp_path / "junit.xml").getroot().iter("testcase")
    by_name = {case.get("name"): case for case in cases}
    good = by_name["test_mean_perplexity[short-plain-zeroshot]"]
    properties = {p.get("name"): p.get("value") for p in good.iter("property")}
    assert properties["adaptbench_state"] == "computed"
    assert float(properties["mean_perplexity"] or "nan") > 1
    content = summary(tmp_path)
    assert len(content["missing"]) == 4
    assert "do not fit" in content["missing"][0]["reason"]
    assert "do not fit" in (tmp_path / "results" / "report.md").read_text("utf-8")

    stopped = suites(*SWEEP, f"--model={short}", "-x")
    assert "1 failed" in stopped.out


def test_last_failed_runs_the_failed_cell_only(suites: Run, tmp_path: Path) -> None:
    cache = ("-p", "cacheprovider", "-o", f"cache_dir={tmp_path / 'pytest-cache'}")
    short = make_llama(tmp_path / "short", max_position_embeddings=130)
    flags = (*SWEEP, f"--model={short}", *cache)
    suites(*flags)
    again = suites(*flags, "--lf")
    assert "4 failed" in again.out
    assert "passed" not in again.lines[-1]
    # The report still covers the whole plan.
    assert len(summary(tmp_path)["cells"]) == 1
    assert len(summary(tmp_path)["missing"]) == 4


BAD = {
    "unknown strategy": (["--strategy=oneshot"], "--strategy=oneshot: no such strategy"),
    "bad k": (["--k=0"], "--k=0: expected a whole number from 1 to 99"),
    "k beyond the pool": (["--k=50"], "--k=50: the training pool has only 12 rows"),
    "no data": (["--data=/nowhere.json"], "/nowhere.json: no such file"),
    "no model": (["--model=./nowhere"], "--model=./nowhere: no such folder"),
    "no adapter": (["--adapter=/nowhere", "--strategy=zeroshot"], "--adapter=/nowhere: no such"),
    "adapter and training": (["--strategy=qlora", "--adapter=ADAPTER"], "cannot be combined"),
    "no prompt": (["--prompt=plane"], "did you mean 'plain'"),
    "no cuda": (["--device=cuda"], "--device=cuda: no usable CUDA device"),
    "results a file": (["--results-dir=FILE", "--strategy=zeroshot"], "cannot be written"),
}


@pytest.mark.parametrize(("flags", "says"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_line_and_status_4(
    suites: Run, tmp_path: Path, flags: list[str], says: str
) -> None:
    (tmp_path / "a-file").write_text("x")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    (adapter / "adapter_model.safetensors").write_text("")
    flags = [
        flag.replace("FILE", str(tmp_path / "a-file")).replace("ADAPTER", str(adapter))
        for flag in flags
    ]
    env = {"CUDA_VISIBLE_DEVICES": ""}
    done = suites(*flags, env=env)
    assert done.status == 4, done.out + done.err
    lines = [line for line in done.err.splitlines() if line.strip()]
    assert len(lines) == 1
    assert says in lines[0]
    assert "Traceback" not in done.out + done.err


def test_an_unreachable_hub_is_one_line(suites: Run, tmp_path: Path) -> None:
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = suites("--model=owner/some-model@abc", "--strategy=zeroshot", env=env)
    assert done.status == 4
    (line,) = [line for line in done.err.splitlines() if line.strip()]
    assert "--model=owner/some-model@abc: not in the local cache, and the hub cannot" in line


def test_an_adapter_that_does_not_fit_fails_its_cell_in_one_line(
    suites: Run, tmp_path: Path
) -> None:
    wide = make_llama(tmp_path / "wide", hidden_size=64)
    assert suites("--strategy=qlora", "--seeds=0", "--quant=none").status == 0
    (adapter,) = filter(Path.is_dir, (tmp_path / "results" / "adapters").iterdir())
    fits = suites("--strategy=zeroshot", f"--adapter={adapter}")
    assert fits.status == 0, fits.out
    assert summary(tmp_path)["cells"][0]["model"] == f"tiny-llama+{adapter.name}"
    done = suites("--strategy=zeroshot", f"--adapter={adapter}", f"--model={wide}")
    assert done.status == 1
    assert any("does not fit; it was trained for" in line for line in done.lines)
    assert "Traceback" not in done.out


def test_two_workers_give_the_same_numbers_and_one_report(suites: Run, tmp_path: Path) -> None:
    pytest.importorskip("xdist")
    alone = suites(*SWEEP, f"--results-dir={tmp_path / 'alone'}")
    assert alone.status == 0
    shared = suites(*SWEEP, "-n", "2")
    assert shared.status == 0, shared.out + shared.err
    assert shared.out.count("mean perplexity, lower is better") == 1
    assert (tmp_path / "results" / "report.md").read_bytes() == (
        tmp_path / "alone" / "report.md"
    ).read_bytes()
    assert [cell["cached"] for cell in summary(tmp_path)["cells"]] == [False] * 5


def test_a_model_out_of_reach_under_workers(suites: Run, tmp_path: Path) -> None:
    pytest.importorskip("xdist")
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = suites("--model=owner/some-model", "--strategy=zeroshot", "-n", "2", env=env)
    assert done.status == 1
    assert any("--model=owner/some-model: not in the local cache" in line for line in done.lines)
    assert "Traceback" not in done.out
    assert "INTERNALERROR" not in done.out + done.err


def test_fresh_does_not_report_an_old_number_for_a_failure(
    suites: Run, files: Files, tmp_path: Path
) -> None:
    (tmp_path / "failing.py").write_text(
        "import harness.scoring as s\nfrom harness.errors import ModelError\n"
        "def fail(*a):\n    raise ModelError('no luck')\ns.SCORERS['fast'] = fail\n"
    )
    assert suites("--strategy=zeroshot").status == 0
    env = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = suites("--strategy=zeroshot", "--fresh", "-p", "failing", env=env)
    assert done.status == 1
    assert summary(tmp_path)["cells"] == []
    assert summary(tmp_path)["missing"][0]["reason"] == "no luck"


def test_a_failure_in_a_worker_reaches_the_report(suites: Run, tmp_path: Path) -> None:
    pytest.importorskip("xdist")
    short = make_llama(tmp_path / "short", max_position_embeddings=130)
    done = suites(*SWEEP, f"--model={short}", "-n", "2")
    assert done.status == 1
    assert {"do not fit" in entry["reason"] for entry in summary(tmp_path)["missing"]} == {True}


SLOW = """
import time

import harness.scoring as scoring

plain = scoring.SCORERS["fast"]


def slow(loaded, rows, progress):
    time.sleep(0.7)
    return plain(loaded, rows, progress)


scoring.SCORERS["fast"] = slow
"""


def start(suites_flags: list[str], tmp_path: Path) -> subprocess.Popen[str]:
    (tmp_path / "slow_scorer.py").write_text(SLOW)
    command = [sys.executable, "-m", "pytest", "suites/", "-p", "no:cacheprovider"]
    return subprocess.Popen(
        [*command, "-p", "slow_scorer", *suites_flags],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell starts background jobs with SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for_cells(results: Path, count: int, process: subprocess.Popen[str]) -> list[Path]:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        found = sorted((results / "cells").glob("*.json"))
        if len(found) >= count:
            return found
        time.sleep(0.02)
    raise AssertionError(f"no {count} cells: {process.communicate()[0]}")


def flags_for(files: Files, model: Path, results: Path) -> list[str]:
    return [
        *SWEEP, f"--model={model}", f"--data={files.test}", f"--train-data={files.train}",
        f"--results-dir={results}",
    ]  # fmt: skip


def test_killed_and_started_again(
    suites: Run, files: Files, tiny_model: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    process = start(flags_for(files, tiny_model, results), tmp_path)
    done = wait_for_cells(results, 2, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    stamps = {path: path.stat().st_mtime_ns for path in done}
    assert not (results / "report.md").exists()

    assert suites(*SWEEP).status == 0
    assert {path: path.stat().st_mtime_ns for path in done} == stamps  # not computed again
    assert not list(results.rglob(".*.tmp"))
    assert sum(cell["cached"] for cell in summary(tmp_path)["cells"]) == len(done)
    whole = suites(*SWEEP, f"--results-dir={tmp_path / 'whole'}")
    assert whole.status == 0
    for name in ("report.md", "report.html"):
        assert (results / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_ctrl_c_keeps_finished_cells_and_reports_what_is_missing(
    files: Files, tiny_model: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    process = start(flags_for(files, tiny_model, results), tmp_path)
    wait_for_cells(results, 2, process)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "KeyboardInterrupt" in out
    assert "cells are missing" in out
    content = summary(tmp_path)
    assert 2 <= len(content["cells"]) < 5
    assert len(content["cells"]) + len(content["missing"]) == 5
    assert {entry["reason"] for entry in content["missing"]} == {"not run"}
    assert not list(results.rglob(".*.tmp"))


THEIRS = '''
from dataclasses import dataclass
from harness.core import Adaptation, Strategy

@dataclass(frozen=True)
class Shortest(Strategy):
    """The two shortest rows of the pool."""
    name = "shortest"
    def adapt(self, pool, seed):
        return Adaptation(tuple(sorted(pool, key=lambda row: (len(row.output), row.id))[:2]))
'''


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the project to drop files into."""
    copy = tmp_path / "checkout"
    for name in ("harness", "strategies", "suites", "templates"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, copy / name)
    return copy


def run_in(checkout: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "suites/", "-p", "no:cacheprovider", *flags]
        if sys.version_info >= (3, 11)
        else [sys.executable, "-m", "pytest", "suites/", "-p", "no:cacheprovider", *flags],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_users_strategy_runs_by_its_name(checkout: Path, files: Files, tiny_model: Path) -> None:
    (checkout / "strategies" / "shortest.py").write_text(THEIRS)
    done = run_in(
        checkout, "--strategy=shortest", f"--model={tiny_model}", f"--data={files.test}",
        f"--train-data={files.train}",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((checkout / "results" / "summary.json").read_text("utf-8"))
    (cell,) = content["cells"]
    assert (cell["strategy"], cell["k"], cell["seed"]) == ("shortest", 2, None)


def test_a_broken_strategy_file_is_one_line(checkout: Path) -> None:
    (checkout / "strategies" / "mine.py").write_text("import no_such_module\n")
    fine = run_in(checkout, "--strategy=zeroshot", "--collect-only", "-q")
    assert fine.returncode == 0  # nobody asked for it
    done = run_in(checkout, "--strategy=mine")
    assert done.returncode == 4
    (line,) = [line for line in done.stderr.splitlines() if line.strip()]
    assert "strategies/mine.py: cannot be imported: ModuleNotFoundError" in line


def test_defaults_come_from_pyproject(checkout: Path, files: Files, tiny_model: Path) -> None:
    pyproject = checkout / "pyproject.toml"
    text = pyproject.read_text("utf-8")
    own = (
        f'[tool.adaptbench]\nmodel = "{tiny_model}"\nk = [2]\nseeds = [4]\nstrategy = ["fewshot"]\n'
    )
    pyproject.write_text(text.replace("[tool.adaptbench]\n", own))
    done = run_in(checkout, "--collect-only", "-q")
    assert "[tiny-llama-plain-fewshot-random-k02-s4]" in done.stdout
    pyproject.write_text(text.replace("[tool.adaptbench]\n", "[tool.adaptbench]\nseed = 1\n"))
    done = run_in(checkout, "--collect-only", "-q")
    assert done.returncode == 4
    assert "no key 'seed' (did you mean 'seeds'?)" in done.stderr


def test_a_nonfinite_row_fails_the_cell_and_names_it(
    suites: Run, tiny_model: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(tiny_model, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    weights["lm_head.weight"][:] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    for _ in range(2):  # computed, and from the store
        done = suites("--strategy=zeroshot", f"--model={broken}")
        assert done.status == 1
        assert "5 rows have no finite perplexity: test-000" in done.out
    assert summary(tmp_path)["cells"][0]["nonfinite"] == 5


def test_chat_prompt_and_row_draws_run(suites: Run, tmp_path: Path) -> None:
    done = suites(
        "--strategy=fewshot", "--k=1", "--seeds=0", "--draw=run,row", "--prompt=chat,plain"
    )
    assert done.status == 0, done.out
    content = summary(tmp_path)
    assert [cell["label"] for cell in content["cells"]] == [
        "fewshot-random-k01",
        "fewshot-random-row-k01",
    ] * 2
    row_cell = json.loads((tmp_path / "results" / content["cells"][1]["file"]).read_text("utf-8"))
    assert len({tuple(score["demo_ids"]) for score in row_cell["scores"]}) > 1


def test_a_near_copy_is_left_out_and_reported(suites: Run, files: Files, tmp_path: Path) -> None:
    copied = {**json.loads(files.test.read_text("utf-8"))[4], "id": "sneaky"}
    write_rows(files.train, [*json.loads(files.train.read_text("utf-8")), copied])
    done = suites("--strategy=fewshot", "--k=12", "--seeds=0")
    assert done.status == 0, done.out
    assert "1 training rows left out" in done.out
    assert summary(tmp_path)["task"]["excluded"] == [["sneaky", "test-004"]]
    body = json.loads(
        (tmp_path / "results" / summary(tmp_path)["cells"][0]["file"]).read_text("utf-8")
    )
    assert "sneaky" not in body["scores"][0]["demo_ids"]
    assert "sneaky" in (tmp_path / "results" / "report.md").read_text("utf-8")


def test_a_bare_run_measures_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "suites/" not in done.stdout
    assert "tests/" in done.stdout


def test_a_hub_model_in_the_local_cache_runs_offline_by_its_commit(
    suites: Run, tiny_model: Path, tmp_path: Path
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hf" / "hub" / "models--owner--tiny"
    shutil.copytree(tiny_model, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = suites("--model=owner/tiny", "--strategy=zeroshot", env=env)
    assert done.status == 0, done.out + done.err
    (model,) = summary(tmp_path)["models"]
    assert model["digest"] == f"hub-owner/tiny-{commit}"
    assert summary(tmp_path)["cells"][0]["id"] == "tiny-plain-zeroshot"
    # The same commit by its name is the same cell.
    assert suites(f"--model=owner/tiny@{commit}", "--strategy=zeroshot", env=env).status == 0
    assert summary(tmp_path)["cells"][0]["cached"]
    # Weights that never arrived are not taken for a model without safe weights.
    (repository / "snapshots" / commit / "model.safetensors").unlink()
    done = suites("--model=owner/tiny", "--strategy=zeroshot", "--fresh", env=env)
    assert done.status == 1
    assert any("the download is incomplete" in line for line in done.lines)
