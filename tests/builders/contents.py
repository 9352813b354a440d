"""A report, as far as its figures look at it."""

from __future__ import annotations

import math
import random
import statistics
from typing import Any

from harness.metrics.base import Metric
from harness.metrics.perplexity import Perplexity
from harness.report.figures.select import pictures
from harness.report.nouns import (
    CellFacts,
    CellResult,
    Explorer,
    ExplorerCell,
    ExplorerRow,
    Group,
    GroupResult,
    Known,
    Report,
    Section,
)
from harness.results.manifest import Control, TaskRecord
from harness.statistics.uncertainty import Bounds

PROMPTS = {0: 90.0, 1: 250.0, 3: 560.0, 5: 870.0}

LABELS = ("zeroshot", "fewshot-random-k01", "fewshot-random-k03", "fewshot-random-k05", "qlora")

MEANS = {"zeroshot": 33.0, "fewshot": 26.0, "qlora": 9.6}


def content(
    *more: dict[str, Any],
    labels: tuple[str, ...] = LABELS,
    n: int = 50,
    scatter: float = 0.3,
    **common: Any,
) -> dict[str, Any]:
    """What a report says of groups, as far as the pictures look at it."""
    base = random.Random(0)
    rows = [base.gauss(0, 0.86) for _ in range(n)]
    groups: list[dict[str, Any]] = []
    cells: list[dict[str, Any]] = []
    explored = []
    for changes in [*({"label": label} for label in labels), *more]:
        label = str(changes["label"])
        strategy = label.partition("-")[0]
        group = {
            "strategy": strategy,
            "model": "m",
            "quantization": "none",
            "dtype": "float32",
            "prompt": "plain",
            "k": int(label[-2:]) if label[-2:].isdigit() else 0,
            "training_tokens": 40_000 if strategy == "qlora" else None,
            "training_seconds": 137.0 if strategy == "qlora" else None,
            **common,
            **changes,
        }
        seeds: list[int | None] = [None] if strategy == "zeroshot" else [0, 1, 2]
        group.setdefault("context_tokens", PROMPTS.get(group["k"], 90.0))
        name = "/".join(str(group[key]) for key in ("model", "quantization", "dtype", "prompt"))
        found = []
        for seed in seeds:
            rng = random.Random(f"{label}{seed}")
            middle = MEANS.get(strategy, 20.0) * math.exp(-(0.86**2) / 2)
            noise = 0.0 if seed is None else scatter
            values = [middle * math.exp(row + rng.gauss(0, noise)) for row in rows]
            cell = {
                key: group[key] for key in ("model", "quantization", "dtype", "prompt", "label")
            }
            cell |= {"id": f"{name}/{label}/{seed}", "seed": seed}
            metrics = {
                "mean_perplexity": statistics.fmean(values),
                "geometric_mean_perplexity": statistics.geometric_mean(values),
                "median_perplexity": statistics.median(values),
            }
            cells.append({**cell, **metrics})
            explored.append({**cell, "perplexity": values})
            found.append(metrics)
        for metric in found[0]:
            group.setdefault(metric, statistics.fmean(one[metric] for one in found))
        group.setdefault("mean", group["mean_perplexity"])
        limits = [0.9 * (group["mean"] or 1), 1.1 * (group["mean"] or 1)]
        group.setdefault("mean_interval", limits)
        group.setdefault("mean_seeds_interval", None if len(seeds) == 1 else limits)
        groups.append(group)
    questions = [{"id": f"r{i:03d}"} for i in range(n)]
    return {"groups": groups, "cells": cells, "explorer": {"rows": questions, "cells": explored}}


def to_report(found: dict[str, Any], metric: Metric | None = None) -> Report:
    """The report that says what a :func:`content` does, under one metric."""
    metric = metric or Perplexity()
    section = Section(
        metric,
        tuple(_cell_result(metric, cell) for cell in found["cells"]),
        tuple(_group_result(metric, group) for group in found["groups"]),
    )
    task = TaskRecord("task", "data", 0, "d", {}, "train", 0, "p", 0)
    explorer = Explorer(
        rows=tuple(ExplorerRow(row["id"], "", "") for row in found["explorer"]["rows"]),
        cells=tuple(
            ExplorerCell(
                *(cell["id"], *(cell[name] for name in NAMES), "", "", "likelihood"),
                *(cell["label"], cell["seed"], (tuple(cell["perplexity"]),)),
                *((), (), (), (), (), ()),
            )
            for cell in found["explorer"]["cells"]
        ),
        strings=(),
        alphabet="",
        step=0.2,
    )
    return Report(
        *("0.1.0", task, Control(), (section,)),
        cells=tuple(_cell(cell) for cell in found["cells"]),
        groups=tuple(_group(group) for group in found["groups"]),
        explorer=explorer,
        recipe={},
        trial=False,
        **dict.fromkeys(EMPTY, ()),
    )


NAMES = ("model", "quantization", "dtype", "prompt")
EMPTY = (
    *("models", "prompts", "seeds", "scorers", "trainings", "samples", "runs", "precision"),
    *("unshared", "halved", "environments", "noise", "missing"),
    *("degeneration", "writings", "decodings", "choices", "judges"),
    *("duels", "strengths", "corrected"),
)


def _cell(cell: dict[str, Any]) -> CellFacts:
    place = (cell[name] for name in ("model", "quantization", "dtype"))
    return CellFacts(
        *(cell["id"], "task", *place, "s", cell["label"], 0, None, "run", cell["seed"]),
        *(cell["prompt"], "likelihood", "", "", "key", 1, 1.0, False, None),
    )


def _cell_result(metric: Metric, cell: dict[str, Any]) -> CellResult:
    value = {metric.headline.name: cell["mean_perplexity"]}
    return CellResult(_cell(cell), value, Bounds(), 0)


def _group(group: dict[str, Any]) -> Group:
    return Group(
        group["label"],
        group["strategy"],
        *(group[name] for name in NAMES),
        *("", "", group["k"], None, "run", 1, (), 1, 1, group["context_tokens"]),
        *(group["training_tokens"], None, group["training_seconds"]),
    )


def _group_result(metric: Metric, group: dict[str, Any]) -> GroupResult:
    known = {
        name: Known(group[name], None)
        for name in ("geometric_mean_perplexity", "median_perplexity")
    }
    known[metric.headline.name] = Known(group["mean"], None)
    bounds = Bounds(
        *(limits and tuple(limits) for limits in (group["mean_interval"],)),
        mean_seeds=group["mean_seeds_interval"] and tuple(group["mean_seeds_interval"]),
    )
    return GroupResult(_group(group), group["mean"], None, known, bounds, 0)


def some() -> str:
    """Every picture of a report, one after the other."""
    made, _ = pictures(to_report(content()))
    return "".join(svg for _, svg in made.values())
