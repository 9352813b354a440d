"""The console script: commands, and ``adaptbench run``, which is pytest with the harness."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli import WRONG, main
from harness.config.flags import FLAGS, HELP
from tests.builders import ROOT
from tests.builders.commands import Outcome
from tests.builders.processes import ForkServer
from tests.builders.tasks import Files

COMMANDS = ("run", "data", "report", "compare", "gate", "check", "simulate", "doctor", "init")
OWN = "def test_own(measure):\n    assert len(measure().observations) == 2\n"

Typed = Callable[..., Outcome]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A working directory far from the checkout, with a suite of its own."""
    folder = tmp_path / "it's [my] folder"
    (folder / "suites").mkdir(parents=True)
    (folder / "suites" / "test_own.py").write_text(OWN, encoding="utf-8")
    return folder


@pytest.fixture
def typed(files: Files, tiny_model: Path, processes: ForkServer) -> Typed:
    """Type ``adaptbench …`` in a folder."""

    def run(folder: Path, *words: str, module: str = "adaptbench") -> Outcome:
        sweep = [f"--model={tiny_model}", f"--data={files.test}", f"--train-data={files.train}"]
        sweep += ["--strategy=zeroshot", "--limit=2", "-p", "no:cacheprovider"]
        more = sweep if words[:1] == ("run",) else []
        return processes.run(module, *words, *more, folder=folder, env={"PYTHONPATH": str(ROOT)})

    return run


def test_a_wrong_command_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["rnu"])
    assert ended.value.code == WRONG
    usage, line = capsys.readouterr().err.splitlines()
    assert usage == "usage: adaptbench [-h] COMMAND ..."
    assert line.startswith("adaptbench: argument COMMAND: invalid choice: 'rnu'")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert all(f"\n    {name} " in out for name in COMMANDS)


def test_every_command_says_how_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS[1:]:
        with pytest.raises(SystemExit) as ended:
            main([name, "--help"])
        assert ended.value.code == 0
        assert capsys.readouterr().out.startswith(f"usage: adaptbench {name} ")


def test_the_script_is_this_main() -> None:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["scripts"] == {"adaptbench": f"{main.__module__}:{main.__name__}"}


def test_help_of_run_is_the_flags_by_what_they_are_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["run", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "usage: adaptbench run [SUITES] [FLAGS]"
    assert [line for line in lines if line in (f"{title}:" for title in HELP)] == [
        f"{title}:" for title in HELP
    ]
    shown = {line.split()[0].partition("=")[0] for line in lines if line.startswith("  --")}
    assert shown == {f"--{flag.name}" for flag in FLAGS}
    assert max(map(len, lines)) <= 100


def test_pytests_help_is_there_with_the_flags(typed: Typed, tmp_path: Path) -> None:
    done = typed(tmp_path, "run", "--pytest-help")
    assert done.status == 0, done.err
    assert "--strategy=NAMES" in done.out
    assert "--junit-xml=path" in done.out


@pytest.mark.parametrize("module", ["adaptbench", "harness"])
def test_in_the_checkout_the_shipped_suites_run_once(typed: Typed, module: str) -> None:
    done = typed(ROOT, "run", "--collect-only", "-q", module=module)
    assert done.status == 0, done.out + done.err
    assert [line for line in done.lines if "::" in line] == [
        "suites/test_perplexity.py::test_mean_perplexity[tiny-llama-plain-zeroshot]"
    ]


def test_elsewhere_the_shipped_suites_run_and_ones_own(typed: Typed, own: Path) -> None:
    done = typed(own, "run", "-v")
    assert done.status == 0, done.out + done.err
    assert f"rootdir: {own}" in done.out
    passed = [line for line in done.lines if "PASSED" in line]
    assert len(passed) == 2
    assert "test_perplexity.py::test_mean_perplexity[tiny-llama-plain-zeroshot]" in passed[0]
    assert passed[1].startswith("suites/test_own.py::test_own[tiny-llama-plain-zeroshot]")
    assert "results/report.html" in done.lines  # relative to the working directory
    assert (own / "results" / "run.json").is_file()
    assert "warning" not in done.out


def test_workers_run_them_too(typed: Typed, own: Path) -> None:
    done = typed(own, "run", "-n", "2")
    assert done.status == 0, done.out + done.err
    assert "2 passed" in done.out


def test_a_path_runs_that_path_only(typed: Typed, own: Path) -> None:
    done = typed(own, "run", "suites/test_own.py", "--co")
    assert done.status == 0, done.out + done.err
    assert "1 test collected" in done.out


def test_folders_far_apart_leave_the_root_here(typed: Typed, own: Path) -> None:
    """pytest would take the folder above both, perhaps the file system's root."""
    done = typed(own, "run", str(ROOT / "suites" / "test_perplexity.py"), "suites", "--co", "-v")
    assert done.status == 0, done.out + done.err
    assert f"rootdir: {own}" in done.out
    assert "2 tests collected" in done.out


@pytest.mark.parametrize("flags", [("--rootdir", "suites"), ("--rootdir=suites",)])
def test_a_rootdir_of_ones_own_is_kept(typed: Typed, own: Path, flags: tuple[str, ...]) -> None:
    done = typed(own, "run", *flags, "suites", "--co")
    assert done.status == 0, done.out + done.err
    assert f"rootdir: {own / 'suites'}" in done.out


def test_the_exit_status_is_pytests(typed: Typed, own: Path) -> None:
    suite = own / "suites" / "test_own.py"
    suite.write_text(OWN.replace("== 2", "== 3"), encoding="utf-8")
    assert typed(own, "run").status == pytest.ExitCode.TESTS_FAILED
    assert typed(own, "run", "-k", "nothing").status == pytest.ExitCode.NO_TESTS_COLLECTED
    done = typed(own, "run", "--tolerance=x")
    assert done.status == pytest.ExitCode.USAGE_ERROR
    assert "--tolerance=x: expected a share" in done.err
