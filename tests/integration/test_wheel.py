"""The wheel: what it holds, and that it works where the checkout is not."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from tests.builders import ROOT
from tests.builders.processes import outside_of_workers
from tests.builders.tasks import Files

FOLDERS = ("strategies", "suites", "templates", "recipes")
MINE = """
from dataclasses import dataclass
from adaptbench import Adaptation, Strategy

@dataclass(frozen=True)
class Mine(Strategy):
    name = "mine"
    def adapt(self, pool, seed):
        return Adaptation(tuple(pool[:1]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built offline from a copy, which building leaves files in."""
    try:
        if int(version("setuptools").partition(".")[0]) < 77:
            pytest.skip("setuptools is older than 77, and nothing newer is fetched")
    except PackageNotFoundError:
        pytest.skip("setuptools is not installed, and it is not fetched")
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode:
        pytest.skip("pip is not installed")
    source = tmp_path_factory.mktemp("source") / "adaptbench"
    leave = shutil.ignore_patterns("__pycache__")
    for name in ("adaptbench", "harness", *FOLDERS):
        shutil.copytree(ROOT / name, source / name, ignore=leave)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    made = source.parent / "wheels"
    command = [sys.executable, "-m", "pip", "wheel", str(source), "--wheel-dir", str(made)]
    command += ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = made.glob("*.whl")
    return found


def test_it_installs_two_packages_and_no_general_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
        (scripts,) = (name for name in names if name.endswith("entry_points.txt"))
        assert "adaptbench = harness.cli:main" in opened.read(scripts).decode()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"adaptbench", "harness"}


def test_it_holds_every_file_of_the_checkout(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        names = {name for name in opened.namelist() if ".dist-info/" not in name}

    def files(folder: str) -> set[str]:
        found = (path for path in (ROOT / folder).rglob("*") if path.is_file())
        return {str(path.relative_to(ROOT)) for path in found if "__pycache__" not in path.parts}

    expected = files("harness") | files("adaptbench")
    for folder in FOLDERS:
        expected |= {f"adaptbench/{name}" for name in files(folder)}
    assert names == expected


def test_it_works_beside_ones_own_folders(
    wheel: Path, files: Files, tiny_model: Path, tmp_path: Path
) -> None:
    installed, own = tmp_path / "installed", tmp_path / "own"
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(installed)
    for name in FOLDERS:
        (own / name).mkdir(parents=True)
    (own / "strategies" / "mine.py").write_text(MINE, encoding="utf-8")
    (own / "suites" / "test_own.py").write_text("def test_own(measure): measure()\n")

    def python(*words: str) -> subprocess.CompletedProcess[str]:
        # Before the checkout, which an editable install puts at the end of the path.
        env = {**outside_of_workers(), "PYTHONPATH": str(installed)}
        return subprocess.run(
            [sys.executable, *words], cwd=own, env=env, capture_output=True, text=True, check=False
        )

    where = python("-c", "import harness; print(harness.__file__)").stdout.strip()
    assert Path(where) == installed / "harness" / "__init__.py"
    done = python(
        "-m", "adaptbench", "run", "--strategy=zeroshot,mine", "--limit=4", "-v",
        f"--model={tiny_model}", f"--data={files.test}", f"--train-data={files.train}",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for suite in ("test_perplexity.py::test_mean_perplexity", "suites/test_own.py::test_own"):
        for label in ("zeroshot", "mine"):
            assert f"{suite}[tiny-llama-plain-{label}] PASSED" in done.stdout
    assert (own / "results" / "report.html").is_file()
