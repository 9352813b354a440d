"""A trained adapter's files: which there are, and whether they are what was trained."""

from __future__ import annotations

import json
from pathlib import Path

from harness.files import sha256
from harness.records import TrainingRecord
from harness.results.json_records import training_from_json, training_to_json

ADAPTER = "adapter_model.safetensors"
RECORD = "adaptbench-training.json"  # in an adapter's folder, if it was trained here


def is_complete(folder: Path) -> bool:
    """Whether the folder holds a finished adapter with the bytes that were trained."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return sha256(folder / ADAPTER) == str(record["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_record(folder: Path) -> TrainingRecord:
    """The training run of a complete adapter."""
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return training_from_json(record | {"adapter": folder.name})


def write_record(folder: Path, record: TrainingRecord) -> None:
    """Write the training run into the adapter's folder; the folder's name is not written."""
    body = training_to_json(record)
    del body["adapter"]
    (folder / RECORD).write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
