"""The content of a report, as far as its figures look at it."""

from __future__ import annotations

import math
import random
import statistics
from typing import Any

from harness.report.figures.select import pictures

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


def some() -> str:
    """Every picture of a report, one after the other."""
    made, _ = pictures(content())
    return "".join(svg for _, svg in made.values())
