"""Fixtures: tiny models made on the spot, small tasks, and pytest run inside pytest."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.conformance.tiny_models import Family, make

ROOT = Path(__file__).resolve().parent.parent
ALPHABET = (
    "天地人山水火木金土日月年歲王公子女君臣民兵馬車舟之乎者也矣焉哉不無有為以於其乃，。：「」\n "
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "real: uses the real small model (fetched once through pip)")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers with random weights, a BOS, an EOS and a chat template."""
    return make_llama(tmp_path_factory.mktemp("tiny") / "tiny-llama")


def make_llama(folder: Path, *, bos: bool = True, seed: int = 0, **changes: object) -> Path:
    return make(Family("LlamaConfig", changes, bos=bos), folder, seed)


def sentence_of(instruction: str) -> str:
    """The line of a shipped instruction that is to be translated, not the request around it."""
    (sentence,) = [
        line for line in instruction.split("\n") if not re.search("譯|改寫|怎麼說|答案：", line)
    ]
    return sentence


def row(
    number: int, length: int = 8, prefix: str = "t", direction: str = "classical"
) -> dict[str, str]:
    """A made-up row: text from a small alphabet, distinct for every number."""
    import random

    rng = random.Random(f"{prefix}{number}")
    source = "".join(rng.choice(ALPHABET[:40]) for _ in range(length))
    answer = "".join(rng.choice(ALPHABET[:40]) for _ in range(length))
    wording = "翻譯成文言文" if direction == "classical" else "翻譯成現代文"
    return {
        "id": f"{prefix}-{number:03d}",
        "instruction": f"{wording}：\n{source}",
        "output": answer,
    }


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rows)
    else:
        text = json.dumps(rows, ensure_ascii=False)
    path.write_text(text, encoding="utf-8")
    return path


@dataclass(frozen=True)
class Files:
    test: Path
    train: Path


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Five test rows and twelve training rows, both directions."""
    turn = ("classical", "modern")
    test = [row(i, 6 + i, "test", turn[i % 2]) for i in range(5)]
    train = [row(i, 5 + i % 4, "train", turn[i % 2]) for i in range(12)]
    return Files(
        write_rows(tmp_path / "data" / "test.json", test),
        write_rows(tmp_path / "data" / "train.json", train),
    )


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Run = Callable[..., Outcome]


def outside_of_workers() -> dict[str, str]:
    """The environment without what tells a worker of xdist that it is one."""
    return {name: value for name, value in os.environ.items() if "PYTEST_XDIST" not in name}


@pytest.fixture
def suites(files: Files, tiny_model: Path, tmp_path: Path) -> Run:
    """Run ``pytest suites/`` on the tiny model and the small task in a process of its own."""

    def run(
        *flags: str,
        defaults: bool = True,
        env: dict[str, str] | None = None,
        only: Path = ROOT / "suites",
    ) -> Outcome:
        given = {flag.partition("=")[0] for flag in flags}
        own = {
            "--model": tiny_model,
            "--data": files.test,
            "--train-data": files.train,
            "--results-dir": tmp_path / "results",
        }
        command = [sys.executable, "-m", "pytest", str(only), "-p", "no:cacheprovider"]
        if defaults:
            command += [f"{name}={value}" for name, value in own.items() if name not in given]
        done = subprocess.run(
            [*command, *flags],
            cwd=ROOT,
            env={**outside_of_workers(), **(env or {})},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def clean_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache directory of the test's own."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("ADAPTBENCH_CACHE", str(cache))
    yield cache
