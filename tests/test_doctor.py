"""What ``adaptbench doctor`` says on machines that lack something."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from harness import doctor
from harness.cli import FAILED, PASSED, main
from harness.doctor import NOTE, OK, WRONG, Finding


def by_name(found: Any) -> dict[str, Finding]:
    return {one.what: one for one in found}


def test_this_machine_can_run_what_its_tests_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == PASSED
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("ok     torch") for line in lines)
    assert any("bitsandbytes quantizes to NF4" in line for line in lines)
    assert lines[-1].startswith("Ready")


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 5 * 10**8))
    found = by_name(doctor.disk(tmp_path / "cache", tmp_path / "results" / "deep"))
    assert found["cache"].state == found["results"].state == WRONG
    assert "0.5 GB free" in found["cache"].found
    assert "ADAPTBENCH_CACHE" in found["cache"].remedy
    assert "--results-dir" in found["results"].remedy


def test_a_folder_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    found = by_name(doctor.disk(tmp_path, tmp_path))
    assert found["results"] == Finding(
        WRONG, "results", f"{tmp_path} cannot be written", "--results-dir=DIR names another"
    )


def test_a_file_in_place_of_a_folder_is_told(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("", "utf-8")
    found = by_name(doctor.disk(tmp_path, file / "deep"))
    assert found["results"] == Finding(
        WRONG, "results", f"{file} is a file", "--results-dir=DIR names another"
    )


def test_a_version_that_is_not_supported_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata,
        "version",
        lambda name: "4.30.0" if name == "transformers" else ours(name),
    )
    found = by_name(doctor.packages())
    assert found["transformers"].state == WRONG
    assert found["transformers"].found.startswith("4.30.0, made for >=")
    assert found["transformers"].remedy.startswith("pip install 'transformers>=")
    assert {one.state for one in found.values() if one.what != "transformers"} == {OK}


def test_a_package_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", gone)
    assert by_name(doctor.packages())["peft"].found == "not installed"
    (one,) = doctor.judges()
    assert (one.state, "adaptbench[judge]" in one.remedy) == (NOTE, True)


def test_a_machine_without_gpu_and_browser_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.models import fingerprint

    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(fingerprint, "cuda_device_count", lambda: 0)
    (card,), (browser,) = doctor.gpu(), doctor.browser()
    assert (card.state, card.found) == (NOTE, "none")
    assert (browser.state, browser.found) == (NOTE, "no Chromium")


def test_a_check_that_breaks_spoils_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> Any:
        raise ImportError("libbitsandbytes_cpu.so: cannot open\nshared object file")

    monkeypatch.setattr(doctor, "four_bit", broken)
    assert main(["doctor"]) == FAILED
    out = capsys.readouterr().out
    assert "wrong  4-bit weights" in out
    assert "ImportError: libbitsandbytes_cpu.so: cannot open shared object file" in out
    assert out.splitlines()[-1] == "1 of these is wrong; runs that need it will fail."
