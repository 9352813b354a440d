"""``pytest suites/`` on a console that is not UTF-8."""

from __future__ import annotations

from tests.builders.commands import Run

ASCII = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}


def test_the_terminal_of_pytest_is_readable(suites: Run) -> None:
    done = suites("--strategy=zeroshot,fewshot", "--k=1", "--seeds=0", env=ASCII)
    assert done.status == 0, done.out + done.err
    assert (done.out + done.err).isascii()
    assert "\nadaptbench: 2 cells - " in done.out
    header = next(line for line in done.lines if line.startswith("strategy"))
    assert "mean +/- std" in header
    assert "\\u" not in done.out


def test_an_error_is_readable(suites: Run) -> None:
    done = suites("--strategy=zeroshot", "--prompt=“plain”", env=ASCII)
    assert done.status == 4
    assert '--prompt="plain"' in done.err
