"""What half precision costs: the same rows in float32 and as they are scored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.core import ModelSpec
from harness.errors import ModelError, one_line
from harness.models.encoding import Encoded
from harness.models.loading import ModelPool
from harness.models.memory import is_out_of_memory
from harness.run.progress import silent
from harness.scoring.score import scorer_for


def rounding(
    pool: ModelPool, spec: ModelSpec, folder: Path, rows: Sequence[Encoded]
) -> dict[str, Any]:
    """Likelihood rows in float32 (same quantization), then in the dtype of ``spec``.

    Returns:
        ``rows``; ``worst`` and ``mean``, absolute differences of a row's NLL relative to float32;
        ``perplexity``, the relative change of the geometric mean perplexity. Or ``unknown``, the
        reason why it could not be measured.
    """
    score = scorer_for(spec, "fast")
    try:
        exact = score(pool.get(replace(spec, dtype="float32"), folder, None), rows, silent).nlls
    except ModelError as error:
        pool.clear()
        return {"unknown": one_line(error, 160)}
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        pool.clear()
        return {"unknown": "the model does not fit into memory in float32"}
    found = score(pool.get(spec, folder, None), rows, silent).nlls
    if not all(map(math.isfinite, [*exact, *found])):
        return {"unknown": "a number is not finite"}
    changes = [abs(a - b) / b for a, b in zip(found, exact, strict=True)]
    logs = [(a - b) / len(row.answer) for row, a, b in zip(rows, found, exact, strict=True)]
    return {
        "rows": len(rows),
        "worst": max(changes),
        "mean": sum(changes) / len(changes),
        "perplexity": math.expm1(sum(logs) / len(logs)),
    }
