"""A run's per-row statistics and where they came from: what the gate and ``compare`` work on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness import __version__
from harness.core import Cell
from harness.gate.verdict import Difference
from harness.records import Measurement
from harness.results.manifest import Manifest

DECIMALS = 6  # of a row's NLL in nats: finer than any two machines agree on
LARGEST = 700.0  # nats per token; e to the 709.8 overflows
SHORT = 12  # hexadecimal digits of a digest that is shown and never looked up


@dataclass(frozen=True)
class Rows:
    """One cell's rows, in the order of the test set.

    Attributes:
        key: the cell's.
        tokens: scored tokens of each row.
        nll: nats, rounded as a baseline keeps them.
        facts: what determined the numbers, name → a short value.
        noise: how far two ways of batching its rows were apart, relative to the geometric mean;
            None where that was not measured.
    """

    key: str
    tokens: tuple[int, ...]
    nll: tuple[float, ...]
    facts: Mapping[str, Any]
    noise: float | None = None

    @property
    def nonfinite(self) -> tuple[int, ...]:
        """The places of the rows whose perplexity is NaN or too large for a float."""
        rows = enumerate(zip(self.nll, self.tokens, strict=True))
        return tuple(index for index, (nll, n) in rows if not abs(nll / n) < LARGEST)

    @property
    def logs(self) -> list[float]:
        """Log perplexity of each row."""
        return [nll / n for nll, n in zip(self.nll, self.tokens, strict=True)]


@dataclass(frozen=True)
class Snapshot:
    """All cells of a run.

    Attributes:
        where: the file or folder, for messages.
        task: its name.
        rows: id of a test row → digest of its content, in order.
        bytes: UTF-8 bytes of each answer.
        cells: cell id → its rows.
        missing: id of a planned cell that was not measured → why.
    """

    where: str
    task: str
    rows: Mapping[str, str]
    bytes: tuple[int, ...]
    cells: Mapping[str, Rows]
    missing: Mapping[str, str]
    metric: Mapping[str, str]
    adaptbench: str = __version__


def take(where: str, manifest: Manifest, measured: Mapping[str, Measurement]) -> Snapshot:
    """Take the snapshot of a run.

    Args:
        where: its results directory.
        manifest: the run.
        measured: entry id → measurement.
    """
    scores = next((measured[e.id].observations for e in manifest.entries if e.id in measured), ())
    return Snapshot(
        where=where,
        task=manifest.task["name"],
        rows=manifest.task["rows"],
        bytes=tuple(score.n_bytes for score in scores),
        cells={
            entry.id: _rows(entry.model, entry.cell, measured[entry.id])
            for entry in manifest.entries
            if entry.cell is not None
        },
        missing={entry.id: entry.reason or "" for entry in manifest.entries if entry.cell is None},
        metric=manifest.metric,
        adaptbench=manifest.adaptbench,
    )


def _rows(model: str, cell: Cell, measurement: Measurement) -> Rows:
    repeated = measurement.scoring.get("repeat")
    return Rows(
        key=cell.key,
        tokens=tuple(score.n_tokens for score in measurement.observations),
        nll=tuple(round(score.nll, DECIMALS) for score in measurement.observations),
        facts={"model": model, **_facts(cell, measurement.provenance)},
        noise=repeated["geometric"] if repeated else None,
    )


def _facts(cell: Cell, provenance: Mapping[str, Any]) -> dict[str, Any]:
    model = cell.model
    facts: dict[str, Any] = {
        "model bytes": model.digest[-SHORT:],
        "adapter bytes": model.adapter_digest and model.adapter_digest[:SHORT],
        "prompt": cell.prompt_digest[:SHORT],
        "demonstrations": cell.demonstrations_digest[:SHORT],
        "training": cell.training_digest and cell.training_digest[:SHORT],
        "quantization": model.quantization,
        "dtype": model.dtype,
        "device": model.device,
        "compute dtype": model.compute_dtype,
        "scorer": cell.scorer,
        "scoring code": dict(cell.libraries)["adaptbench"][:SHORT],
        "prefix token": provenance["prefix_token"],
        "matrix product": provenance["matmul"],
    }
    facts |= {f"{name} version": version for name, version in provenance["versions"].items()}
    return facts | {f"machine: {name}": value for name, value in provenance["hardware"].items()}


def changes(now: Rows, before: Rows) -> tuple[str, ...]:
    """Names of the facts that are not as they were."""
    names = dict.fromkeys([*before.facts, *now.facts])
    return tuple(name for name in names if now.facts.get(name) != before.facts.get(name))


def differences(current: Snapshot, baseline: Snapshot) -> list[Difference]:
    """What is not as it was, over the cells that both have."""
    found: dict[str, Counter[tuple[str, str]]] = {}
    for name, rows in current.cells.items():
        known = baseline.cells.get(name)
        if known is not None:
            for what in changes(rows, known):
                pair = _shown(known.facts.get(what)), _shown(rows.facts.get(what))
                found.setdefault(what, Counter())[pair] += 1
    listed = []
    for what, pairs in found.items():
        before, now = next(iter(pairs)) if len(pairs) == 1 else (None, None)
        listed.append(Difference(what, before, now, sum(pairs.values())))
    if current.adaptbench != baseline.adaptbench:
        versions = baseline.adaptbench, current.adaptbench
        listed.insert(0, Difference("adaptbench version", *versions, len(current.cells)))
    return listed


def _shown(fact: Any) -> str:
    return "–" if fact is None else str(fact)
