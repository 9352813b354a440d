"""The page of what was measured on a GPU, made from parts that run here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.builders.processes import ForkServer
from tools import gpu
from tools.gpu import Outcome, Part, measure, page, parts


def test_every_part_is_told_also_those_that_fail(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it():\n    assert 0\n")
    (tmp_path / "test_slow.py").write_text("import time\n\ndef test_it():\n    time.sleep(60)\n")
    (tmp_path / "test_ok.py").write_text("def test_it():\n    pass\n")
    (tmp_path / "speed.md").write_text("# Speed of scoring\n\n    k  contender\n")

    def file(name: str) -> tuple[str, ...]:
        return f"--rootdir={tmp_path}", "-o", "addopts=", "--noconftest", str(tmp_path / name)

    found = measure(
        [
            Part("One that fails", file("test_it.py"), 60),
            Part("One that takes long", file("test_slow.py"), 2),
            Part("One with figures", file("test_ok.py"), 60,
                 lambda: (tmp_path / "speed.md").read_text("utf-8")),
            Part("One whose figures are not there", file("test_ok.py"), 60,
                 lambda: (tmp_path / "none.md").read_text("utf-8")),
        ]
    )  # fmt: skip
    assert [one.status for one in found] == [1, None, 0, 0]
    text = page("Some GPU, driver 1.", found)
    assert "Some GPU, driver 1.\n" in text
    assert "## One that fails\n" in text
    assert "**exit status 1**" in text
    assert "1 failed" in text
    assert "2 seconds, **stopped**.\n\nstopped after 2 seconds" in text
    assert "### Speed of scoring\n\n    k  contender" in text  # below the page's own headings
    assert "its result cannot be read: " in text


def test_the_seconds_of_a_sweep_are_those_of_its_files(tmp_path: Path) -> None:
    bodies = {
        "a.json": {"seconds": 1.25, "training": None, "peak_memory_bytes": 3_000_000_000},
        "b.json": {"seconds": 9.0, "training": {"seconds": 7.04}, "peak_memory_bytes": None},
    }
    for name, body in bodies.items():
        (tmp_path / name).write_text(json.dumps(body))
    cells = [{"id": "zeroshot", "file": "a.json"}, {"id": "qlora-s0", "file": "b.json"}]
    (tmp_path / "summary.json").write_text(json.dumps({"cells": cells}))
    assert gpu.seconds_of(tmp_path).splitlines()[2:] == [
        "| zeroshot | 1.2 | – | 3.0 GB |",
        "| qlora-s0 | 9.0 | 7.0 | – |",
    ]


def test_the_flags_of_every_part_are_known(
    tmp_path: Path, tiny_model: Path, processes: ForkServer
) -> None:
    """Each part's cells are collected, on the CPU."""
    found = parts(tiny_model, tiny_model, tmp_path, device="cpu")
    for part in found[1:]:
        done = processes.run("pytest", "--collect-only", "-q", *part.arguments)
        assert done.status == 0, (part.title, done.out[-500:] + done.err[-500:])


def test_without_a_gpu_the_page_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    path = tmp_path / "gpu.md"
    path.write_text("as it was")
    assert gpu.main([str(path)]) == 2
    assert path.read_text() == "as it was"
    assert capsys.readouterr().err == f"No CUDA device here: {path} stays as it is.\n"


def test_the_page_of_nothing_measured_has_a_head() -> None:
    outcome = Outcome(Part("x", (), 1), 0, 3.6, "12 passed")
    assert page("M.", [outcome]).endswith("## x\n\n4 seconds.\n\n12 passed\n")


def test_a_random_model_of_a_real_family_can_be_loaded(tmp_path: Path) -> None:
    from harness.core import ModelSpec
    from harness.models.loading import load

    folder = gpu.write_model(tmp_path / "m", gpu.TINY, "cpu")
    loaded = load(ModelSpec("q", "q", dtype="bfloat16"), folder, None)
    assert loaded.model.config.model_type == "qwen3"
    assert sum(weights.numel() for weights in loaded.model.parameters()) < 500_000
