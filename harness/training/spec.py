"""A training run as it is done for one model: its own settings, quantization, rows held out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from harness.config.options import Options
from harness.core import Example, Quantization, Task, TrainingSettings, TrainingSpec

EVERY_FIFTH = 0.2  # of all steps, where a checkpoint is to be chosen and nothing says when


def tailor(
    training: TrainingSpec,
    options: Options,
    model: str,
    quantization: Quantization | None,
) -> TrainingSpec:
    """Return the training run as it is done for ``model``, the text of ``--model``."""
    settings = for_model(training.settings, options, model)
    settings = replace(settings, quantization=quantization or settings.quantization)
    if options.select_on is not None and settings.eval_steps is None:
        settings = replace(settings, eval_steps=EVERY_FIFTH)
    return replace(training, settings=settings)


def for_model(settings: TrainingSettings, options: Options, model: str) -> TrainingSettings:
    """Return settings with what differs for ``model``, of whatever revision."""
    own = options.per_model.get(model) or options.per_model.get(model.partition("@")[0], {})
    return replace(settings, **own)


def hold_out(pool: Sequence[Example], rows: int) -> tuple[Example, ...]:
    """Choose rows by which checkpoints are chosen, the same for every seed: a fifth at most.

    A keyed draw from the whole pool, so that neither the order of the file nor what is trained
    on decides which.
    """
    count = max(1, min(rows, len(pool) // 5))
    keyed = sorted(pool, key=lambda row: hashlib.sha256(f"holdout\n{row.id}".encode()).digest())
    chosen = {row.id for row in keyed[:count]}
    return tuple(row for row in pool if row.id in chosen)


def leakage_line(task: Task, options: Options) -> str:
    """Say which training rows stand in the test set, and what to do about it."""
    trained, tested = task.excluded[0]
    more = len(task.excluded) - 1
    return (
        f"{options.train_data}: training row {trained!r} is row {tested!r} of {options.data}, or "
        f"nearly"
        + (f", and so are {more} more rows" if more else "")
        + "; a model trained on test rows measures nothing. Take them out, or train all the same "
        "with --allow-leakage"
    )
