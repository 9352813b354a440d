"""From a run's manifest and its measurements to what its reports say.

Everything here is derived: it can be made again from the results directory without data or model
and without importing torch. The only durations are those of stored trainings, so the same
measurements give the same bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.gate.verdict import STATUSES, Gate
from harness.metrics.perplexity import METRICS, Summary, spread, summarize
from harness.records import COPIED, Likelihood, Measurement
from harness.report.conclusions import conclusions
from harness.report.learning import finite, trainings
from harness.report.rows import explorer
from harness.results.manifest import Entry, Manifest

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Row:
    """One measured cell of the report."""

    entry: Entry
    measurement: Measurement
    summary: Summary


def build(
    manifest: Manifest, measured: Mapping[str, Measurement], gate: Gate | None = None
) -> dict[str, Any]:
    """Assemble everything a report says, as plain JSON values.

    Args:
        manifest: the run, in its order.
        measured: entry id → measurement, for every entry that has a cell.
        gate: what the gate said, if it was asked.

    Returns:
        The content of summary.json; the templates render the same.
    """
    rows = [
        Row(entry, measured[entry.id], summarize(measured[entry.id].observations))
        for entry in manifest.entries
        if entry.cell is not None
    ]
    cells = _cells(rows, gate)
    members: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        members.setdefault(row.entry.group, []).append(row)
    scores = [[row.measurement.observations for row in group] for group in members.values()]
    groups = _groups(manifest, members, scores, cells)
    return {
        "schema_version": SCHEMA_VERSION,
        "adaptbench": manifest.adaptbench,
        "metric": {"headline": "mean_perplexity", "definitions": METRICS},
        "task": {name: value for name, value in manifest.task.items() if name != "rows"},
        "models": _unique(_model(row) for row in rows),
        "prompts": _prompts(manifest, rows),
        "seeds": sorted({row.entry.seed for row in rows if row.entry.seed is not None}),
        "scorers": sorted({row.measurement.cell.scorer for row in rows}),
        "trainings": trainings(
            ((row.entry, row.measurement) for row in rows), manifest.task["trainable"]
        ),
        "samples": _samples(manifest, rows),
        "explorer": explorer(manifest, measured),
        "recipe": manifest.recipe,
        "trial": manifest.trial,
        "runs": list(manifest.runs),
        "rounding": _unique(_rounding(row) for row in rows if _scoring(row, "rounding")),
        "unshared": _unique(_unshared(row) for row in rows if COPIED in _refused(row)),
        "halved": [row.entry.id for row in rows if _scoring(row, "halved")],
        "environments": _unique(_environment(row) for row in rows),
        "cells": cells,
        "groups": groups,
        "conclusions": conclusions(groups, scores),
        "constant": _constant(groups),
        "spreads": _spreads(groups),
        "noise": _unique(_noise(row) for row in rows if _scoring(row, "repeat")),
        "gate": gate.content() if gate else None,
        "missing": [
            {"id": entry.id, "reason": entry.reason}
            for entry in manifest.entries
            if entry.cell is None
        ],
    }


def _groups(
    manifest: Manifest,
    by_group: Mapping[tuple[str, ...], Sequence[Row]],
    scores_of: Sequence[Sequence[Sequence[Likelihood]]],
    cells: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    from harness.statistics.uncertainty import group_intervals, versus

    verdicts = {cell["id"]: cell["verdict"] for cell in cells}
    planned = Counter(entry.group for entry in manifest.entries)
    groups = []
    for name, members in by_group.items():
        cell = members[0].measurement.cell
        group: dict[str, Any] = {
            "label": cell.label,
            "strategy": cell.strategy,
            "model": members[0].entry.model,
            "quantization": cell.model.quantization,
            "dtype": cell.model.dtype,
            "prompt": cell.prompt,
            "k": cell.k,
            "select": cell.select,
            "draw": cell.draw,
            "n": cell.n,
            "seeds": [row.entry.seed for row in members if row.entry.seed is not None],
            "n_seeds": len(members),
            "n_seeds_planned": planned[name],
        }
        for metric in METRICS:
            values = spread([row.summary.metric(metric) for row in members])
            if metric == "mean_perplexity":
                group["mean"], group["std"] = finite(values.mean), finite(values.std)
            group[metric] = finite(values.mean)
            group[f"{metric}_std"] = finite(values.std)
        group["nonfinite"] = sum(row.summary.nonfinite for row in members)
        scores = [score for row in members for score in row.measurement.observations]
        group["context_tokens"] = sum(score.n_context for score in scores) / len(scores)
        records = [row.measurement.training for row in members if row.measurement.training]
        group["training_tokens"] = records[0]["trained_tokens"] if records else None
        group["training_rows"] = records[0]["trained_rows"] if records else None
        seconds = [record["seconds"] for record in records]
        group["training_seconds"] = sum(seconds) / len(seconds) if seconds else None
        words = [verdicts[row.entry.id] for row in members if verdicts[row.entry.id]]
        group["verdict"] = min(words, key=STATUSES.index, default=None)  # its worst seed's
        groups.append(group)
    for group, intervals in zip(groups, group_intervals(scores_of), strict=True):
        group.update(intervals)
    rivals = [_rival(group, groups) for group in groups]
    pairs = [
        None if rival is None else (ours, scores_of[rival])
        for ours, rival in zip(scores_of, rivals, strict=True)
    ]
    for group, rival, found in zip(groups, rivals, versus(pairs), strict=True):
        group["change"] = None if rival is None else _change(group, groups[rival])
        group["versus"] = found
        group["disagreeing"] = found is not None and _disagreeing(found)
    return groups


def _constant(groups: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What all groups have in common, so that a table need not repeat it in every row."""
    names = ("model", "quantization", "dtype", "prompt")
    return {name: groups[0][name] for name in names if len({g[name] for g in groups}) == 1}


def _disagreeing(versus: Mapping[str, Any]) -> bool:
    """Whether the two means moved in opposite directions, and one of them surely."""
    ratio, mean = versus["ratio"], versus["mean_ratio"]
    sure = any(not low <= 1 <= high for _, low, high in (ratio, mean))
    return sure and (ratio[0] - 1) * (mean[0] - 1) < 0


def _change(group: Mapping[str, Any], rival: Mapping[str, Any]) -> float | None:
    """Relative change of the mean."""
    if rival["mean"] is None or group["mean"] is None:
        return None
    return float(group["mean"] / rival["mean"] - 1)


def _rival(group: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]) -> int | None:
    """The place of zero-shot with the same model and prompt.

    The quantization may differ (an adapter trained on a 4-bit base against the plain model):
    that is the choice a user has; the table shows both.
    """
    rivals = [
        place
        for place, other in enumerate(groups)
        if other["strategy"] == "zeroshot"
        and other["model"] == group["model"]
        and other["prompt"] == group["prompt"]
    ]
    rivals.sort(key=lambda place: groups[place]["quantization"] != group["quantization"])
    return None if not rivals or groups[rivals[0]] is group else rivals[0]


def _spreads(groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What a standard deviation over so many seeds knows of the true one."""
    from harness.statistics.uncertainty import std_factors

    sizes = sorted({group["n_seeds"] for group in groups if group["std"] is not None})
    return [
        {"seeds": size, "low": low, "high": high}
        for size in sizes
        for low, high in [std_factors(size)]
    ]


def _cells(rows: Sequence[Row], gate: Gate | None) -> list[dict[str, Any]]:
    from harness.statistics.uncertainty import cell_intervals

    verdicts = {verdict.cell: verdict.status for verdict in gate.verdicts} if gate else {}
    intervals = cell_intervals([row.measurement.observations for row in rows])
    return [
        {**_cell(row), **found, "verdict": verdicts.get(row.entry.id)}
        for row, found in zip(rows, intervals, strict=True)
    ]


def _cell(row: Row) -> dict[str, Any]:
    cell = row.measurement.cell
    metrics = {name: finite(row.summary.metric(name)) for name in METRICS}
    return {
        "id": row.entry.id,
        "task": cell.task,
        "model": row.entry.model,
        "quantization": cell.model.quantization,
        "dtype": cell.model.dtype,
        "strategy": cell.strategy,
        "label": cell.label,
        "k": cell.k,
        "select": cell.select,
        "draw": cell.draw,
        "seed": row.entry.seed,
        "prompt": cell.prompt,
        "key": cell.key,
        "n": row.summary.n,
        **metrics,
        "nonfinite": row.summary.nonfinite,
        "seconds": row.measurement.seconds,
        "cached": row.entry.cached,
        "file": row.entry.file,
    }


def _model(row: Row) -> dict[str, Any]:
    return asdict(row.measurement.cell.model) | {
        "prefix_token": row.measurement.provenance["prefix_token"]
    }


def _prompts(manifest: Manifest, rows: Sequence[Row]) -> list[dict[str, Any]]:
    used = {row.entry.prompt for row in rows}
    return [dict(prompt) for prompt in manifest.prompts if prompt["name"] in used]


def _samples(manifest: Manifest, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What was written for each row, by one cell of each group: that of its first seed."""
    first: dict[tuple[str, ...], Row] = {}
    for row in rows:
        if row.measurement.samples:
            first.setdefault(row.entry.group, row)
    if not first:
        return []
    asked = manifest.rows[: manifest.recipe["generation"]["rows"]]
    return [
        {
            "id": question["id"],
            "instruction": question["instruction"],
            "reference": question["output"],
            "written": [
                {"cell": row.entry.id, "text": sample["text"], "finished": sample["finished"]}
                for row in first.values()
                for sample in row.measurement.samples
                if sample["id"] == question["id"]
            ],
        }
        for question in asked
    ]


def _scoring(row: Row, name: str) -> Any:
    return row.measurement.scoring.get(name)


def _refused(row: Row) -> Mapping[str, str]:
    return _scoring(row, "refused") or {}


def _rounding(row: Row) -> dict[str, Any]:
    model = row.measurement.cell.model
    return {
        "model": row.entry.model,
        "quantization": model.quantization,
        "dtype": model.dtype,
        **_scoring(row, "rounding"),
    }


def _noise(row: Row) -> dict[str, Any]:
    return {"cell": row.entry.id, **_scoring(row, "repeat")}


def _unshared(row: Row) -> dict[str, Any]:
    return {"model": row.entry.model, "reason": _refused(row)[COPIED]}


def _environment(row: Row) -> dict[str, Any]:
    provenance = row.measurement.provenance
    return {name: provenance[name] for name in ("versions", "hardware", "matmul")}


def _unique(values: Any) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for value in values:
        found.setdefault(json.dumps(value, sort_keys=True, ensure_ascii=False), value)
    return list(found.values())
