"""What a run asked for and which stored cell answers each case: ``run.json``.

Reports are made from this and from the stored cells alone, so that they can be made again where
neither the data nor the model is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.core import Cell, Example, Task, digest
from harness.errors import StoreError
from harness.files import write_atomically
from harness.results.store import cell_from_json

SCHEMA_VERSION = 1
FILE = "run.json"


@dataclass(frozen=True)
class Entry:
    """One planned case and what became of it.

    ``cell`` and ``file`` are None where it was not measured, and ``reason`` says why.
    ``training_label`` names its training, which several cases can share.
    """

    id: str
    model: str
    quantization: str
    dtype: str
    prompt: str
    label: str
    training_label: str
    seed: int | None
    cell: Cell | None = None
    file: str | None = None
    cached: bool = False
    reason: str | None = None

    @property
    def group(self) -> tuple[str, ...]:
        """What entries that differ only in their seed have in common."""
        return self.model, self.quantization, self.dtype, self.prompt, self.label


@dataclass(frozen=True)
class Manifest:
    """A run as its reports need it; every field is made of plain JSON values.

    Attributes:
        metric: what the numbers of a row are, in words.
        task: its name, files, digests (also of each row), sizes, and what was left out of the pool.
        prompts: the fields of every prompt.
        recipe: everything that was asked for, as a recipe.
        rows: every test row, as the fields of an example that are not empty.
        shown: the rows of the pool that were shown as demonstrations, in the same way, by id.
        runs: the results directories that it puts together, if it does.
        scored_pool: id → (characters of the output, score) where every row of the pool is scored.
    """

    adaptbench: str
    metric: Mapping[str, str]
    task: Mapping[str, Any]
    prompts: tuple[Mapping[str, Any], ...]
    recipe: Mapping[str, Any]
    trial: bool
    rows: tuple[Mapping[str, Any], ...]
    shown: Mapping[str, Mapping[str, Any]]
    scored_pool: Mapping[str, tuple[int, float]]
    entries: tuple[Entry, ...]
    runs: tuple[str, ...] = ()


def example(fields: Mapping[str, Any]) -> Example:
    """The row that these fields are of; its score is not kept."""
    return Example(
        id=fields["id"],
        instruction=fields["instruction"],
        output=fields["output"],
        tags=tuple((str(name), str(value)) for name, value in fields.get("tags", ())),
        history=tuple((str(role), str(text)) for role, text in fields.get("history", ())),
    )


def row_digests(task: Task) -> dict[str, str]:
    """Id → a short digest of what a test row says, to name the row that changed."""
    return {row.id: digest(row.content)[:12] for row in task.examples}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``run.json`` into a results directory.

    Raises:
        StoreError: it cannot be written.
    """
    body = {"schema_version": SCHEMA_VERSION, **asdict(manifest)}
    body = json.loads(json.dumps(body))  # tuples become lists, as they will be read
    body["checksum"] = digest(body)
    write_atomically(folder / FILE, json.dumps(body, ensure_ascii=False, indent=1) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """Read ``run.json`` of a results directory.

    Raises:
        StoreError: it is not there, damaged, or of another version.
    """
    path = folder / FILE
    again = "run pytest suites/ with this --results-dir to write it"
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(f"{path}: not found, so this is no results directory; {again}") from None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}: damaged ({error}); {again}") from None
    checksum = body.pop("checksum", None) if isinstance(body, dict) else None
    try:
        version = body.pop("schema_version")
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"{path}: schema version {version}, this adaptbench reads {SCHEMA_VERSION}; {again}"
            )
        _verify(checksum, {"schema_version": version, **body})
        entries = tuple(
            Entry(**{**entry, "cell": cell_from_json(entry["cell"]) if entry["cell"] else None})
            for entry in body.pop("entries")
        )
        lists: dict[str, Any] = {
            name: tuple(body.pop(name)) for name in ("prompts", "rows", "runs")
        }
        pool = {name: (size, score) for name, (size, score) in body.pop("scored_pool").items()}
        return Manifest(**body, **lists, scored_pool=pool, entries=entries)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path}: damaged ({type(error).__name__}: {error}); {again}") from None


def _verify(checksum: str | None, body: Mapping[str, Any]) -> None:
    if checksum != digest(body):
        raise ValueError("its checksum does not match")
