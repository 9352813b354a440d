"""What half precision costs: the same rows in float32 and as they are scored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.core import ModelSpec
from harness.errors import ModelError, one_line
from harness.models.encoding import Encoded
from harness.models.memory import is_out_of_memory
from harness.models.pool import ModelPool
from harness.records import Precision
from harness.scoring.score import scorer_for


def precision(pool: ModelPool, spec: ModelSpec, folder: Path, rows: Sequence[Encoded]) -> Precision:
    """Score rows in float32 (same quantization), then in the dtype of ``spec``.

    Returns:
        How far the two are apart, or why that is unknown.
    """
    score = scorer_for(spec, "fast")
    try:
        exact = score(pool.get(replace(spec, dtype="float32"), folder, None), rows, _silent).nlls
    except ModelError as error:
        pool.clear()
        return Precision(unknown=one_line(error, 160))
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        pool.clear()
        return Precision(unknown="the model does not fit into memory in float32")
    found = score(pool.get(spec, folder, None), rows, _silent).nlls
    if not all(map(math.isfinite, [*exact, *found])):
        return Precision(unknown="a number is not finite")
    changes = [abs(a - b) / b for a, b in zip(found, exact, strict=True)]
    logs = [(a - b) / len(row.answer) for row, a, b in zip(rows, found, exact, strict=True)]
    return Precision(
        rows=len(rows),
        worst=max(changes),
        mean=sum(changes) / len(changes),
        perplexity=math.expm1(sum(logs) / len(logs)),
    )


def _silent(done: int) -> None:
    """Show nothing: a few rows take no time."""
