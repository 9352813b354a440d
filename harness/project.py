"""A small project to begin with: a recipe, sample rows, a strategy, and a workflow for CI."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from harness.errors import OptionError
from harness.files import write_atomically
from harness.places import shipped

FILES = {
    "README.md": "README.md",
    "recipe.toml": "recipe.toml",
    "strategies/shortest.py": "shortest.py",
    ".github/workflows/adaptbench.yml": "workflow.yml",
}
ROWS = {"data/test.json": ("public_test.json", 8), "data/train.json": ("train.json", 24)}
IGNORED = "results/\n.benchmarks/\n.pytest_cache/\n__pycache__/\n"  # what runs leave behind


def create(folder: Path) -> list[Path]:
    """Write the project's files, all of them or none.

    Args:
        folder: where to; made if it is not there.

    Returns:
        The files.

    Raises:
        OptionError: one of the files is there already, or the folder is a file.
        StoreError: a file cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise OptionError(f"{folder}: is a file; name a folder")
    contents = _contents()
    for name in contents:
        if (folder / name).exists():
            raise OptionError(f"{folder / name}: is there already, and nothing was written")
    files = [folder / name for name in contents]
    new = {parent for file in files for parent in file.parents if not parent.exists()}
    try:
        for file, text in zip(files, contents.values(), strict=True):
            write_atomically(file, text)
    except BaseException:
        _remove(files, new)
        raise
    return files


def _remove(files: list[Path], folders: set[Path]) -> None:
    with contextlib.suppress(OSError):  # the first error is what is told
        for file in files:
            file.unlink(missing_ok=True)
        for folder in sorted((one for one in folders if one.is_dir()), reverse=True):
            folder.rmdir()


def _contents() -> dict[str, str]:
    """The text of every file by its name."""
    found = {
        name: (shipped("templates") / "project" / source).read_text(encoding="utf-8")
        for name, source in FILES.items()
    }
    samples = shipped("suites") / "data" / "classical-zh"
    for name, (source, count) in ROWS.items():
        rows = json.loads((samples / source).read_text(encoding="utf-8"))[:count]
        found[name] = json.dumps(rows, ensure_ascii=False, indent=1) + "\n"
    return {**found, ".gitignore": IGNORED}
