"""A run's per-row statistics and where they came from: what the gate and ``compare`` work on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness import __version__
from harness.core import Cell, Measurement
from harness.manifest import Manifest

DECIMALS = 6  # of a row's NLL in nats: finer than any two machines agree on
METRIC = {
    "log_perplexity": "NLL / scored tokens of a row, in nats; scored are the answer's tokens and "
    "the EOS",
    "layout": "[prefix] + tokens(context) + tokens(answer) + [EOS], context and answer tokenized "
    "separately",
}
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
    scores = next((measured[e.id].scores for e in manifest.entries if e.id in measured), ())
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
        metric=METRIC,
        adaptbench=manifest.adaptbench,
    )


def _rows(model: str, cell: Cell, measurement: Measurement) -> Rows:
    repeated = measurement.scoring.get("repeat")
    return Rows(
        key=cell.key,
        tokens=tuple(score.n_tokens for score in measurement.scores),
        nll=tuple(round(score.nll, DECIMALS) for score in measurement.scores),
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
