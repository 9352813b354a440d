"""What is uploaded: what it holds, what it says of itself, and that it works elsewhere."""

from __future__ import annotations

import email
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import harness
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


# What building reads, and what it puts beside it.
NOT_SOURCE = {".git", ".venv", "build", "dist", ".pytest_cache", ".mypy_cache", ".ruff_cache"}


def copied(folder: str, names: list[str]) -> set[str]:
    """Leave out caches, and what runs have left in the results directory."""
    out = {name for name in names if name in NOT_SOURCE or name.endswith((".egg-info", ".pyc"))}
    if Path(folder) == ROOT / "results":
        out |= set(names) - {".gitkeep", "baseline.json"}
    return out | ({"__pycache__"} & set(names))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, built offline from a copy, which building leaves files in."""
    try:
        if int(version("setuptools").partition(".")[0]) < 77:
            pytest.skip("setuptools is older than 77, and nothing newer is fetched")
    except PackageNotFoundError:
        pytest.skip("setuptools is not installed, and it is not fetched")
    source = tmp_path_factory.mktemp("source") / "adaptbench"
    shutil.copytree(ROOT, source, ignore=copied)
    made = source.parent / "dist"
    code = f"from setuptools.build_meta import build_sdist; build_sdist({str(made)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = made.glob("*.tar.gz")
    return found


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """The wheel, built from the source distribution as an installer does it."""
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode:
        pytest.skip("pip is not installed")
    made = sdist.parent / "wheels"
    command = [sys.executable, "-m", "pip", "wheel", str(sdist), "--wheel-dir", str(made)]
    command += ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is absent from the `packages` configuration" not in done.stderr
    (found,) = made.glob("*.whl")
    return found


def members(sdist: Path) -> set[str]:
    with tarfile.open(sdist) as opened:
        return {one.name.partition("/")[2] for one in opened.getmembers() if one.isfile()}


def test_the_source_distribution_holds_every_file_of_the_checkout(sdist: Path) -> None:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a checkout")
    command = ["git", "-C", str(ROOT), "ls-files", "-z"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip(f"git says {listed.stderr.strip()}")
    files = {name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()}
    assert files - members(sdist) == set()


def test_what_it_says_of_itself(sdist: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        (name,) = (name for name in opened.namelist() if name.endswith(".dist-info/METADATA"))
        said = email.message_from_string(opened.read(name).decode("utf-8"))
    assert said["Name"] == "adaptbench"
    assert said["Version"] == harness.__version__
    assert said["License-Expression"] == "Apache-2.0"
    assert said["License-File"] == "LICENSE"
    assert said["Requires-Python"] == ">=3.10"
    assert said["Description-Content-Type"] == "text/markdown"
    assert said.get_payload() == (ROOT / "README.md").read_text("utf-8")
    supported = {text.rpartition(" ")[2] for text in said.get_all("Classifier", [])}
    assert {"3.10", "3.11", "3.12", "3.13", "3.14"} <= supported
    for file in (sdist, wheel):
        checked = subprocess.run(
            [sys.executable, "-m", "twine", "check", "--strict", str(file)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if "No module named twine" not in checked.stderr:
            assert checked.returncode == 0, checked.stdout + checked.stderr


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
