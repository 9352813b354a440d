"""Negative log-likelihood of each row's reference answer.

For a row with answer tokens a_1 … a_m (the last is the EOS) after a context c:

    NLL = − Σ_i  log p(a_i | c, a_1 … a_{i−1})        in nats

``reference`` computes one row at a time from full logits and exists to be obviously right.
``fast`` computes the same numbers: what all rows of the cell share is computed once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from harness.core import Score
from harness.encoding import Encoded
from harness.errors import ModelError
from harness.fast import fast
from harness.models import LoadedModel

Progress = Callable[[int], None]
Scorer = Callable[[LoadedModel, Sequence[Encoded], Progress], list[float]]

# What one row may drift between its first and its second scoring within a cell, relative.
DRIFT = {"float32": 1e-5, "bfloat16": 0.05, "float16": 0.05}


def score(
    loaded: LoadedModel, rows: Sequence[Encoded], scorer: str, progress: Progress
) -> tuple[Score, ...]:
    """Score every row and then the first one again, to see that the model has not changed.

    Args:
        loaded: a model in eval mode.
        rows: encoded rows, each of at least one context and one answer token.
        scorer: ``fast`` or ``reference``.
        progress: called with the number of rows done so far.

    Raises:
        ModelError: the first row, scored again at the end, has another NLL.
    """
    nlls = SCORERS[scorer](loaded, rows, progress)
    _check_sentinel(loaded, rows[0], nlls[0])
    return tuple(_score(row, nll) for row, nll in zip(rows, nlls, strict=True))


def _score(row: Encoded, nll: float) -> Score:
    text = row.prompt.answer
    return Score(
        id=row.prompt.id,
        nll=nll,
        n_tokens=len(row.answer),
        n_chars=len(text),
        n_bytes=len(text.encode("utf-8")),
        n_context=len(row.context),
        demo_ids=row.prompt.demo_ids,
    )


def _check_sentinel(loaded: LoadedModel, row: Encoded, before: float) -> None:
    (after,) = reference(loaded, [row], lambda done: None)
    if math.isnan(before) and math.isnan(after):
        return
    if not abs(after - before) <= DRIFT[loaded.spec.dtype] * max(1.0, abs(before)):
        raise ModelError(
            f"{loaded.spec.name}: row {row.prompt.id!r} had an NLL of {before:.6f} and has "
            f"{after:.6f} when scored again after the cell; the model's weights changed while it "
            f"was scored, and none of its numbers can be trusted"
        )


def reference(loaded: LoadedModel, rows: Sequence[Encoded], progress: Progress) -> list[float]:
    """One row at a time, full logits, log-softmax in float32, sum in float64."""
    import torch

    nlls = []
    with torch.inference_mode():
        for done, row in enumerate(rows, start=1):
            ids = torch.tensor([row.ids], device=loaded.device)
            logits = loaded.model(input_ids=ids, use_cache=False).logits[0].float()
            # The logits at position t predict token t + 1.
            log_probs = logits[len(row.context) - 1 : -1].log_softmax(dim=-1)
            answer = ids[0, len(row.context) :]
            picked = log_probs.gather(1, answer[:, None])
            nlls.append(-picked.double().sum().item())
            progress(done)
    return nlls


SCORERS: dict[str, Scorer] = {"fast": fast, "reference": reference}
