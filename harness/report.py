"""From stored measurements to summary.json, report.md and report.html.

Everything here is derived: it can be made again from the store without a model and without
importing torch. The reports say nothing of wall-clock time, so the same measurements give the
same bytes; durations stand in summary.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness import __version__
from harness.core import Measurement
from harness.effective import effective, to_toml
from harness.figures import standalone
from harness.files import write_atomically
from harness.plan import Case, Plan
from harness.prefix import COPIED
from harness.render import render
from harness.stats import METRICS, Summary, spread, summarize
from harness.trainings import finite, trainings

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Row:
    """One measured cell of the report."""

    case: Case
    measurement: Measurement
    summary: Summary
    file: str
    cached: bool


def group_name(case: Case) -> tuple[str, ...]:
    """What cells that differ only in their seed have in common."""
    return case.model_name, case.quantization, case.dtype, case.template.name, case.label


def build(
    plan: Plan,
    stored: Mapping[str, tuple[Measurement, str]],
    computed: frozenset[str] = frozenset(),
    failures: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Assemble everything a report says, as plain JSON values.

    Args:
        plan: the run, in its order.
        stored: case id → (measurement, file relative to the results directory).
        computed: ids of the cases computed in this very run.
        failures: case id → the line its failure said.

    Returns:
        The content of summary.json; the templates render the same.
    """
    rows = []
    for case in plan.cases:
        if case.id in stored:
            measurement, file = stored[case.id]
            summary = summarize(measurement.scores)
            rows.append(Row(case, measurement, summary, file, case.id not in computed))
    failures = failures or {}
    missing = [
        {"id": case.id, "reason": failures.get(case.id, "not run")}
        for case in plan.cases
        if case.id not in stored
    ]
    groups = _groups(plan, rows)
    return {
        "schema_version": SCHEMA_VERSION,
        "adaptbench": __version__,
        "metric": {"headline": "mean_perplexity", "definitions": METRICS},
        "task": {
            "name": plan.task.name,
            "data": plan.task.source,
            "n": len(plan.task.examples),
            "digest": plan.task.digest,
            "train_data": plan.task.pool_source,
            "pool": len(plan.task.pool),
            "pool_digest": plan.task.pool_digest,
            "excluded": [list(pair) for pair in plan.task.excluded],
            "leaked": bool(plan.task.leaks),
        },
        "models": _unique(_model(row) for row in rows),
        "prompts": _unique(_prompt(row) for row in rows),
        "seeds": sorted({row.case.seed for row in rows if row.case.seed is not None}),
        "scorers": sorted({row.measurement.cell.scorer for row in rows}),
        "trainings": trainings(
            ((row.case, row.measurement) for row in rows), len(plan.task.pool + plan.task.leaks)
        ),
        "samples": _samples(plan, rows),
        "recipe": effective(plan.options),
        "trial": plan.options.trial,
        "rounding": _unique(_rounding(row) for row in rows if _scoring(row, "rounding")),
        "unshared": _unique(_unshared(row) for row in rows if COPIED in _refused(row)),
        "halved": [row.case.id for row in rows if _scoring(row, "halved")],
        "environments": _unique(_environment(row) for row in rows),
        "cells": [_cell(row) for row in rows],
        "groups": groups,
        "constant": _constant(groups),
        "missing": missing,
    }


def _groups(plan: Plan, rows: Sequence[Row]) -> list[dict[str, Any]]:
    planned: dict[tuple[str, ...], int] = {}
    for case in plan.cases:
        planned[group_name(case)] = planned.get(group_name(case), 0) + 1
    by_group: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        by_group.setdefault(group_name(row.case), []).append(row)
    groups = []
    for name, members in by_group.items():
        cell = members[0].measurement.cell
        group: dict[str, Any] = {
            "label": cell.label,
            "strategy": cell.strategy,
            "model": members[0].case.model_name,
            "quantization": cell.model.quantization,
            "dtype": cell.model.dtype,
            "prompt": cell.prompt,
            "k": cell.k,
            "select": cell.select,
            "draw": cell.draw,
            "n": cell.n,
            "seeds": [row.case.seed for row in members if row.case.seed is not None],
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
        scores = [score for row in members for score in row.measurement.scores]
        group["context_tokens"] = sum(score.n_context for score in scores) / len(scores)
        group["training_tokens"] = (members[0].measurement.training or {}).get("tokens")
        groups.append(group)
    for group in groups:
        group["change"] = _change(group, groups)
    return groups


def _constant(groups: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What all groups have in common, so that a table need not repeat it in every row."""
    names = ("model", "quantization", "dtype", "prompt")
    return {name: groups[0][name] for name in names if len({g[name] for g in groups}) == 1}


def _change(group: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]) -> float | None:
    """Relative change of the mean against zero-shot with the same model and prompt.

    The quantization may differ (an adapter trained on a 4-bit base against the plain model):
    that is the choice a user has; the table shows both.
    """
    rivals = [
        other
        for other in groups
        if other["strategy"] == "zeroshot"
        and other["model"] == group["model"]
        and other["prompt"] == group["prompt"]
    ]
    rivals.sort(key=lambda other: other["quantization"] != group["quantization"])
    if not rivals or rivals[0] is group or rivals[0]["mean"] is None or group["mean"] is None:
        return None
    return float(group["mean"] / rivals[0]["mean"] - 1)


def _cell(row: Row) -> dict[str, Any]:
    cell = row.measurement.cell
    metrics = {name: finite(row.summary.metric(name)) for name in METRICS}
    return {
        "id": row.case.id,
        "task": cell.task,
        "model": row.case.model_name,
        "quantization": cell.model.quantization,
        "dtype": cell.model.dtype,
        "strategy": cell.strategy,
        "label": cell.label,
        "k": cell.k,
        "select": cell.select,
        "draw": cell.draw,
        "seed": row.case.seed,
        "prompt": cell.prompt,
        "key": cell.key,
        "n": row.summary.n,
        **metrics,
        "nonfinite": row.summary.nonfinite,
        "seconds": row.measurement.seconds,
        "cached": row.cached,
        "file": row.file,
    }


def _model(row: Row) -> dict[str, Any]:
    return asdict(row.measurement.cell.model) | {
        "prefix_token": row.measurement.provenance["prefix_token"]
    }


def _prompt(row: Row) -> dict[str, Any]:
    return asdict(row.case.template)


def _samples(plan: Plan, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What was written for each row, by one cell of each group: that of its first seed."""
    first: dict[tuple[str, ...], Row] = {}
    for row in rows:
        if row.measurement.samples:
            first.setdefault(group_name(row.case), row)
    if not first:
        return []
    return [
        {
            "id": example.id,
            "instruction": example.instruction,
            "reference": example.output,
            "written": [
                {"cell": row.case.id, "text": sample["text"], "finished": sample["finished"]}
                for row in first.values()
                for sample in row.measurement.samples
                if sample["id"] == example.id
            ],
        }
        for example in plan.task.examples[: plan.options.generation.rows]
    ]


def _scoring(row: Row, name: str) -> Any:
    return row.measurement.scoring.get(name)


def _refused(row: Row) -> Mapping[str, str]:
    return _scoring(row, "refused") or {}


def _rounding(row: Row) -> dict[str, Any]:
    model = row.measurement.cell.model
    return {
        "model": row.case.model_name,
        "quantization": model.quantization,
        "dtype": model.dtype,
        **_scoring(row, "rounding"),
    }


def _unshared(row: Row) -> dict[str, Any]:
    return {"model": row.case.model_name, "reason": _refused(row)[COPIED]}


def _environment(row: Row) -> dict[str, Any]:
    provenance = row.measurement.provenance
    return {name: provenance[name] for name in ("versions", "hardware", "matmul")}


def _unique(values: Any) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for value in values:
        found.setdefault(json.dumps(value, sort_keys=True, ensure_ascii=False), value)
    return list(found.values())


def write(
    folder: Path, content: dict[str, Any], figures: Mapping[str, tuple[str, str]]
) -> list[Path]:
    """Write summary.json, the reports, their figures and the recipe, each atomically.

    Args:
        folder: the results directory.
        content: what :func:`build` returned.
        figures: name → (heading, SVG).

    Returns:
        The files that a reader opens first.

    Raises:
        StoreError: a file cannot be written.
    """
    for name, (_, svg) in figures.items():
        write_atomically(folder / "figures" / f"{name}.svg", standalone(svg))
    for path in (folder / "figures").glob("*.svg"):
        if path.stem not in figures:  # of an earlier report
            path.unlink(missing_ok=True)
    write_atomically(folder / "recipe.toml", to_toml(content["recipe"]))
    texts = {
        "summary.json": json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n",
        "report.md": render("report.md.j2", content, figures),
        "report.html": render("report.html.j2", content, figures),
    }
    for name, text in texts.items():
        write_atomically(folder / name, text)
    return [folder / name for name in texts]
