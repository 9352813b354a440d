"""A run's values of each row and where they came from: what the gate and ``compare`` work on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness import __version__
from harness.core import Cell, Example
from harness.metrics.base import Array, Metric, Reading, reading, unusable
from harness.records import Measurement, Provenance
from harness.results.manifest import Entry, Manifest

DECIMALS = 6  # of a row's total (value × denominator): finer than any two machines agree on
PLAIN_DECIMALS = 8  # of a row's value without a denominator
SHORT = 12  # hexadecimal digits of a digest that is shown and never looked up

Fact = str | int | float | None


@dataclass(frozen=True)
class Difference:
    """Something besides the numbers that is not as it was, and for how many cells.

    ``before`` and ``after`` are None where it differs from cell to cell.
    """

    what: str
    before: str | None
    after: str | None
    cells: int


@dataclass(frozen=True)
class Values:
    """One cell under one metric, in the order of the test rows.

    Attributes:
        values: on the scale that is tested, rounded as a baseline keeps them; empty under a corpus
            metric.
        denominators: what they are quotients by, where cells compare only if it is the same.
        aggregates: the cell's numbers by name, the headline first.
        sums: under a corpus metric what each row adds to the sums that its value is made of.
    """

    values: tuple[float, ...]
    denominators: tuple[int, ...] | None
    aggregates: Mapping[str, float]
    sums: tuple[tuple[float, ...], ...] | None = None

    @property
    def array(self) -> Array:
        """The values; shape (rows,)."""
        return np.array(self.values, dtype=np.float64)

    @property
    def tested(self) -> Array:
        """What statistics are computed from; shape (rows,), or (rows, statistics)."""
        return self.array if self.sums is None else np.array(self.sums, dtype=np.float64)

    @property
    def totals(self) -> Array:
        """Value × denominator of each row; shape (rows,)."""
        assert self.denominators is not None
        return self.array * np.array(self.denominators, dtype=np.float64)

    @property
    def nonfinite(self) -> tuple[int, ...]:
        """The places of rows without a finite value."""
        return unusable(self.tested)


@dataclass(frozen=True)
class Rows:
    """One cell.

    Attributes:
        key: the cell's.
        metrics: metric's name → its values.
        facts: what determined the numbers, name → a short value.
        group: a name for what cells that differ only in their seed have in common; empty where
            the seed plays no part.
        noise: how far two ways of batching its rows were apart, relative to the geometric mean
            perplexity; None where that was not measured.
    """

    key: str
    metrics: Mapping[str, Values]
    facts: Mapping[str, Fact]
    group: str = ""
    noise: float | None = None

    @property
    def nonfinite(self) -> tuple[int, ...]:
        """The places of rows without a finite value under some metric."""
        return tuple(sorted({place for one in self.metrics.values() for place in one.nonfinite}))


@dataclass(frozen=True)
class Snapshot:
    """All cells of a run.

    Attributes:
        where: the file or folder, for messages.
        task: its name.
        rows: id of a test row → digest of its content, in order.
        cells: cell id → its rows.
        missing: id of a planned cell that was not measured → why.
        definitions: metric's name → what its numbers mean, in words.
        adaptbench: the version that measured.
    """

    where: str
    task: str
    rows: Mapping[str, str]
    cells: Mapping[str, Rows]
    missing: Mapping[str, str]
    definitions: Mapping[str, Mapping[str, str]]
    adaptbench: str = __version__


def take(
    where: str,
    manifest: Manifest,
    measured: Mapping[str, Measurement],
    metrics: Sequence[Metric],
) -> Snapshot:
    """Take the snapshot of a run.

    Args:
        where: its results directory.
        manifest: the run.
        measured: entry id → measurement.
        metrics: what is read from the observations.
    """
    return Snapshot(
        where=where,
        task=manifest.task.name,
        rows=manifest.task.rows,
        cells={
            entry.id: _rows(entry, measured[entry.id], manifest.rows, metrics)
            for entry in manifest.entries
            if entry.cell is not None
        },
        missing={entry.id: entry.reason or "" for entry in manifest.entries if entry.cell is None},
        definitions={metric.name: dict(metric.defined(manifest.rows)) for metric in metrics},
        adaptbench=manifest.adaptbench,
    )


def _rows(
    entry: Entry, measurement: Measurement, rows: Sequence[Example], metrics: Sequence[Metric]
) -> Rows:
    repetition = measurement.scoring.repetition
    return Rows(
        key=measurement.cell.key,
        metrics={
            metric.name: rounded(reading(metric, measurement, rows))
            for metric in metrics
            if metric.observes == entry.observes
        },
        facts={"model": entry.model, **_facts(measurement.cell, measurement.provenance)},
        group=_group(entry),
        noise=repetition.geometric if repetition else None,
    )


def _group(entry: Entry) -> str:
    """A name for the cells that differ from this one in their seed only; empty without a seed."""
    usual = ("none", "float32")
    return "-".join(x for x in entry.group if x not in usual) if entry.seed is not None else ""


def rounded(reading: Reading) -> Values:
    """What a baseline keeps of a reading."""
    if reading.sums is not None:
        sums = tuple(tuple(map(float, row)) for row in reading.sums.round(PLAIN_DECIMALS))
        return Values((), None, dict(reading.aggregates), sums)
    if reading.denominators is None:
        values = tuple(round(float(value), PLAIN_DECIMALS) for value in reading.values)
    else:
        pairs = zip(reading.values, reading.denominators, strict=True)
        values = tuple(round(float(value) * n, DECIMALS) / n for value, n in pairs)
    return Values(values, reading.denominators, dict(reading.aggregates))


def _facts(cell: Cell, provenance: Provenance) -> dict[str, Fact]:
    model = cell.model
    facts: dict[str, Fact] = {
        "model bytes": model.digest[-SHORT:],
        "adapter bytes": model.adapter_digest and model.adapter_digest[:SHORT],
        "prompt": cell.prompt_digest[:SHORT],
        "demonstrations": cell.demonstrations_digest[:SHORT],
        "training": cell.training_digest and cell.training_digest[:SHORT],
        "quantization": model.quantization,
        "dtype": model.dtype,
        "device": model.device,
        "compute dtype": model.compute_dtype,
        "decoding": None if cell.decoding is None else cell.decoding.described,
        "judge": None if cell.judge is None else cell.judge.model.digest[-SHORT:],
        "rubric": None if cell.judge is None else cell.judge.rubric_digest[:SHORT],
        "scorer": cell.scorer,
        "scoring code": dict(cell.libraries)["adaptbench"][:SHORT],
        "prefix token": provenance.prefix_token,
        "matrix product": provenance.matmul,
    }
    facts |= {f"{name} version": version for name, version in provenance.versions.items()}
    return facts | {f"machine: {name}": value for name, value in provenance.hardware.items()}


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


def _shown(fact: Fact) -> str:
    return "–" if fact is None else str(fact)
