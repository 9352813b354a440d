"""Imports run one way, and heavy libraries are imported inside the functions that need them."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.results.baseline import write_baseline
from harness.results.reading import snapshot
from tests import SLOW_FIRST
from tests.builders import ROOT
from tests.builders.runs import make_run

HEAVY = {
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "accelerate",
    "pandas",
    "jinja2",
    "sacrebleu",
    "openai",
    "ray",
}
MODULES = sorted((ROOT / "harness").rglob("*.py"))


# What every room may import besides itself and the ground. Reading and measuring do not meet.
GROUND = {
    *(
        "__init__",
        "core",
        "records",
        "errors",
        "files",
        "flag",
        "messages",
        "naming",
        "parse",
        "places",
    ),
    *("plugins", "prompts"),
}
READING = {
    "metrics": set[str](),
    "statistics": {"metrics"},
    "results": {"metrics"},
    "gate": {"metrics", "statistics", "results"},
    "report": {"metrics", "statistics", "results", "gate"},
}
MEASURING = {
    "data": set[str](),
    "config": {"data", "metrics"},
    "models": {"results"},
    "scoring": {"models", "results"},
    "generation": {"models", "scoring"},
    "judging": {"models", "scoring", "generation"},
    "training": {"data", "config", "models", "scoring", "results"},
    "run": {
        *("data", "config", "models", "scoring", "generation", "judging", "training"),
        *("metrics", "results"),
    },
    "engine": {"models", "results", "run"},
}
SUITES = {
    "conformance": {"models", "scoring", "generation", "run"},
    "speed": {"models", "scoring", "generation", "run", "report"},
}
FACES = {
    name: {*READING, *MEASURING}
    for name in ("session", "listener", "plugin", "cli", "doctor", "project", "__main__")
}
FACES["__main__"] = {"cli"}
FACES["listener"] |= {"session"}
FACES["plugin"] |= {"session", "listener"}
FACES["cli"] |= {"plugin", "doctor", "project"}
ALLOWED = {**{name: set[str]() for name in GROUND}, **READING, **MEASURING, **SUITES, **FACES}


def imported(path: Path, *, top_level_only: bool) -> set[str]:
    """Dotted names that a file imports; imports for type checkers do not count."""
    return imported_by(path.read_text("utf-8"), top_level_only=top_level_only)


def imported_by(source: str, *, top_level_only: bool) -> set[str]:
    tree = ast.parse(source)
    for_checkers = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    nodes = list(tree.body) if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if id(node) in for_checkers:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "harness":
            found |= {f"harness.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def roots(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def room_of(path: Path) -> str:
    first = path.relative_to(ROOT / "harness").parts[0]
    return first.removesuffix(".py")


def breaks(room: str, source: str) -> set[str]:
    """What a file of a room imports of the harness and may not."""
    rooms = {
        name.split(".")[1]
        for name in imported_by(source, top_level_only=False)
        if name.startswith("harness.") and not name.startswith("harness.__")
    }
    return rooms - GROUND - ALLOWED[room] - {room}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{room_of(path)}-{path.stem}")
def test_modules_of_the_harness(path: Path) -> None:
    assert not breaks(room_of(path), path.read_text("utf-8"))
    assert not roots(imported(path, top_level_only=True)) & HEAVY
    if path.stem not in ("plugin", "listener"):
        assert "pytest" not in roots(imported(path, top_level_only=False))
    assert "strategies" not in roots(imported(path, top_level_only=False))


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("report", "from harness.training.cache import train_once"),
        ("metrics", "def f():\n    from harness.statistics import paired"),
        ("data", "import harness.run.plan"),
        ("core", "from harness import session"),
    ],
)
def test_an_import_in_the_wrong_direction_is_found(room: str, line: str) -> None:
    assert breaks(room, line)


@pytest.mark.parametrize("command", [["report"], ["gate", "--baseline=baseline.json"]])
def test_reading_a_stored_run_imports_no_measuring_room(command: list[str], tmp_path: Path) -> None:
    write_baseline(tmp_path / "baseline.json", snapshot(make_run(tmp_path / "results")))
    code = (
        "import sys; from harness.cli import main; status = main(sys.argv[1:]);"
        "print(status, sorted({m.split('.')[1] for m in sys.modules if m.startswith('harness.')}))"
    )
    name, *flags = command
    done = subprocess.run(
        [sys.executable, "-c", code, name, "results", *flags],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    status, _, rooms = done.stdout.strip().splitlines()[-1].partition(" ")
    assert status == "0"
    assert not set(MEASURING) & set(ast.literal_eval(rooms))


@pytest.mark.parametrize(
    "path", sorted((ROOT / "strategies").glob("*.py")), ids=lambda path: path.stem
)
def test_strategies_know_the_nouns_only(path: Path) -> None:
    names = imported(path, top_level_only=False)
    assert not roots(names) & (HEAVY | {"pytest"})
    allowed = {
        *("harness.core", "harness.errors", "harness.config.options"),
        *("harness.data.selection", "harness.training.settings"),
    }
    assert {name for name in names if name.startswith("harness")} <= allowed


def test_the_nouns_need_the_standard_library_only() -> None:
    import sys

    names = roots(imported(ROOT / "harness" / "core.py", top_level_only=True))
    assert names <= set(sys.stdlib_module_names)


def test_a_test_file_imports_no_other_test_file() -> None:
    """What several tests share stands in ``tests/builders``."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        names = imported(path, top_level_only=False)
        assert not [name for name in names if ".test_" in name or name == "tests.conftest"], path


def test_the_slow_files_are_there_and_come_first(request: pytest.FixtureRequest) -> None:
    assert all((ROOT / name).exists() for name in SLOW_FIRST)
    slow = [
        item.path.relative_to(ROOT).as_posix().startswith(SLOW_FIRST)
        for item in request.session.items
    ]
    assert slow == sorted(slow, reverse=True)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_function_has_over_forty_lines_of_code(path: Path) -> None:
    functions = (
        node
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    assert {node.name: lines for node in functions if (lines := _code_lines(node)) > 40} == {}


def _code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """From ``def`` to the end, without the docstring."""
    first = node.body[0]
    described = ast.get_docstring(node) is not None
    docstring = (first.end_lineno or 0) - first.lineno + 1 if described else 0
    return (node.end_lineno or 0) - node.lineno + 1 - docstring
