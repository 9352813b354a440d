"""What a training run becomes for one run of the harness: its quantization, its held-out rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from harness.config.options import Options
from harness.core import Example, Quantization, Task, TrainingSpec

EVERY_FIFTH = 0.2  # of the steps, where a checkpoint is to be chosen and nothing says when


def training_spec(
    training: TrainingSpec, options: Options, quantization: Quantization | None
) -> TrainingSpec:
    """Return what a strategy asks for with the flags that have a say in it.

    Args:
        training: what the strategy asks for.
        options: choosing a checkpoint needs evaluations.
        quantization: of ``--quant``, which wins over the settings'; None where it is not given.
    """
    settings = training.settings
    settings = replace(settings, quantization=quantization or settings.quantization)
    if options.select_on is not None and settings.eval_steps is None:
        settings = replace(settings, eval_steps=EVERY_FIFTH)
    return replace(training, settings=settings)


def held_out_rows(
    pool: Sequence[Example], rows: int, most: int | None = None
) -> tuple[Example, ...]:
    """Return rows by which checkpoints or decodings are chosen, the same for every seed.

    A keyed draw from the whole pool, so that neither the order of the file nor what is trained
    on decides which.

    Args:
        pool: what is drawn from.
        rows: so many, as far as ``most`` allows.
        most: as many may be held out; by default a fifth of the pool.
    """
    count = max(1, min(rows, len(pool) // 5 if most is None else most))
    keyed = sorted(pool, key=lambda row: hashlib.sha256(f"holdout\n{row.id}".encode()).digest())
    chosen = {row.id for row in keyed[:count]}
    return tuple(row for row in pool if row.id in chosen)


def leakage_line(task: Task) -> str:
    """Return the line that says which training rows stand in the test set, and what to do."""
    trained, tested = task.excluded[0]
    more = len(task.excluded) - 1
    return (
        f"{task.pool_source}: training row {trained!r} is row {tested!r} of {task.source}, or "
        f"nearly"
        + (f", and so are {more} more rows" if more else "")
        + "; a model trained on test rows measures nothing. Take them out, or train all the same "
        "with --allow-leakage"
    )
