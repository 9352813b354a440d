"""A trained adapter's files: which there are, and whether they are what was trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from harness.core import digest
from harness.errors import StoreError
from harness.files import publish_folder, sha256, temporary
from harness.records import TrainingRecord
from harness.results.json_records import training_from_json, training_to_json
from harness.results.objects import Objects, is_inside

ADAPTER = "adapter_model.safetensors"
RECORD = "adaptbench-training.json"  # in an adapter's folder, if it was trained here
FILES = "adaptbench-files.json"  # beside an adapter's files elsewhere, written last


class DamagedAdapterError(Exception):
    """An adapter that lies elsewhere is not what was trained; the text says why."""


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


def is_there(objects: Objects, name: str) -> bool:
    """Whether an adapter of this name lies elsewhere, whole if it is not damaged."""
    return objects.exists(_place(name, FILES))


def send(objects: Objects, folder: Path) -> None:
    """Copy a complete adapter elsewhere: its files first, and last what they are.

    Raises:
        StoreError: it cannot be written.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = {path.relative_to(folder).as_posix(): sha256(path) for path in paths}
    for name in sums:
        objects.upload(folder / name, _place(folder.name, name))
    body = {"adapter": folder.name, "files": sums}
    text = json.dumps({**body, "checksum": digest(body)}, indent=1)
    objects.write(_place(folder.name, FILES), f"{text}\n".encode())


def fetch(objects: Objects, folder: Path) -> bool:
    """Bring an adapter here, every byte of it verified; tell whether there is one.

    Raises:
        DamagedAdapterError: it is not what was trained; nothing of it stays here.
        StoreError: it cannot be read.
    """
    said = objects.read(_place(folder.name, FILES))
    if said is None:
        return False
    draft = temporary(folder)
    shutil.rmtree(draft, ignore_errors=True)
    try:
        for name, expected in _sums(said, folder.name).items():
            if not objects.download(_place(folder.name, name), draft / name):
                raise DamagedAdapterError(f"{name} is gone")
            if sha256(draft / name) != expected:
                raise DamagedAdapterError(f"{name} is not what was written")
        if not is_complete(draft):
            raise DamagedAdapterError(f"{ADAPTER} is not what was trained")
        publish_folder(draft, folder)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return True


def _sums(said: bytes, adapter: str) -> dict[str, str]:
    """Name → SHA-256 of every file of an adapter.

    Raises:
        DamagedAdapterError: it says something else.
    """
    try:
        body = json.loads(said)
        whole = body.pop("checksum") == digest(body) and body["adapter"] == adapter
        sums = {str(name): str(value) for name, value in body["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        whole, sums = False, {}
    if not whole:
        raise DamagedAdapterError(f"{FILES} is not what was written")
    if not all(map(is_inside, sums)):
        raise DamagedAdapterError(f"{FILES} names a file outside of its folder")
    return sums


def _place(adapter: str, name: str) -> str:
    return f"adapters/{adapter}/{name}"
