"""Points of a learning curve: the model as it is, scored as it will be scored in the end."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.models.encoding import Encoded
from harness.models.loading import LoadedModel
from harness.scoring.score import scorer_for
from harness.training.state import TrainingState


def evaluate(state: TrainingState, loaded: LoadedModel) -> dict[str, float]:
    """Score the rows that a training run is evaluated on, by the scorer of all other numbers.

    Returns:
        ``loss``, nats per scored token, and ``mean_perplexity`` of the test rows; and, where rows
        are held out, ``holdout_loss`` and ``holdout_perplexity`` of these.
    """
    state.model.set_adapter(state.adapter)
    state.model.eval()
    try:
        found = {}
        for prefix, name, rows in (
            ("", "mean_perplexity", state.test),
            ("holdout_", "holdout_perplexity", state.holdout),
        ):
            if rows:
                nlls = scorer_for(state.spec, "fast")(loaded, rows, lambda done: None).nlls
                found[f"{prefix}loss"] = sum(nlls) / sum(len(row.answer) for row in rows)
                found[name] = mean_perplexity(rows, nlls)
        return found
    finally:
        state.model.train()


def mean_perplexity(rows: Sequence[Encoded], nlls: Sequence[float]) -> float:
    """The mean over rows of exp(NLL / scored tokens), as the metric ``perplexity`` has it.

    It stands here too because it chooses the checkpoint, and with it the adapter's bytes: what
    the report computes of a cell may change without training anything again.

    Args:
        rows: at least one.
        nlls: of each row, nats.
    """
    pairs = zip(rows, nlls, strict=True)
    return math.fsum(_exp(nll / len(row.answer)) for row, nll in pairs) / len(rows)


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
