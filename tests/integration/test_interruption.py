"""A run that is killed or interrupted loses nothing that was finished."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.builders import ROOT
from tests.builders.commands import SWEEP, Run, summary
from tests.builders.tasks import Files

SLOW = """
import time

import harness.scoring.score as scoring

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
