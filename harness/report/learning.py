"""What a report says of trainings: their settings, rows, curves and chosen checkpoints.

Like everything in a report it is derived from stored measurements.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.naming import slug
from harness.records import Measurement
from harness.results.manifest import Entry

Measured = tuple[Entry, Measurement]


def trainings(rows: Iterable[Measured], pool: int) -> list[dict[str, Any]]:
    """Describe each training, of a pool of so many rows: one entry for all its seeds.

    Returns:
        Plain JSON values. ``runs`` holds, for each seed, the training loss of every step and the
        points of the learning curve; ``test`` or ``holdout`` in ``select_on`` says where the
        checkpoint was chosen.
    """
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for entry, measurement in rows:
        record = measurement.training
        if record is None:
            continue
        name = (entry.model, entry.quantization, entry.dtype, entry.prompt)
        label = entry.training_label
        training = found.setdefault((*name, label), _training(name, label, record, pool))
        seeds = [run["seed"] for run in training["runs"]]
        if entry.seed not in seeds:  # an adapter can be scored in several ways
            training["runs"].append(_run(entry.seed, record))
    return list(found.values())


def _training(
    name: tuple[str, ...], label: str, record: Mapping[str, Any], pool: int
) -> dict[str, Any]:
    settings = {key: value for key, value in record["settings"].items() if key != "seed"}
    return {
        "slug": slug("-".join((label, *name))),
        "label": label,
        "model": name[0],
        "quantization": name[1],
        "prompt": name[3],
        "rows": record["rows"],
        "pool": pool,
        "tokens": record["tokens"],
        "steps": record["steps"],
        "trained_rows": record["trained_rows"],
        "trained_tokens": record["trained_tokens"],
        "trainable_parameters": record["trainable_parameters"],
        "optimizer": record["optimizer"],
        "left_out": record["left_out"],
        "holdout": len(record["holdout_ids"]),
        "select_on": record["select_on"],
        "stages": [
            {
                "rows": len(stage["ids"]),
                "steps": stage["steps"],
                "num_train_epochs": stage["num_train_epochs"],
                "learning_rate": stage["learning_rate"],
            }
            for stage in record["stages"]
        ],
        "settings": settings,
        "ids": record["ids"] if record["rows"] < pool else None,
        "runs": [],
    }


def _run(seed: int | None, record: Mapping[str, Any]) -> dict[str, Any]:
    """One seed's curve; the training loss of a point is the mean since the point before it."""
    points, before = [], 0
    for point in record["evaluations"]:
        since = record["losses"][before : point["step"]]
        before = point["step"]
        training = sum(since) / len(since) if since else None
        points.append(
            {"holdout_loss": None, "holdout_perplexity": None}
            | {key: finite(value) for key, value in point.items()}
            | {"training_loss": finite(training), "best": point["step"] == record["best_step"]}
        )
    boundaries, steps = [], 0
    for stage in record["stages"][:-1]:
        steps += stage["steps"]
        boundaries.append(steps)
    return {
        "seed": seed,
        "losses": [finite(loss) for loss in record["losses"]],
        "evaluations": points,
        "best_step": record["best_step"],
        "boundaries": boundaries,
    }


def finite(value: float | None) -> float | None:
    """The value, or None where it is not finite: JSON has no word for that."""
    return value if value is not None and math.isfinite(value) else None


def draw(
    entries: Sequence[Mapping[str, Any]], scored_pool: Mapping[str, tuple[int, float]]
) -> dict[str, tuple[str, str]]:
    """Draw each training's learning curve, and which rows of the pool it chose.

    Args:
        entries: what :func:`trainings` returned.
        scored_pool: id → (characters of the output, score); empty where not all have a score.

    Returns:
        A figure's name → (heading, SVG to stand inside HTML).
    """
    from harness.report.figures.svg import learning_curve, length_against_score

    found = {}
    for entry in entries:
        title = f"{entry['label']} on {entry['model']} ({entry['quantization']}, {entry['prompt']})"
        name = f"curve-{entry['slug']}"
        svg = learning_curve(entry["slug"], title, entry["runs"], entry["select_on"])
        found[name] = f"Learning curve of {title}", svg
        if entry["ids"] is not None and scored_pool:
            chosen = set(entry["ids"])
            points = [(float(n), score, id_ in chosen) for id_, (n, score) in scored_pool.items()]
            name = f"rows-{entry['slug']}"
            found[name] = (
                f"Rows chosen for {title}",
                length_against_score(entry["slug"], f"Rows chosen for {title}", points),
            )
    return found
