"""The same run under pytest-xdist."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders.commands import SWEEP, Run, summary
from tests.builders.models import make_llama


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
    assert "ModelError" not in done.out  # the line alone, not a traceback
    assert "INTERNALERROR" not in done.out + done.err


def test_a_failure_in_a_worker_reaches_the_report(suites: Run, tmp_path: Path) -> None:
    pytest.importorskip("xdist")
    short = make_llama(tmp_path / "short", max_position_embeddings=130)
    done = suites(*SWEEP, f"--model={short}", "-n", "2")
    assert done.status == 1
    assert {"do not fit" in entry["reason"] for entry in summary(tmp_path)["missing"]} == {True}
