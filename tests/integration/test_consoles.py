"""``pytest suites/`` on a console that is not UTF-8."""

from __future__ import annotations

from pathlib import Path

from tests.builders import ROOT
from tests.builders.commands import Run
from tests.builders.processes import ForkServer

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


def test_what_torch_says_of_itself_is_left_out(tmp_path: Path, processes: ForkServer) -> None:
    """It deprecates parts of itself when they are imported, and no user can mend that."""
    (tmp_path / "test_mine.py").write_text(
        "import warnings\n\n"
        "def test_mine():\n"
        "    warnings.warn('`torch.jit.script_method` is deprecated.', DeprecationWarning)\n"
        "    warnings.warn('`mine` is deprecated.', DeprecationWarning)\n"
    )
    env = {"PYTHONPATH": str(ROOT)}
    done = processes.run(
        "pytest", "-p", "harness.plugin", "-p", "no:cacheprovider", folder=tmp_path, env=env
    )
    assert done.status == 0, done.out + done.err
    assert "`mine` is deprecated" in done.out
    assert "torch.jit" not in done.out
