"""The checkpoints that a killed training run is resumed from: those that were written to the end.

A checkpoint counts only with a mark in it, written last, that holds the SHA-256 of every other
file. Older ones are removed only after a newer one has its mark.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

from harness.files import sha256, write_atomically

MARK = "complete.json"
_NAME = re.compile(r"^checkpoint-(\d+)$")


def mark(checkpoint: Path, seconds: float) -> None:
    """Declare a checkpoint complete, after so many seconds of training."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    for path in files:
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
    notes = {"seconds": seconds}
    sums = {str(path.relative_to(checkpoint)): sha256(path) for path in files}
    write_atomically(checkpoint / MARK, json.dumps({"files": sums, "notes": notes}))


def seconds(checkpoint: Path) -> float:
    """How long the training run had taken when :func:`mark` was called."""
    return float(json.loads((checkpoint / MARK).read_text(encoding="utf-8"))["notes"]["seconds"])


def is_complete(checkpoint: Path) -> bool:
    """Whether the checkpoint is marked, and its files are what they were then."""
    try:
        files = json.loads((checkpoint / MARK).read_text(encoding="utf-8"))["files"]
        return all(sha256(checkpoint / name) == value for name, value in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def step_of(checkpoint: Path) -> int:
    """The optimizer step after which the checkpoint was written; -1 if it is none."""
    found = _NAME.match(checkpoint.name)
    return int(found[1]) if found else -1


def newest(folder: Path) -> Path | None:
    """Return the complete checkpoint of the latest step; others of later steps are removed."""
    for checkpoint in sorted(_all(folder), key=step_of, reverse=True):
        if is_complete(checkpoint):
            return checkpoint
        shutil.rmtree(checkpoint, ignore_errors=True)
    return None


def prune(folder: Path, limit: int) -> None:
    """Remove all but the latest ``limit`` checkpoints."""
    for checkpoint in sorted(_all(folder), key=step_of, reverse=True)[limit:]:
        shutil.rmtree(checkpoint, ignore_errors=True)


def _all(folder: Path) -> list[Path]:
    return [path for path in folder.glob("checkpoint-*") if step_of(path) >= 0]
