"""``--baseline`` as CI uses it, on a tiny model: exit status, terminal, JUnit, workers."""

from __future__ import annotations

import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.builders import ROOT
from tests.builders.commands import SWEEP, Outcome, Run, summary
from tests.builders.tasks import Files, row, write_rows

TEST = [row(i, 6 + i % 9, "test", ("classical", "modern")[i % 2]) for i in range(40)]


KEPT: dict[str, Path] = {}


@pytest.fixture
def baseline(
    suites: Run, files: Files, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The flag of a baseline of the sweep on 40 rows, whose cells are in the results directory."""
    write_rows(files.test, TEST)
    flag = f"--baseline={tmp_path / 'results' / 'baseline.json'}"
    if KEPT:  # measured once for all tests
        shutil.copytree(KEPT["results"], tmp_path / "results")
        return flag
    done = suites(*SWEEP, flag, "--update-baseline")
    assert done.status == 0, done.out + done.err
    assert "5 cells, the first baseline" in done.out
    results = tmp_path_factory.mktemp("kept") / "results"
    KEPT["results"] = shutil.copytree(tmp_path / "results", results)
    return flag


@pytest.fixture
def worse(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model under the same name, its output head perturbed so that every row is worse."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_model, tmp_path / "worse" / tiny_model.name)
    weights = load_file(folder / "model.safetensors")
    torch.manual_seed(0)
    for value in weights.values():
        value.mul_(1.5)  # random guesses become confident ones
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def failures(path: Path) -> dict[str, str]:
    cases = ET.parse(path).getroot().iter("testcase")
    return {
        f"{case.get('classname')}:{case.get('name')}": failure.get("message") or ""
        for case in cases
        for failure in case.iter("failure")
    }


def test_the_same_again_passes_and_computes_nothing(suites: Run, baseline: str) -> None:
    done = suites(*SWEEP, baseline, "-p", "tests.integration.no_torch")
    assert done.status == 0, done.out + done.err
    assert any(line.startswith("PASSED against ") for line in done.lines)


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["plain", "n2"])
def test_a_worse_model_fails_and_every_listener_hears_of_it(
    suites: Run, baseline: str, worse: Path, tmp_path: Path, workers: tuple[str, ...]
) -> None:
    junit = tmp_path / "junit.xml"
    done = suites(*SWEEP, baseline, f"--model={worse}", f"--junitxml={junit}", *workers)
    assert done.status == 1, done.out + done.err
    assert "Traceback" not in done.out + done.err
    assert "5 failed, 5 passed" in done.out
    assert "[200%]" not in done.out
    ids = [cell["id"] for cell in summary(tmp_path)["cells"]]
    assert len(ids) == 5
    found = failures(junit)
    assert set(found) == {f"gate:{name}" for name in ids}
    assert all(line.startswith("FAIL: geometric mean +") for line in found.values())
    gate = done.lines.index(next(line for line in done.lines if "adaptbench: gate" in line))
    table = done.lines.index(next(line for line in done.lines if "adaptbench: mean perp" in line))
    assert gate < table
    assert done.lines[gate + 1].startswith("FAILED against ")
    for name in ids:
        assert f"FAIL {name}: geometric mean +" in done.out
        assert f"FAILED gate::{name}" in done.out  # pytest's own short summary
    assert "changed model bytes: " in done.out
    content = summary(tmp_path)
    assert {cell["verdict"] for cell in content["cells"]} == {"FAIL"}
    for name in ("report.md", "report.html"):
        assert "Gate: failed, 5 of 5 cells" in (tmp_path / "results" / name).read_text("utf-8")


def test_offline_says_the_same_in_the_same_bytes(
    suites: Run, baseline: str, worse: Path, tmp_path: Path
) -> None:
    suites(*SWEEP, baseline, f"--model={worse}")
    results = tmp_path / "results"
    names = ("report.md", "report.html", "summary.json")
    before = [(results / name).read_bytes() for name in names]
    for name in names:
        (results / name).unlink()
    shutil.move(tmp_path / "data", tmp_path / "elsewhere")  # neither data nor model is needed
    shutil.move(worse, tmp_path / "gone")
    command = [sys.executable, "-m", "harness", "report", str(results), baseline]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert [(results / name).read_bytes() for name in names] == before


def nothing_computed(done: Outcome, tmp_path: Path) -> bool:
    return not (tmp_path / "fresh").exists() and "passed" not in done.out


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["plain", "n2"])
def test_what_can_not_be_compared_ends_the_run_before_it_begins(
    suites: Run, files: Files, baseline: str, tmp_path: Path, workers: tuple[str, ...]
) -> None:
    path = Path(baseline.partition("=")[2])
    fresh = f"--results-dir={tmp_path / 'fresh'}"
    text = path.read_text("utf-8")
    flags = (*SWEEP, baseline, fresh, *workers)

    def refused(says: str, *more: str) -> None:
        done = suites(*flags, *more)
        assert done.status == 4, done.out + done.err
        (line,) = [line for line in done.err.splitlines() if line.strip()]
        assert says in line
        assert "--update-baseline" in line
        assert nothing_computed(done, tmp_path)

    path.write_text(text[:5000], "utf-8")
    refused("damaged or cut off")
    if workers:
        return
    path.unlink()
    refused("there is no baseline yet")
    path.write_text(text, "utf-8")
    refused("40 rows there, 39 here, row 'test-039' is missing", "--limit=39")
    rows = [dict(one) for one in TEST]
    rows[7]["output"] += "也"
    write_rows(files.test, rows)
    refused("row 'test-007' has another text")


def test_a_renamed_cell_fails_and_is_recognized(
    suites: Run, baseline: str, tiny_model: Path, tmp_path: Path
) -> None:
    renamed = shutil.copytree(tiny_model, tmp_path / "renamed")
    done = suites(*SWEEP, baseline, f"--model={renamed}")
    assert done.status == 1
    assert (
        "MISSING tiny-llama-plain-zeroshot: in the baseline, but not measured: this run does not "
        "ask for it; renamed-plain-zeroshot computes the same, so it was renamed"
    ) in done.out
    assert "NEW renamed-plain-zeroshot: not in the baseline; --update-baseline adds it" in done.out


def test_a_cell_left_out_fails(suites: Run, baseline: str) -> None:
    done = suites("--strategy=zeroshot", baseline)
    assert done.status == 1
    assert "4 MISSING" in done.out
    assert "1 passed" in done.out


def test_a_nan_fails(suites: Run, baseline: str, tiny_model: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_model, tmp_path / "nan" / tiny_model.name)
    weights = load_file(folder / "model.safetensors")
    next(iter(weights.values())).fill_(torch.nan)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    done = suites("--strategy=zeroshot", baseline, f"--model={folder}")
    assert done.status == 1
    assert "FAIL tiny-llama-plain-zeroshot: 40 rows are not finite: 'test-000'" in done.out
    again = suites("--strategy=zeroshot", baseline, f"--model={folder}", "--update-baseline")
    assert again.status == 1
    assert "not written, because row 'test-000'" in again.out
    path = Path(baseline.partition("=")[2])
    assert "NaN" not in path.read_text("utf-8")


def test_a_strict_gate_fails_where_it_is_blind(
    suites: Run, baseline: str, tiny_model: Path, tmp_path: Path
) -> None:
    """Weights a little off: every row moves a little, in either direction."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_model, tmp_path / "off" / tiny_model.name)
    weights = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(2)
    for value in weights.values():
        value.add_(1e-3 * torch.randn(value.shape, generator=generator))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    flags = ("--strategy=fewshot", "--k=1", "--seeds=0", "--tolerance=0.2%", f"--model={folder}")
    own = f"--baseline={tmp_path / 'own.json'}"
    suites("--strategy=fewshot", "--k=1", "--seeds=0", own, "--update-baseline")
    lax = suites(*flags, own)
    assert [cell["verdict"] for cell in summary(tmp_path)["cells"]] == ["INCONCLUSIVE"]
    assert lax.status == 0
    assert "rows would show one of 0.2 %" in lax.out
    strict = suites(*flags, own, "--gate-strict")
    assert strict.status == 1
    assert "1 failed, 1 passed" in strict.out


def test_an_update_says_what_changed_and_then_passes(
    suites: Run, baseline: str, worse: Path, tmp_path: Path
) -> None:
    done = suites(*SWEEP, baseline, f"--model={worse}", "--update-baseline")
    assert done.status == 0
    assert "tiny-llama-plain-zeroshot: mean perplexity " in done.out
    assert "0 of 5 cells as they were" in done.out
    assert suites(*SWEEP, baseline, f"--model={worse}").status == 0


def test_an_incomplete_run_does_not_become_the_baseline(suites: Run, baseline: str) -> None:
    path = Path(baseline.partition("=")[2])
    before = path.read_bytes()
    done = suites(*SWEEP, baseline, "--update-baseline", "--fresh", "-k", "zeroshot")
    assert done.status == 1
    assert "not written, because cell tiny-llama-plain-fewshot-random-k01-s0" in done.out
    assert path.read_bytes() == before


def test_flags_of_the_gate_need_one(suites: Run) -> None:
    for flag, says in (
        ("--update-baseline", "needs --baseline=FILE, the file to write"),
        ("--gate-strict", "needs --baseline=FILE"),
        ("--tolerance=1%", "needs --baseline=FILE"),
    ):
        done = suites(flag, "--strategy=zeroshot")
        assert done.status == 4
        assert says in done.err


def test_a_gate_that_compares_nothing_fails(suites: Run, baseline: str) -> None:
    path = baseline.partition("=")[2]
    only = ROOT / "suites" / "test_conformance.py"
    done = suites(f"--baseline={path}", "-k", "gpt2 and eos", only=only)
    assert done.status in (1, 5)
    assert "nothing was compared, because no cell was measured" in done.out


def test_github_is_told(suites: Run, baseline: str, worse: Path, tmp_path: Path) -> None:
    page = tmp_path / "summary.md"
    env = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(page)}
    done = suites("--strategy=zeroshot", baseline, f"--model={worse}", env=env)
    commands = [line for line in done.lines if line.startswith("::")]
    assert len(commands) == 5
    assert commands[0].startswith("::error title=adaptbench gate::FAIL tiny-llama-plain-zeroshot: ")
    assert "MISSING tiny-llama-plain-fewshot-random-k01-s0" in commands[1]
    assert page.read_text("utf-8").startswith("# adaptbench: data/test, 40 test rows")


def test_scoring_twice_reports_the_noise(suites: Run, tmp_path: Path) -> None:
    twice = suites("--strategy=zeroshot", "--repeat-scoring=2")
    assert twice.status == 0, twice.out
    (noise,) = summary(tmp_path)["noise"]
    assert noise["times"] == 2
    assert noise["batched"] is True
    assert 0 <= noise["geometric"] <= noise["row"] < 1e-5  # float32 on a CPU
    assert "Noise of scoring" in (tmp_path / "results" / "report.md").read_text("utf-8")
    # What is stored has it now; the number itself is the same.
    again = suites("--strategy=zeroshot", "--repeat-scoring=2", "-p", "tests.integration.no_torch")
    assert again.status == 0, again.out
