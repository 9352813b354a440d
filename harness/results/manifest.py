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

from harness import __version__
from harness.config.export import effective
from harness.core import Cell, Example, Task, digest
from harness.errors import StoreError
from harness.files import write_atomically
from harness.metrics.perplexity import DEFINITION
from harness.results.store import cell_from_json
from harness.run.plan import Case, Plan

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


def describe(
    plan: Plan,
    found: Mapping[str, tuple[Cell, str]],
    computed: frozenset[str] = frozenset(),
    failures: Mapping[str, str] | None = None,
) -> Manifest:
    """Describe a run.

    Args:
        plan: what was asked for, in its order.
        found: case id → (its cell, the cell's file relative to the results directory).
        computed: ids of the cases computed in this very run.
        failures: case id → the line its failure said.
    """
    task, failures = plan.task, failures or {}
    pool = task.pool + task.leaks
    scored = {row.id: (len(row.output), row.score) for row in pool if row.score is not None}
    templates = {case.template.name: case.template for case in plan.cases}
    return Manifest(
        adaptbench=__version__,
        metric=DEFINITION,
        task={
            "name": task.name,
            "data": task.source,
            "n": len(task.examples),
            "digest": task.digest,
            "rows": row_digests(task),
            "train_data": task.pool_source,
            "pool": len(task.pool),
            "pool_digest": task.pool_digest,
            "trainable": len(pool),
            "excluded": [list(pair) for pair in task.excluded],
            "leaked": bool(task.leaks),
        },
        prompts=tuple(asdict(template) for template in templates.values()),
        recipe=effective(plan.options),
        trial=plan.options.trial,
        rows=tuple(map(_fields, task.examples)),
        shown={
            row.id: _fields(row)
            for case in plan.cases
            for rows in dict.fromkeys(plan.demonstrations(case))
            for row in rows
        },
        scored_pool=scored if len(scored) == len(pool) else {},
        entries=tuple(_entry(case, found, computed, failures) for case in plan.cases),
    )


def _fields(row: Example) -> dict[str, Any]:
    values: dict[str, Any] = {
        "id": row.id,
        "instruction": row.instruction,
        "output": row.output,
    }
    if row.tags:
        values["tags"] = [list(tag) for tag in row.tags]
    if row.history:
        values["history"] = [list(turn) for turn in row.history]
    return values


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


def _entry(
    case: Case,
    found: Mapping[str, tuple[Cell, str]],
    computed: frozenset[str],
    failures: Mapping[str, str],
) -> Entry:
    cell, file = found.get(case.id, (None, None))
    return Entry(
        id=case.id,
        model=case.model_name,
        quantization=case.quantization,
        dtype=case.dtype,
        prompt=case.template.name,
        label=case.label,
        training_label=case.strategy.label,
        seed=case.seed,
        cell=cell,
        file=file,
        cached=cell is not None and case.id not in computed,
        reason=None if cell else failures.get(case.id, "not run"),
    )


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
