"""Imports run one way, and heavy libraries are imported inside the functions that need them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests import SLOW_FIRST
from tests.builders import ROOT

HEAVY = {"torch", "transformers", "peft", "bitsandbytes", "accelerate", "pandas", "jinja2"}
MODULES = sorted((ROOT / "harness").rglob("*.py"))


def imported(path: Path, *, top_level_only: bool) -> set[str]:
    """Dotted names that a file imports; imports for type checkers do not count."""
    tree = ast.parse(path.read_text("utf-8"))
    nodes = list(tree.body) if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def roots(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_modules_of_the_harness(path: Path) -> None:
    assert not roots(imported(path, top_level_only=True)) & HEAVY
    if path.stem != "plugin":
        assert "pytest" not in roots(imported(path, top_level_only=False))
    if path.stem != "registry":
        assert "strategies" not in roots(imported(path, top_level_only=False))


@pytest.mark.parametrize(
    "path", sorted((ROOT / "strategies").glob("*.py")), ids=lambda path: path.stem
)
def test_strategies_know_the_nouns_only(path: Path) -> None:
    names = imported(path, top_level_only=False)
    assert not roots(names) & (HEAVY | {"pytest"})
    allowed = {"harness.core", "harness.errors", "harness.config.options", "harness.data.selection"}
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
