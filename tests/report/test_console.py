"""Consoles that are not UTF-8, and those that nobody reads to the end."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import FAILED, PASSED, WRONG
from harness.report import console
from tests.builders import ROOT
from tests.builders.runs import make_run

# What reports say besides ASCII: signs, punctuation, arrows, lines and bars.
SAID = "−0.1 % ± 2 × 3 … a · b – “c” d’s ≤ 4 → 5 ‹U+200B›⏎ ─│┌┼┘━ ▇█ ✓ é Å"
ASCII = '-0.1 % +/- 2 x 3 ... a - b - "c" d\'s <= 4 -> 5 <U+200B>\\n -|+++- ## ok e A'
ENCODINGS = ["ascii", "cp1252", "cp950", "gbk", "cp437", "cp932", "utf-8"]


def shown(text: str, encoding: str, errors: str = "strict") -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors=errors)
    return console.readable(text, stream)


def test_what_a_console_lacks_is_replaced_readably() -> None:
    assert shown(SAID, "ascii") == ASCII
    assert shown("天 地", "ascii") == r"\u5929 \u5730"
    assert shown("r😀", "cp950") == r"r\U0001f600"
    assert shown("\udcff", "utf-8") == r"\udcff"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_it_has_stays(encoding: str) -> None:
    text = shown(SAID, encoding)
    assert text.encode(encoding).decode(encoding) == text
    for character in SAID:
        # What it reads back: cp932's − is a wide one.
        assert character.encode(encoding, "ignore").decode(encoding) in text
    assert shown("天地", "cp950") == shown("天地", "gbk") == "天地"


def test_a_handler_that_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for errors, then in (
        ("strict", console.REPLACED),
        ("surrogateescape", console.REPLACED),
        ("ignore", "ignore"),
        ("namereplace", "namereplace"),
    ):
        stream = io.TextIOWrapper(io.BytesIO(), encoding="cp950", errors=errors, newline="\r\n")
        monkeypatch.setattr(sys, "stdout", stream)
        console.prepare()
        assert stream.errors == then
        stream.write("a\nb")
        stream.flush()
        assert stream.buffer.getvalue() == b"a\r\nb"  # type: ignore[attr-defined]
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    console.prepare()  # nothing to prepare


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "before")
    make_run(folder / "天 worse", shift=0.05)
    return folder


def harness(
    folder: Path, *arguments: str, encoding: str = "utf-8", **more: str
) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", **more}
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )


def test_every_command_is_readable(runs: Path) -> None:
    baseline = "--baseline=b.json"
    commands = [
        ("ascii", PASSED, ["report", "before"], "mean +/- std"),
        ("ascii", PASSED, ["gate", "before", baseline, "--update-baseline"], "b.json"),
        ("cp1252", FAILED, ["gate", "天 worse", baseline], "zeroshot0.0 -> zeroshot0.05"),
        ("gbk", PASSED, ["compare", "before", "天 worse"], "zeroshot0.0 → zeroshot0.05"),
        ("cp950", PASSED, ["check", "天 worse"], "天 worse"),
        ("ascii", PASSED, ["simulate", "before", "--rows=20", "--runs=5"], " -5 % "),
        ("ascii", WRONG, ["report", "天 nowhere"], r"\u5929 nowhere"),
    ]
    for encoding, status, words, says in commands:
        done = harness(runs, *words, encoding=encoding)
        assert done.returncode == status, done.stderr
        said = (done.stdout + done.stderr).decode(encoding)
        assert says in said
        assert "Traceback" not in said
        assert r"\u2212" not in said
    # Files are UTF-8 whatever the console is.
    assert "−" in (runs / "before" / "report.md").read_text("utf-8")


@pytest.mark.parametrize("words", [["report", "before"], ["--help"], ["report", "nowhere"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe_is_no_traceback(runs: Path, words: list[str], unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "harness", *words],
        cwd=runs,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered, "PYTHONPATH": str(ROOT)},
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert done.returncode == (WRONG if "nowhere" in words else PASSED)
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
