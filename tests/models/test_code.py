"""The code digests: whole rooms, and nothing that computes a number outside of them."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from harness.models.code import (
    GENERATION,
    PACKAGE,
    SCORING,
    TRAINING,
    code_digest,
    rooms_digest,
)

ROOMS = {"scoring": SCORING, "training": TRAINING, "generation": GENERATION}
ENTRANCES = {
    "scoring": "harness.scoring.score",
    "training": "harness.training.train",
    "generation": "harness.generation.engine",
}
# Modules that code in the rooms imports although no digest holds them: why that changes no number.
EXEMPT = {
    "harness": "the version",
    "harness.core": "nouns; what their values determine is in the keys",
    "harness.records": "nouns of what was found; they hold numbers and compute none",
    "harness.errors": "what is said when there is no number",
    "harness.files": "writes bytes, and hashes them",
    "harness.naming": "names for files and cells",
    "harness.places": "where folders are",
    "harness.results": "a docstring",
    "harness.results.adapter_files": "where an adapter's files are, and whether they are whole",
    "harness.results.objects": "moves files between machines, whole or not at all",
    "harness.results.json_records": "writes and reads records",
    "harness.results.surprisal": "for looking at: levels of 0.2 nats beside the exact sum",
}


def module_file(package: Path, name: str) -> Path | None:
    """The file of a dotted name of the package; None if it is not a module."""
    path = package.parent.joinpath(*name.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((found for found in candidates if found.is_file()), None)


def imported(file: Path) -> set[str]:
    """Dotted names that a file may import, inside functions too; not those for type checkers."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(file.read_text("utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: a relative import"
            assert node.module is not None
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        waiting += ast.iter_child_nodes(node)
    return found


def reached(package: Path, start: str) -> dict[str, str]:
    """Every module of the package that ``start`` leads to → the one that imports it."""
    found, waiting = {start: ""}, [start]
    while waiting:
        module = waiting.pop()
        file = module_file(package, module)
        assert file is not None
        # A package is imported before what is in it.
        names = {name.rpartition(".")[0] for name in imported(file)} | imported(file)
        for name in sorted(names):
            ours = name.partition(".")[0] == "harness" and module_file(package, name)
            if ours and name not in found:
                found[name] = module
                waiting.append(name)
    return found


def outside(package: Path, start: str, rooms: tuple[str, ...]) -> dict[str, str]:
    """What ``start`` leads to that is neither in its rooms nor exempt."""
    allowed = tuple(f"harness.{room}" for room in rooms)
    return {
        module: importer
        for module, importer in reached(package, start).items()
        if not module.startswith(tuple(f"{room}." for room in allowed))
        and module not in (*allowed, *EXEMPT)
    }


@pytest.mark.parametrize("kind", ROOMS)
def test_all_code_that_computes_is_in_the_digest(kind: str) -> None:
    assert outside(PACKAGE, ENTRANCES[kind], ROOMS[kind]) == {}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    ignore = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(PACKAGE, tmp_path / "harness", ignore=ignore))


@pytest.mark.parametrize(
    "line",
    ["import harness.report.tables", "def f():\n    from harness.metrics import perplexity"],
    ids=["at the top", "in a function"],
)
def test_a_new_import_from_outside_is_found(package: Path, line: str) -> None:
    file = package / "scoring" / "losses.py"
    file.write_text(f"{file.read_text('utf-8')}\n{line}\n", "utf-8")
    found = outside(package, ENTRANCES["scoring"], SCORING)
    assert "harness.scoring.losses" in found.values()


def test_an_import_for_type_checkers_is_none(package: Path) -> None:
    file = package / "scoring" / "losses.py"
    added = "if TYPE_CHECKING:\n    from harness.report import tables\n"
    file.write_text(f"{file.read_text('utf-8')}\n{added}", "utf-8")
    assert outside(package, ENTRANCES["scoring"], SCORING) == {}


def digests(package: Path) -> dict[str, str]:
    return {kind: rooms_digest(package, rooms) for kind, rooms in ROOMS.items()}


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("report/content.py", set()),
        ("metrics/perplexity.py", set()),
        ("core.py", set()),
        ("scoring/losses.py", {"scoring", "training", "generation"}),
        ("models/encoding.py", {"scoring", "training", "generation"}),
        ("prompts/rendering.py", {"scoring", "training", "generation"}),
        ("training/schedule.py", {"training"}),
        ("generation/engine.py", {"generation"}),
        ("scoring/new.py", {"scoring", "training", "generation"}),
    ],
)
def test_a_changed_file_changes_the_digests_of_its_room(
    package: Path, file: str, changed: set[str]
) -> None:
    before = digests(package)
    with (package / file).open("a", encoding="utf-8") as handle:
        handle.write("\n# a comment\n")
    after = digests(package)
    assert {kind for kind in ROOMS if before[kind] != after[kind]} == changed


def test_a_renamed_file_is_another_digest_and_what_is_not_code_is_none(package: Path) -> None:
    before = digests(package)
    (package / "scoring" / "notes.txt").write_text("no code", "utf-8")
    assert digests(package) == before
    (package / "scoring" / "losses.py").rename(package / "scoring" / "losses_.py")
    assert all(digests(package)[kind] != before[kind] for kind in ROOMS)


def test_the_digests_are_of_this_package(package: Path) -> None:
    assert {kind: code_digest(rooms) for kind, rooms in ROOMS.items()} == digests(package)
    assert len(set(digests(package).values())) == 3
