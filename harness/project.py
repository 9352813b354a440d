"""A small project to begin with: a recipe, sample rows, a strategy, and a workflow for CI."""

from __future__ import annotations

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
IGNORED = "results/\n"


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
    for name, text in contents.items():
        write_atomically(folder / name, text)
    return [folder / name for name in contents]


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
