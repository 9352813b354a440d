"""``python -m harness``: stored results without data, model or torch."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import FAILED, PASSED, WRONG, main
from harness.core import digest
from harness.errors import StoreError
from harness.results.baseline import write_baseline
from harness.results.manifest import read_manifest, write_manifest
from harness.results.reading import matched, read_run, snapshot
from tests.builders import ROOT
from tests.builders.costs import lines_during
from tests.builders.runs import SEEDS, make_run


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return make_run(tmp_path / "results")


def test_a_manifest_survives(results: Path) -> None:
    manifest = read_manifest(results)
    assert len(manifest.entries) == 1 + SEEDS
    write_manifest(results, manifest)
    assert read_manifest(results) == manifest


def test_report_and_again_the_same_bytes(results: Path) -> None:
    assert main(["report", str(results)]) == PASSED
    names = ("report.md", "report.html", "summary.json")
    before = [(results / name).read_bytes() for name in names]
    assert main(["report", str(results)]) == PASSED
    assert [(results / name).read_bytes() for name in names] == before
    assert "fewshot-random-k01" in before[0].decode()


def test_gate(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    baseline = f"--baseline={tmp_path / 'baseline.json'}"
    assert main(["gate", str(results), baseline]) == WRONG
    assert "there is no baseline yet" in capsys.readouterr().out
    assert main(["gate", str(results), baseline, "--update-baseline"]) == PASSED
    assert main(["gate", str(results), baseline]) == PASSED
    assert "PASSED" in capsys.readouterr().out
    worse = make_run(tmp_path / "worse", shift=math.log(1.05))
    assert main(["gate", str(worse), baseline]) == FAILED
    out = capsys.readouterr().out
    assert out.splitlines()[1].startswith("FAILED against ")
    assert out.count("\nFAIL m-plain-fewshot-random-k01-s") == SEEDS
    assert "+5.0" in out
    assert main(["gate", str(worse), baseline, "--tolerance=6%"]) == PASSED
    # A baseline of the run can stand for the run.
    other = f"--baseline={tmp_path / 'other.json'}"
    assert main(["gate", str(worse), other, "--update-baseline"]) == PASSED
    assert main(["gate", str(tmp_path / "other.json"), baseline]) == FAILED


def test_report_with_a_gate_has_the_verdicts(results: Path, tmp_path: Path) -> None:
    baseline = f"--baseline={tmp_path / 'baseline.json'}"
    main(["gate", str(results), baseline, "--update-baseline"])
    worse = make_run(tmp_path / "worse", shift=math.log(1.05))
    assert main(["report", str(worse), baseline]) == FAILED
    content = json.loads((worse / "summary.json").read_text("utf-8"))
    assert content["gate"]["passed"] is False
    assert [group["verdict"] for group in content["groups"]] == ["OK", "FAIL"]
    assert {cell["verdict"] for cell in content["cells"]} == {"OK", "FAIL"}
    for name in ("report.md", "report.html"):
        text = (worse / name).read_text("utf-8")
        assert "Gate: failed, 3 of 4 cells" in text


def test_compare(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worse = make_run(tmp_path / "worse", shift=math.log(1.05))
    assert main(["compare", str(results), str(worse)]) == PASSED
    lines = capsys.readouterr().out.splitlines()
    (zero,) = (line for line in lines if line.startswith("m-plain-zeroshot"))
    (few,) = (line for line in lines if line.startswith("m-plain-fewshot-random-k01-s0"))
    assert "no difference shown" in zero
    assert "worse" in few
    assert "+5.0 % [" in few
    assert "demonstrations: others" not in few
    assert any(line.startswith("demonstrations: ") for line in lines)
    assert main(["compare", str(worse), str(results)]) == PASSED
    assert "better" in capsys.readouterr().out


def test_compare_models_of_other_names(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_run(tmp_path / "other", model="n")
    pairs = matched(snapshot(other), snapshot(results))
    assert next(iter(pairs)) == "m → n-plain-zeroshot"
    assert len(pairs) == 1 + SEEDS
    assert main(["compare", str(results), str(other)]) == PASSED
    out = capsys.readouterr().out
    assert "m → n-plain-zeroshot" in out
    assert "By bits per byte" not in out


def test_compare_other_tokenizers_by_bits_per_byte(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Twice the tokens at the same logarithms: twice the bits.
    other = make_run(tmp_path / "other", model="n", tokens=20)
    assert main(["compare", str(results), str(other)]) == PASSED
    out = capsys.readouterr().out
    assert "+100.0 %" in out
    assert "By bits per byte, because the tokenizers differ" in out


def test_compare_what_only_one_has(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = make_run(tmp_path / "part", labels=("zeroshot",))
    assert main(["compare", str(results), str(part)]) == PASSED
    assert capsys.readouterr().out.count("only before: m-plain-fewshot-random-k01-s") == SEEDS
    few = make_run(tmp_path / "few", rows=7)
    assert main(["compare", str(results), str(few)]) == WRONG
    assert "40 rows there, 7 here" in capsys.readouterr().err


def test_check_finds_every_kind_of_damage(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(results)]) == PASSED
    assert "4 cells" in capsys.readouterr().out
    first, second, third, _ = sorted((results / "cells").iterdir())
    first.write_text(first.read_text("utf-8")[:500], "utf-8")
    second.write_text(second.read_text("utf-8").replace('"nll": 3', '"nll": 4', 1), "utf-8")
    third.rename(third.with_name("other-0123456789abcdef.json"))
    before = {path.name: path.read_bytes() for path in (results / "cells").iterdir()}
    assert main(["check", str(results)]) == FAILED
    out = capsys.readouterr().out
    assert f"{first}: " in out
    assert f"{second}: its checksum does not match" in out
    assert f"{third}: gone; m-plain-" in out
    assert "its name is not its cell's" in out
    # it changes nothing
    assert {path.name: path.read_bytes() for path in (results / "cells").iterdir()} == before


def test_a_damaged_cell_is_missing_from_the_report_and_fails_the_gate(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline = f"--baseline={tmp_path / 'baseline.json'}"
    main(["gate", str(results), baseline, "--update-baseline"])
    victim = sorted((results / "cells").iterdir())[0]
    victim.write_text("{}", "utf-8")
    assert main(["report", str(results), baseline]) == FAILED
    out = capsys.readouterr().out
    assert "MISSING m-plain-fewshot-random-k01-s0" in out
    assert "its file is damaged" in out
    assert "1 of 4 cells are missing" in out
    assert victim.exists()


@pytest.mark.parametrize("command", ["report", "gate"])
def test_a_run_without_any_cell_replaces_no_report(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    baseline = f"--baseline={tmp_path / 'baseline.json'}"
    main(["gate", str(results), baseline, "--update-baseline"])
    main(["report", str(results)])
    before = {path.name: path.read_bytes() for path in results.iterdir() if path.is_file()}
    for path in (results / "cells").iterdir():
        path.unlink()
    capsys.readouterr()
    assert main([command, str(results), baseline]) == WRONG
    err = capsys.readouterr().err
    assert "of 4 stored cells none can be read (cells/" in err
    assert "its file is gone" in err
    assert err.count("\n") == 1
    assert {p.name: p.read_bytes() for p in results.iterdir() if p.is_file()} == before


def test_check_continues_after_what_it_cannot_read(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(tmp_path / "nowhere"), str(results)]) == FAILED
    out = capsys.readouterr().out
    assert "nowhere: not found" in out
    assert f"{results}: 4 cells" in out


def test_a_manifest_that_was_edited_is_damaged(results: Path, tmp_path: Path) -> None:
    path = results / "run.json"
    text = path.read_text("utf-8")
    for edited in (text.replace('"r001"', '"r999"', 1), text.replace('"pool": 3', '"pool": 4')):
        assert edited != text
        path.write_text(edited, "utf-8")
        with pytest.raises(StoreError, match="damaged .*checksum does not match"):
            read_manifest(results)


def test_a_cell_of_other_rows_does_not_count(results: Path) -> None:
    manifest = read_manifest(results)
    rows = dict(reversed(manifest.task.rows.items()))
    task = dataclasses.replace(manifest.task, rows=rows)
    write_manifest(results, dataclasses.replace(manifest, task=task))
    with pytest.raises(StoreError, match="its rows are not the run's"):
        read_run(results)


def test_a_failing_gate_fails_though_nobody_reads_on(results: Path, tmp_path: Path) -> None:
    baseline = f"--baseline={tmp_path / 'baseline.json'}"
    main(["gate", str(results), baseline, "--update-baseline"])
    worse = make_run(tmp_path / "worse", shift=math.log(1.05))
    command = f"{sys.executable} -m harness gate {worse} {baseline} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == FAILED
    assert done.stderr == b""


def test_names_can_not_give_commands(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline = tmp_path / "baseline.json"
    evil = "x\n::error::owned\x1b[31m"
    found = snapshot(results)
    write_baseline(
        baseline,
        dataclasses.replace(found, cells={**found.cells, evil: found.cells["m-plain-zeroshot"]}),
    )
    for command in (
        ["gate", str(results), f"--baseline={baseline}"],
        ["compare", str(baseline), str(results)],
        ["gate", str(results), f"--baseline={baseline}", "--update-baseline"],
    ):
        main(command)
        out = capsys.readouterr().out
        assert "owned" in out
        assert "\x1b" not in out
        assert not any(line.startswith("::") for line in out.splitlines())


WRONGS = {
    "no such folder": (["report", "nowhere"], "nowhere/run.json: not found"),
    "neither": (["compare", "nowhere", "y"], "nowhere: not found; expected a results directory"),
    "no command": ([], "the following arguments are required: COMMAND"),
    "no baseline named": (["gate", "x"], "required: --baseline"),
    "tolerance": (
        ["gate", "x", "--baseline=y", "--tolerance=5"],
        "--tolerance=5: expected a share",
    ),
    "terms of nothing": (["report", "x", "--tolerance=1%"], "need --baseline=FILE"),
    "no templates": (
        ["report", "x", "--templates=gone"],
        "--templates=gone: no such folder",
    ),
    "no runs": (
        ["simulate", "x", "--runs=0"],
        "expected a whole number from 1 to 1000000, found 0",
    ),
    "a long name": (["compare", "x" * 300, "y"], "File name too long"),
    "unknown": (["prepare"], "invalid choice: 'prepare'"),
}


@pytest.mark.parametrize(("arguments", "says"), WRONGS.values(), ids=WRONGS.keys())
def test_a_users_mistake_is_one_line(
    arguments: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = main(arguments)
    except SystemExit as stop:
        status = int(stop.code or 0)
    assert status == WRONG
    assert says in capsys.readouterr().err.splitlines()[-1]


# Importing torch and its like is an error; what is opened and what is imported is told at the end.
COUNTED = """
import json, sys
from collections import Counter
from pathlib import Path
import tests.integration.no_torch
opened = Counter()
def hear(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, Path)):
        opened[str(arguments[0])] += 1
sys.addaudithook(hear)
from harness.cli import main
status = main(sys.argv[2:])
found = {"opened": opened, "drawing": "matplotlib" in sys.modules, "tables": "pandas" in sys.modules}
Path(sys.argv[1]).write_text(json.dumps(found))
sys.exit(status)
"""


def test_cells_are_read_once_and_no_torch_is_imported(tmp_path: Path) -> None:
    labels = ("zeroshot", *(f"fewshot-random-k{k:02d}" for k in range(1, 34)))
    results = make_run(tmp_path / "results", labels=labels, rows=20)
    assert len(read_manifest(results).entries) == 100
    cells = {str(path) for path in (results / "cells").iterdir()}
    baseline, told = f"--baseline={tmp_path / 'baseline.json'}", tmp_path / "told.json"
    # Pictures that were drawn before are kept in the user's cache, and not drawn again.
    env = {**os.environ, "ADAPTBENCH_CACHE": str(tmp_path / "cache")}
    for times, arguments in (
        (1, ["gate", str(results), baseline, "--update-baseline"]),
        (1, ["gate", str(results), baseline]),
        (1, ["report", str(results)]),
        (1, ["check", str(results)]),
        (2, ["compare", str(results), str(results)]),  # as either side
    ):
        done = subprocess.run(
            [sys.executable, "-c", COUNTED, str(told), *arguments],
            cwd=ROOT, capture_output=True, text=True, check=False, env=env,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        found = json.loads(told.read_text("utf-8"))
        read = {name: count for name, count in found["opened"].items() if name in cells}
        assert read == dict.fromkeys(cells, times), arguments
        assert found["drawing"] == (arguments[0] == "report")
        assert not found["tables"]


def test_twice_the_cells_are_twice_the_work(tmp_path: Path) -> None:
    baseline = f"--baseline={tmp_path / 'baseline.json'}"
    for command in (["gate", baseline], ["check"], ["compare", None]):
        lines = []
        for cells in (10, 20):
            labels = ("zeroshot", *(f"fewshot-random-k{k:02d}" for k in range(1, cells)))
            results = str(make_run(tmp_path / f"{command[0]}-{cells}", labels=labels))
            arguments = [command[0], results, *(more or results for more in command[1:])]
            if command[0] == "gate":
                assert main([*arguments, "--update-baseline"]) == PASSED
            main(arguments)  # imports what it needs
            lines.append(lines_during(lambda arguments=arguments: main(arguments)))
        assert lines[1] < 2.2 * lines[0], command


def test_a_manifest_of_schema_1_is_read(results: Path) -> None:
    """It had one metric, called so, and nothing chosen to compare with."""
    manifest = read_manifest(results)
    body = json.loads((results / "run.json").read_text("utf-8"))
    del body["checksum"], body["control"]
    body["metric"] = body.pop("metrics")["perplexity"]
    body["schema_version"] = 1
    text = json.dumps({**body, "checksum": digest(body)})
    (results / "run.json").write_text(text, "utf-8")
    assert read_manifest(results) == manifest
