"""From a run's manifest and its measurements to what its reports say.

Everything here is derived: it can be made again from the results directory without data or model
and without importing torch. The only durations are those of stored training runs, so the same
measurements give the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from harness.gate.verdict import STATUSES, Gate
from harness.metrics.base import Array, Metric, Reading, reading
from harness.records import COPIED, Measurement
from harness.report.answers import anchors, degeneration, samples
from harness.report.conclusions import conclusions
from harness.report.judges import corrected, duels, judged, ranking
from harness.report.learning import training_runs
from harness.report.members import Members, Row
from harness.report.nouns import (
    GIVEN,
    Anchor,
    CellFacts,
    CellResult,
    Environment,
    Group,
    GroupResult,
    Known,
    Missing,
    ModelFacts,
    Noise,
    PrecisionFacts,
    Report,
    Section,
    StdFactor,
    Training,
    Unshared,
    WritingFacts,
    finite,
)
from harness.report.rows import explorer
from harness.results.manifest import Manifest
from harness.statistics.uncertainty import (
    Bounds,
    Comparison,
    cell_bounds,
    compare_groups,
    group_bounds,
    spread,
    std_factors,
)

Value = TypeVar("Value")


def build(
    manifest: Manifest,
    measured: Mapping[str, Measurement],
    metrics: Sequence[Metric],
    gate: Gate | None = None,
) -> Report:
    """Assemble everything a report says.

    Args:
        manifest: the run, in its order.
        measured: entry id → measurement, for every entry that has a cell.
        metrics: what is read from the observations, the headline first.
        gate: what the gate said, if it was asked.
    """
    rows = [Row(entry, measured[entry.id]) for entry in manifest.entries if entry.cell is not None]
    own = [row for row in rows if row.measurement.cell.strategy != GIVEN]
    groups = _groups(manifest, rows)
    sections = tuple(_section(one, manifest, groups, gate) for one in metrics)
    return Report(
        sections=sections,
        cells=tuple(map(_cell, rows)),
        groups=tuple(one.group for one in groups),
        models=_unique(map(_model, own)),
        **_judged(manifest, groups),
        prompts=tuple(p for p in manifest.prompts if p.name in {r.entry.prompt for r in rows}),
        seeds=tuple(sorted({row.entry.seed for row in rows if row.entry.seed is not None})),
        scorers=tuple(sorted({row.measurement.cell.scorer or "" for row in rows} - {""})),
        trainings=_training_runs(manifest, rows),
        degeneration=degeneration(groups, manifest.rows),
        writings=tuple(_writings(rows)),
        decodings=_unique(
            row.measurement.cell.decoding for row in own if row.measurement.cell.decoding
        ),
        choices=tuple((row.entry.id, row.entry.choice) for row in rows if row.entry.choice),
        samples=samples(groups, manifest.rows),
        explorer=explorer(manifest, measured, metrics),
        **_asked(manifest),
        missing=_missing(manifest),
        gate=gate,
        precision=_unique(one for one in map(_precision, rows) if one is not None),
        unshared=_unique(_unshared(rows)),
        halved=tuple(row.entry.id for row in rows if _halved(row)),
        environments=_unique(
            _environment(row) for row in rows if row.measurement.cell.strategy != GIVEN
        ),
        noise=_noise(rows),
        warnings=_warnings(manifest, rows),
    )


def _judged(manifest: Manifest, groups: Sequence[Members]) -> dict[str, Any]:
    """What is said of judges, and by them of pairs and of answers that people labelled."""
    return {
        "judges": tuple(judged(one, groups) for one in manifest.exams),
        "duels": duels(groups),
        "strengths": ranking(groups),
        "corrected": corrected(groups, manifest.labels),
    }


def _asked(manifest: Manifest) -> dict[str, Any]:
    """What was asked for, as it stands in the manifest."""
    names = ("adaptbench", "task", "control", "recipe", "trial", "runs", "engine", "so_far")
    return {name: getattr(manifest, name) for name in names}


def _groups(manifest: Manifest, rows: Sequence[Row]) -> list[Members]:
    """The measured cells by what they differ in besides their seed."""
    members: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        members.setdefault((row.entry.observes, *row.entry.group), []).append(row)
    planned = Counter((entry.observes, *entry.group) for entry in manifest.entries)
    return [Members(_group(some, planned[name]), tuple(some)) for name, some in members.items()]


def _section(
    metric: Metric, manifest: Manifest, every: Sequence[Members], gate: Gate | None
) -> Section:
    """What the report says under one metric, of what it reads."""
    members = [one for one in every if one.observes == metric.observes]
    groups = [one.group for one in members]
    readings = {
        row.entry.id: reading(metric, row.measurement, manifest.rows)
        for one in members
        for row in one.rows
    }
    verdicts = {
        verdict.cell: verdict.status
        for verdict in (gate.verdicts if gate else ())
        if verdict.metric in ("", metric.name)
    }
    in_order = sorted((row for one in members for row in one.rows), key=_order(manifest))
    tested = [np.stack([readings[row.entry.id].tested for row in one.rows]) for one in members]
    results = [_group_result(metric, one, readings, verdicts) for one in members]
    controls = [_control(manifest.control.label, group, groups) for group in groups]
    found = _compared(metric, tested, controls)
    bounds = group_bounds(metric, tested)
    results = [
        replace(result, bounds=limits, comparison=one, disagreeing=_disagreeing(one))
        for result, limits, one in zip(results, bounds, found, strict=True)
    ]
    denominators = [readings[one.rows[0].entry.id].denominators for one in members]
    trusted = _trusted(metric, manifest)
    return Section(
        metric=metric,
        cells=_cell_results(metric, in_order, readings, verdicts),
        groups=tuple(results),
        conclusions=tuple(
            conclusions(metric, manifest.control, results, tested, denominators, trusted)
        ),
        spreads=_spreads(results),
        anchors=_anchors(metric, manifest) if members else (),
    )


def _anchors(metric: Metric, manifest: Manifest) -> tuple[Anchor, ...]:
    """What the numbers of a section are read against; what was published last."""
    levels = manifest.published.get(metric.name, {})
    published = (Anchor(name, value, published=True) for name, value in levels.items())
    return (*anchors(metric, manifest.rows), *published)


def _trusted(metric: Metric, manifest: Manifest) -> bool:
    """Whether what a metric says may be called sure: of judges, where they were examined well."""
    if metric.observes not in ("rating", "preference"):
        return True
    pairs = metric.observes == "preference"
    exams = [judged(one).exam for one in manifest.exams if bool(one.orders) == pairs]
    return bool(exams) and all(exam.trusted for exam in exams)


def _order(manifest: Manifest) -> Callable[[Row], int]:
    places = {entry.id: place for place, entry in enumerate(manifest.entries)}
    return lambda row: places[row.entry.id]


def _cell_results(
    metric: Metric,
    rows: Sequence[Row],
    readings: Mapping[str, Reading],
    verdicts: Mapping[str, str],
) -> tuple[CellResult, ...]:
    bounds = cell_bounds(metric, [readings[row.entry.id].tested for row in rows])
    return tuple(
        CellResult(
            _cell(row),
            {name: finite(value) for name, value in readings[row.entry.id].aggregates.items()},
            limits,
            len(readings[row.entry.id].nonfinite),
            verdicts.get(row.entry.id),
        )
        for row, limits in zip(rows, bounds, strict=True)
    )


def _group_result(
    metric: Metric,
    members: Members,
    readings: Mapping[str, Reading],
    verdicts: Mapping[str, str],
) -> GroupResult:
    """A group under a metric, without intervals and comparison."""
    own = [readings[row.entry.id] for row in members.rows]
    aggregates = {}
    for name in own[0].aggregates:
        over = spread([reading.aggregates[name] for reading in own])
        aggregates[name] = Known(finite(over.mean), finite(over.std))
    first = aggregates[metric.headline.name]
    return GroupResult(
        group=members.group,
        mean=first.mean,
        std=first.std,
        aggregates=aggregates,
        bounds=Bounds(),
        nonfinite=sum(len(reading.nonfinite) for reading in own),
        verdict=_worst(members.rows, verdicts),
    )


def _worst(group: Sequence[Row], verdicts: Mapping[str, str]) -> str | None:
    words = [verdicts[row.entry.id] for row in group if row.entry.id in verdicts]
    return min(words, key=STATUSES.index, default=None)


def _compared(
    metric: Metric, tested: Sequence[Array], controls: Sequence[int | None]
) -> list[Comparison | None]:
    null = metric.null
    if null is not None:  # each compares two systems by itself
        return compare_groups(metric, [(ours, np.full_like(ours, null)) for ours in tested])
    pairs = [
        None if control is None else (ours, tested[control])
        for ours, control in zip(tested, controls, strict=True)
    ]
    return compare_groups(metric, pairs)


def _disagreeing(found: Comparison | None) -> bool:
    """Whether the two means moved in opposite directions, and one of them surely."""
    if found is None or found.mean_effect is None:
        return False
    one, other = found.effect, found.mean_effect
    sure = any(not effect.low <= 0 <= effect.high for effect in (one, other))
    return sure and one.estimate * other.estimate < 0


def _control(label: str, group: Group, groups: Sequence[Group]) -> int | None:
    """The place of the control with the same model, prompt, decoding; None for the control.

    The quantization may differ (an adapter trained on a 4-bit base against the plain model):
    that is the choice a user has; the table shows both.
    """
    own = group.model, group.prompt, group.decoding
    controls = [
        place
        for place, other in enumerate(groups)
        if other.label == label and (other.model, other.prompt, other.decoding) == own
    ]
    controls.sort(key=lambda place: groups[place].quantization != group.quantization)
    return None if not controls or groups[controls[0]] is group else controls[0]


def _spreads(results: Sequence[GroupResult]) -> tuple[StdFactor, ...]:
    """What a standard deviation over so many seeds knows of the true one."""
    sizes = sorted({one.group.n_seeds for one in results if one.std is not None})
    return tuple(StdFactor(size, *std_factors(size)) for size in sizes)


def _group(members: Sequence[Row], planned: int) -> Group:
    cell, entry = members[0].measurement.cell, members[0].entry
    seen = [one for row in members for one in row.measurement.observations]
    records = [row.measurement.training for row in members if row.measurement.training]
    seconds = [record.seconds for record in records]
    return Group(
        label=cell.label,
        strategy=cell.strategy,
        model=entry.model,
        quantization=cell.model.quantization,
        dtype=cell.model.dtype,
        prompt=entry.prompt,
        decoding=entry.decoding,
        against=entry.against,
        k=cell.k,
        select=cell.select,
        draw=cell.draw,
        n=cell.n,
        seeds=tuple(row.entry.seed for row in members if row.entry.seed is not None),
        n_seeds=len(members),
        n_seeds_planned=planned,
        context_tokens=sum(one.n_context for one in seen) / len(seen),
        training_tokens=records[0].trained_tokens if records else None,
        training_rows=records[0].trained_rows if records else None,
        training_seconds=sum(seconds) / len(seconds) if seconds else None,
    )


def _cell(row: Row) -> CellFacts:
    cell = row.measurement.cell
    return CellFacts(
        id=row.entry.id,
        task=cell.task,
        model=row.entry.model,
        quantization=cell.model.quantization,
        dtype=cell.model.dtype,
        strategy=cell.strategy,
        label=cell.label,
        k=cell.k,
        select=cell.select,
        draw=cell.draw,
        seed=row.entry.seed,
        prompt=row.entry.prompt,
        observes=row.entry.observes,
        decoding=row.entry.decoding,
        against=row.entry.against,
        key=cell.key,
        n=cell.n,
        seconds=row.measurement.seconds,
        cached=row.entry.cached,
        file=row.entry.file,
        node=row.entry.node,
    )


def _model(row: Row) -> ModelFacts:
    return ModelFacts(row.measurement.cell.model, row.measurement.provenance.prefix_token)


def _training_runs(manifest: Manifest, rows: Sequence[Row]) -> tuple[Training, ...]:
    pairs = ((row.entry, row.measurement) for row in rows)
    return training_runs(pairs, manifest.task.trainable)


def _missing(manifest: Manifest) -> tuple[Missing, ...]:
    """What was planned and has no cell."""
    gone = (entry for entry in manifest.entries if entry.cell is None)
    return tuple(Missing(entry.id, entry.reason or "") for entry in gone)


def _warnings(manifest: Manifest, rows: Sequence[Row]) -> tuple[str, ...]:
    """What a reader has to know of the test rows, and of what the cells were measured with."""
    of_cells = (line for row in rows for line in row.measurement.warnings)
    return _unique((*manifest.task.warnings, *of_cells))


def _unshared(rows: Sequence[Row]) -> Iterator[Unshared]:
    for row in rows:
        writing = row.measurement.writing
        refused = row.measurement.scoring.refused if writing is None else writing.refused
        if COPIED in refused:
            yield Unshared(row.entry.model, refused[COPIED])


def _noise(rows: Sequence[Row]) -> tuple[Noise, ...]:
    found = ((row.entry.id, row.measurement.scoring.repetition) for row in rows)
    return tuple(Noise(cell, repetition) for cell, repetition in found if repetition)


def _halved(row: Row) -> int:
    writing = row.measurement.writing
    return row.measurement.scoring.halved + (writing.halved if writing else 0)


def _writings(rows: Sequence[Row]) -> Iterator[WritingFacts]:
    for row in rows:
        writing, model = row.measurement.writing, row.measurement.cell.model
        if writing is not None:
            yield WritingFacts(row.entry.id, row.entry.model, model.dtype, writing)


def _precision(row: Row) -> PrecisionFacts | None:
    cost, model = row.measurement.scoring.precision, row.measurement.cell.model
    if cost is None:
        return None
    return PrecisionFacts(row.entry.model, model.quantization, model.dtype, cost)


def _environment(row: Row) -> Environment:
    found = row.measurement.provenance
    return Environment(found.versions, found.hardware, found.matmul)


def _unique(values: Iterable[Value]) -> tuple[Value, ...]:
    """Each value once, in order; told apart by what they say, since mappings cannot be hashed."""
    found: dict[Hashable, Value] = {}
    for value in values:
        found.setdefault(repr(value), value)
    return tuple(found.values())
