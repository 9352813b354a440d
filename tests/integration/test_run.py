"""``pytest suites/`` as a user runs it, in a process of its own, on a tiny model."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.builders import ROOT
from tests.builders.commands import SWEEP, Run, summary
from tests.builders.models import make_llama
from tests.builders.processes import ForkServer
from tests.builders.tasks import Files, write_rows


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
    from harness.config.options import parse_options
    from harness.run.bench import Bench
    from harness.run.plan import make_plan
    from tests.builders.cells import perplexity

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
        case.id: perplexity(bench.measure(case).measurement.observations)
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
    assert "PromptError" not in failing.out  # the line alone, not a traceback
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


def test_a_bare_run_measures_nothing(processes: ForkServer) -> None:
    rooms = f"--ignore-glob={ROOT / 'tests'}/*/*.py"  # reading all tests takes long
    done = processes.run("pytest", "--collect-only", "-q", "-p", "no:cacheprovider", rooms)
    assert done.status == 0, done.out
    # The conformance suite makes its own tiny models.
    listed = {line.partition("::")[0] for line in done.lines if "::" in line}
    assert {file for file in listed if file.startswith("suites")} == {"suites/test_conformance.py"}
    assert "tests/test_cli.py" in listed


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
