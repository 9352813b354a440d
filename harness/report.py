"""From stored measurements to the terminal's table, summary.json, report.md and report.html.

Everything here is derived: it can be made again from the store without a model and without
importing torch. The reports say nothing of wall-clock time, so the same measurements give the
same bytes; durations stand in summary.json.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness import __version__
from harness.core import Measurement
from harness.files import write_atomically
from harness.options import ROOT
from harness.plan import Case, Plan
from harness.stats import METRICS, Summary, spread, summarize

SCHEMA_VERSION = 1
TEMPLATES = ROOT / "templates"
NA = "n/a"


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
    return case.model_name, case.quantization, case.dtype, case.template.name, case.strategy.label


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
        },
        "models": _unique(_model(row) for row in rows),
        "prompts": _unique(_prompt(row) for row in rows),
        "seeds": sorted({row.case.seed for row in rows if row.case.seed is not None}),
        "scorers": sorted({row.measurement.cell.scorer for row in rows}),
        "trainings": _unique(_training(row) for row in rows if row.measurement.training),
        "environments": _unique(_environment(row) for row in rows),
        "cells": [_cell(row) for row in rows],
        "groups": groups,
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
                group["mean"], group["std"] = _finite(values.mean), _finite(values.std)
            group[metric] = _finite(values.mean)
            group[f"{metric}_std"] = _finite(values.std)
        group["nonfinite"] = sum(row.summary.nonfinite for row in members)
        scores = [score for row in members for score in row.measurement.scores]
        group["context_tokens"] = sum(score.n_context for score in scores) / len(scores)
        group["training_tokens"] = (members[0].measurement.training or {}).get("tokens")
        groups.append(group)
    for group in groups:
        group["change"] = _change(group, groups)
    return groups


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
    metrics = {name: _finite(row.summary.metric(name)) for name in METRICS}
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
    value: dict[str, Any] = dict(row.measurement.provenance["template"])
    return value


def _training(row: Row) -> dict[str, Any]:
    training = row.measurement.training or {}
    settings = {name: v for name, v in training["settings"].items() if name != "seed"}
    return {
        "label": row.measurement.cell.label,
        "rows": training["rows"],
        "tokens": training["tokens"],
        "steps": training["steps"],
        "trainable_parameters": training["trainable_parameters"],
        "settings": settings,
    }


def _environment(row: Row) -> dict[str, Any]:
    provenance = row.measurement.provenance
    return {"versions": provenance["versions"], "hardware": provenance["hardware"]}


def _unique(values: Any) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for value in values:
        found.setdefault(json.dumps(value, sort_keys=True, ensure_ascii=False), value)
    return list(found.values())


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def write(folder: Path, content: dict[str, Any]) -> list[Path]:
    """Write summary.json, report.md and report.html, each atomically; return their paths.

    Raises:
        StoreError: a file cannot be written.
    """
    texts = {
        "summary.json": json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n",
        "report.md": render("report.md.j2", content),
        "report.html": render("report.html.j2", content),
    }
    for name, text in texts.items():
        write_atomically(folder / name, text)
    return [folder / name for name in texts]


def render(template: str, content: Mapping[str, Any]) -> str:
    """Render one of the Jinja templates; every value is escaped for its format."""
    import jinja2

    html = template.endswith(".html.j2")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        # select_autoescape() would not recognize .html.j2; Markdown has an escaping of its own
        autoescape=html,  # noqa: S701
        finalize=None if html else _markdown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        number=number, percent=percent, plus_minus=plus_minus, flat=flat, visible=visible
    )
    return environment.get_template(template).render(**content)


_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|<>~$&])")


def _markdown(value: Any) -> Any:
    """Escape text so that Markdown shows it as text, on one line."""
    if not isinstance(value, str):
        return value
    return _MARKDOWN.sub(r"\\\1", visible(value))


def visible(text: str) -> str:
    """Make line breaks and invisible or direction-changing characters visible."""
    shown = text.replace("\n", "⏎").replace("\r", "⏎").replace("\t", " ")
    return "".join(c if c.isprintable() or c == " " else f"‹U+{ord(c):04X}›" for c in shown)


def number(value: float | None, digits: int = 2) -> str:
    """Format a metric; ``n/a`` where there is none, scientific where it is huge."""
    if value is None:
        return NA
    return f"{value:.{digits}f}" if abs(value) < 100_000 else f"{value:.3e}"


def plus_minus(mean: float | None, std: float | None) -> str:
    """``mean ± std``, with n/a where one value says nothing about a spread."""
    return f"{number(mean)} ± {number(std)}"


def percent(value: float | None) -> str:
    """A signed relative change in percent; a dash where there is nothing to compare with."""
    return "–" if value is None else f"{100 * value:+.1f} %".replace("-", "−")


def flat(settings: Mapping[str, Any]) -> str:
    """``a = 1, b = 2`` of a mapping."""
    return ", ".join(f"{name} = {value}" for name, value in settings.items())


COLUMNS = ("strategy", "seeds", "mean ± std", "vs zero-shot", "geometric", "median", "bits/byte")


def table(content: Mapping[str, Any]) -> str:
    """The main table for a terminal."""
    from tabulate import tabulate

    groups = content["groups"]
    varying = [
        name
        for name in ("model", "quantization", "prompt")
        if len({group[name] for group in groups}) > 1
    ]
    lines = [
        [
            group["label"],
            *(group[name] for name in varying),
            _seeds(group),
            plus_minus(group["mean"], group["std"]),
            percent(group["change"]),
            number(group["geometric_mean_perplexity"]),
            number(group["median_perplexity"]),
            number(group["bits_per_byte"], 3),
        ]
        for group in groups
    ]
    headers = [COLUMNS[0], *varying, *COLUMNS[1:]]
    return tabulate(
        lines,
        headers=headers,
        tablefmt="simple",
        disable_numparse=True,
        colalign=["left"] * (1 + len(varying)) + ["right"] * (len(headers) - 1 - len(varying)),
    )


def _seeds(group: Mapping[str, Any]) -> str:
    if group["n_seeds"] < group["n_seeds_planned"]:
        return f"{group['n_seeds']} of {group['n_seeds_planned']}"
    return str(group["n_seeds"]) if group["seeds"] else "–"
