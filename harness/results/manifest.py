"""What a run asked for and which stored cell answers each case: ``run.json``.

Reports are made from this and from the stored cells alone, so that they can be made again where
neither the data nor the model is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from harness.core import Cell, Example, PromptTemplate, Task, digest
from harness.errors import StoreError
from harness.files import write_atomically
from harness.records import ExamScores, Label
from harness.results.json_records import exam_from_json
from harness.results.store import cell_from_json

SCHEMA_VERSION = 2
FILE = "run.json"


@dataclass(frozen=True)
class ChoiceRecord:
    """Which decoding held-out rows chose, by which metric, and what every candidate had there."""

    decoding: str
    metric: str
    values: Mapping[str, float]
    rows: int


@dataclass(frozen=True)
class Entry:
    """One planned case and what became of it.

    ``cell`` and ``file`` are None where it was not measured, and ``reason`` says why.
    ``training_label`` names its training run, which several cases can share; ``decoding`` how its
    answers are written, and is empty where it holds likelihoods; ``choice`` which decoding that
    is, where it was chosen; ``against`` the label of what a judge compared the answers with;
    ``node`` where an engine computed it in this run.
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
    observes: str = "likelihood"
    decoding: str = ""
    choice: ChoiceRecord | None = None
    against: str = ""
    node: str = ""

    @property
    def group(self) -> tuple[str, ...]:
        """What entries that differ only in their seed have in common."""
        own = self.model, self.quantization, self.dtype, self.prompt, self.label, self.decoding
        return (*own, *([self.against] if self.against else []))


@dataclass(frozen=True)
class TaskRecord:
    """The task of a run.

    Attributes:
        name: of the task.
        data, train_data: where its rows came from.
        n: test rows.
        digest, pool_digest: of the test rows and of the training pool.
        rows: id of a test row → a short digest of what it says.
        pool: rows that may be shown.
        trainable: rows that may be trained on.
        excluded: (training id, test id) of copies and near copies.
        leaked: whether these may be trained on all the same.
        warnings: lines that a reader of the numbers has to know about the rows.
    """

    name: str
    data: str
    n: int
    digest: str
    rows: Mapping[str, str]
    train_data: str
    pool: int
    pool_digest: str
    trainable: int
    excluded: tuple[tuple[str, str], ...] = ()
    leaked: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Control:
    """What the others are compared with: the label of a strategy, and its name in sentences."""

    label: str = "zeroshot"
    title: str = "zero-shot"


@dataclass(frozen=True)
class SlotRecord:
    """A process that computed: where, how many jobs, and how long it worked."""

    node: str
    pid: int
    jobs: int
    seconds: float


@dataclass(frozen=True)
class EngineRecord:
    """What many processes computed.

    Attributes:
        name: of the engine.
        slots: the processes.
        work: seconds in which they worked, all together.
        waited: seconds in which they were there and did not.
        useful: more slots than this would have shortened nothing: one of them would have worked
            as long as the longest job takes, its training run included.
        longest: seconds of that job.
    """

    name: str
    slots: tuple[SlotRecord, ...]
    work: float
    waited: float
    useful: int
    longest: float

    @property
    def nodes(self) -> int:
        """On how many machines they ran."""
        return len({slot.node for slot in self.slots if slot.jobs})


@dataclass(frozen=True)
class Manifest:
    """A run as its reports need it.

    Attributes:
        adaptbench: the version that ran.
        metrics: metric's name → what its numbers mean, in words; the headline metric first.
        task: what was asked.
        prompts: every prompt that was used.
        recipe: everything that was asked for, as a recipe: TOML values.
        trial: whether the recipe's trial settings were in force.
        rows: every test row.
        shown: the rows of the pool that were shown as demonstrations, by id.
        scored_pool: id → (characters of the output, score) where every row of the pool is scored.
        entries: every planned case.
        runs: the results directories that it puts together, if it does.
        control: what the others are compared with.
        exams: how its judges did in their examinations.
        labels: what people said of answers.
        published: metric's name → what was measured elsewhere, by name.
        engine: what computed it, if that was not the process that was started.
        so_far: whether the run was going on when this was written.
    """

    adaptbench: str
    metrics: Mapping[str, Mapping[str, str]]
    task: TaskRecord
    prompts: tuple[PromptTemplate, ...]
    recipe: Mapping[str, Any]
    trial: bool
    rows: tuple[Example, ...]
    shown: Mapping[str, Example]
    scored_pool: Mapping[str, tuple[int, float]]
    entries: tuple[Entry, ...]
    runs: tuple[str, ...] = ()
    control: Control = Control()
    exams: tuple[ExamScores, ...] = ()
    labels: tuple[Label, ...] = ()
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    engine: EngineRecord | None = None
    so_far: bool = False


def row_digests(task: Task) -> dict[str, str]:
    """Id → a short digest of what a test row says, to name the row that changed."""
    return {row.id: digest(row.content)[:12] for row in task.examples}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``run.json`` into a results directory.

    Raises:
        StoreError: it cannot be written.
    """
    plain = {one.name: getattr(manifest, one.name) for one in fields(manifest)}
    body = {
        "schema_version": SCHEMA_VERSION,
        **plain,
        "task": asdict(manifest.task),
        "control": asdict(manifest.control),
        "prompts": [asdict(prompt) for prompt in manifest.prompts],
        "rows": [_fields(row) for row in manifest.rows],
        "shown": {name: _fields(row) for name, row in manifest.shown.items()},
        "entries": [asdict(entry) for entry in manifest.entries],
        "exams": [asdict(exam) for exam in manifest.exams],
        "labels": [asdict(label) for label in manifest.labels],
        "engine": None if manifest.engine is None else asdict(manifest.engine),
    }
    body = json.loads(json.dumps(body))  # tuples become lists, as they will be read
    body["checksum"] = digest(body)
    write_atomically(folder / FILE, json.dumps(body, ensure_ascii=False, indent=1) + "\n")


def _fields(row: Example) -> dict[str, Any]:
    """The fields of a row that are not empty; its score is not kept."""
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


def _example(fields: Mapping[str, Any]) -> Example:
    return Example(
        id=fields["id"],
        instruction=fields["instruction"],
        output=fields["output"],
        tags=tuple((str(name), str(value)) for name, value in fields.get("tags", ())),
        history=tuple((str(role), str(text)) for role, text in fields.get("history", ())),
    )


def read_manifest(folder: Path) -> Manifest:
    """Read ``run.json`` of a results directory, also one of schema 1.

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
        version = body["schema_version"]
        if version not in (1, SCHEMA_VERSION):
            raise StoreError(
                f"{path}: schema version {version}, this adaptbench reads up to "
                f"{SCHEMA_VERSION}; update adaptbench, or {again}"
            )
        _verify(checksum, body)
        return _decode(body)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path}: damaged ({type(error).__name__}: {error}); {again}") from None


def _decode(body: dict[str, Any]) -> Manifest:
    if body.pop("schema_version") == 1:  # which knew one metric and one control
        body["metrics"] = {"perplexity": body.pop("metric")}
        body["control"] = asdict(Control())
    task = body.pop("task")
    excluded = tuple((str(a), str(b)) for a, b in task.pop("excluded"))
    shown = {name: _example(row) for name, row in body.pop("shown").items()}
    pool = {name: (size, score) for name, (size, score) in body.pop("scored_pool").items()}
    return Manifest(
        task=TaskRecord(
            **{**task, "excluded": excluded, "warnings": tuple(task.get("warnings", ()))}
        ),
        control=Control(**body.pop("control")),
        prompts=tuple(PromptTemplate(**prompt) for prompt in body.pop("prompts")),
        rows=tuple(map(_example, body.pop("rows"))),
        shown=shown,
        scored_pool=pool,
        entries=tuple(map(_entry, body.pop("entries"))),
        runs=tuple(body.pop("runs")),
        exams=tuple(map(exam_from_json, body.pop("exams", ()))),
        labels=tuple(
            Label(one["id"], tuple(one["texts"]), one["score"]) for one in body.pop("labels", ())
        ),
        engine=_engine(body.pop("engine", None)),
        **body,
    )


def _engine(fields: Mapping[str, Any] | None) -> EngineRecord | None:
    if fields is None:
        return None
    slots = tuple(SlotRecord(**slot) for slot in fields["slots"])
    return EngineRecord(**{**fields, "slots": slots})


def _entry(fields: Mapping[str, Any]) -> Entry:
    cell = cell_from_json(fields["cell"]) if fields["cell"] else None
    choice = fields.get("choice")
    return Entry(
        **{**fields, "cell": cell, "choice": None if choice is None else ChoiceRecord(**choice)}
    )


def _verify(checksum: str | None, body: Mapping[str, Any]) -> None:
    if checksum != digest(body):
        raise ValueError("its checksum does not match")
