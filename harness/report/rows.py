"""What a reader needs to look into single rows: texts, and every cell's numbers for each row.

Compact, because it stands inside the HTML report: numbers are rounded to what is shown, a cell's
demonstrations are named by id, and prompts are put together where they are looked at, by the rules
of :func:`harness.prompts.rendering.parts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.metrics.perplexity import perplexity
from harness.records import Measurement
from harness.report.learning import finite
from harness.results.manifest import Entry, Manifest
from harness.results.surprisal import ALPHABET, STEP


def explorer(manifest: Manifest, measured: Mapping[str, Measurement]) -> dict[str, Any]:
    """Collect rows and cells.

    Returns:
        Plain JSON values: ``rows`` and ``shown`` hold the fields of examples; ``prompts`` the
        fields of prompts by name; ``cells`` one entry for each cell, whose lists are in the order
        of ``rows``; ``alphabet`` and ``step`` say how ``surprisal`` is written.
    """
    return {
        "rows": [dict(row) for row in manifest.rows],
        "shown": {name: dict(row) for name, row in manifest.shown.items()},
        "prompts": {str(prompt["name"]): dict(prompt) for prompt in manifest.prompts},
        "alphabet": ALPHABET,
        "step": STEP,
        "cells": [
            _cell(entry, measured[entry.id]) for entry in manifest.entries if entry.id in measured
        ],
    }


def _cell(entry: Entry, measurement: Measurement) -> dict[str, Any]:
    scores = measurement.observations
    demonstrations = [list(score.demo_ids) for score in scores]
    same = all(ids == demonstrations[0] for ids in demonstrations)
    return {
        "id": entry.id,
        "model": entry.model,
        "quantization": entry.quantization,
        "dtype": entry.dtype,
        "prompt": entry.prompt,
        "label": entry.label,
        "seed": entry.seed,
        "perplexity": [_rounded(finite(perplexity(score))) for score in scores],
        "tokens": [score.n_tokens for score in scores],
        "surprisal": [score.surprisal for score in scores],
        "demonstrations": demonstrations[:1] if same else demonstrations,
        "skeletons": dict(measurement.skeletons),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")
