"""A checkout that a user drops files into."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders import ROOT
from tests.builders.tasks import Files

THEIRS = '''
from dataclasses import dataclass
from harness.core import Adaptation, Strategy

@dataclass(frozen=True)
class Shortest(Strategy):
    """The shortest rows of the pool."""
    n: int = 2
    name = "shortest"
    def adapt(self, pool, seed):
        return Adaptation(tuple(sorted(pool, key=lambda row: (len(row.output), row.id))[:self.n]))
'''


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the project to drop files into."""
    copy = tmp_path / "checkout"
    for name in ("harness", "strategies", "suites", "templates"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, copy / name)
    return copy


def run_in(checkout: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "suites/", "-p", "no:cacheprovider", *flags]
        if sys.version_info >= (3, 11)
        else [sys.executable, "-m", "pytest", "suites/", "-p", "no:cacheprovider", *flags],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_users_strategy_runs_by_its_name(checkout: Path, files: Files, tiny_model: Path) -> None:
    (checkout / "strategies" / "shortest.py").write_text(THEIRS)
    done = run_in(
        checkout, "--strategy=shortest", f"--model={tiny_model}", f"--data={files.test}",
        f"--train-data={files.train}",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((checkout / "results" / "summary.json").read_text("utf-8"))
    (cell,) = content["cells"]
    assert (cell["strategy"], cell["k"], cell["seed"]) == ("shortest", 2, None)


def test_a_strategy_of_the_working_directory_stands_beside_the_shipped_ones(
    checkout: Path, files: Files, tiny_model: Path, tmp_path: Path
) -> None:
    """Its setting makes two cells; where a test of a foreign checkout is collected, too."""
    here = tmp_path / "elsewhere"
    (here / "strategies").mkdir(parents=True)
    (here / "strategies" / "shortest.py").write_text(THEIRS)
    (here / "mine.toml").write_text("[shortest]\nn = [2, 4]\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(checkout / "suites"), "-p", "no:cacheprovider",
         "--collect-only", "-q", "--recipe=mine.toml", "--strategy=zeroshot,shortest",
         f"--model={tiny_model}", f"--data={files.test}", f"--train-data={files.train}"],
        cwd=here, env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for label in ("zeroshot", "shortest-n02", "shortest-n04"):
        assert f"[tiny-llama-plain-{label}]" in done.stdout


def test_a_broken_strategy_file_is_one_line(checkout: Path) -> None:
    (checkout / "strategies" / "mine.py").write_text("import no_such_module\n")
    fine = run_in(checkout, "--strategy=zeroshot", "--collect-only", "-q")
    assert fine.returncode == 0  # nobody asked for it
    done = run_in(checkout, "--strategy=mine")
    assert done.returncode == 4
    (line,) = [line for line in done.stderr.splitlines() if line.strip()]
    assert "strategies/mine.py: cannot be imported: ModuleNotFoundError" in line


def test_defaults_come_from_pyproject(checkout: Path, files: Files, tiny_model: Path) -> None:
    pyproject = checkout / "pyproject.toml"
    text = pyproject.read_text("utf-8")
    own = (
        f'[tool.adaptbench]\nmodel = "{tiny_model}"\nk = [2]\nseeds = [4]\nstrategy = ["fewshot"]\n'
    )
    pyproject.write_text(text.replace("[tool.adaptbench]\n", own))
    done = run_in(checkout, "--collect-only", "-q")
    assert "[tiny-llama-plain-fewshot-random-k02-s4]" in done.stdout
    pyproject.write_text(text.replace("[tool.adaptbench]\n", "[tool.adaptbench]\nseed = 1\n"))
    done = run_in(checkout, "--collect-only", "-q")
    assert done.returncode == 4
    assert "no key 'seed' (did you mean 'seeds'?)" in done.stderr
