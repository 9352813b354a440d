"""A trained adapter's files: which there are, and whether they are what was trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.files import sha256

ADAPTER = "adapter_model.safetensors"
RECORD = "adaptbench-training.json"  # in an adapter's folder, if it was trained here


def is_complete(folder: Path) -> bool:
    """Whether the folder holds a finished adapter with the bytes that were trained."""
    try:
        return sha256(folder / ADAPTER) == str(read_record(folder)["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_record(folder: Path) -> dict[str, Any]:
    """Return what is known of the training: settings, rows, steps, losses, evaluations."""
    record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return record
