"""The record of a training run, made of the state that it ended in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from harness.models.adapters import BaseShape
from harness.models.encoding import Encoded
from harness.records import StageRecord, TrainingRecord
from harness.training.optimizers import optimizer_for
from harness.training.state import TrainingState


def record_of(
    state: TrainingState, left_out: Iterable[str], sha256: str, base: BaseShape
) -> TrainingRecord:
    """The record of a training run that has ended; its adapter's folder has no name yet.

    Args:
        state: as it was left.
        left_out: ids of rows that were too long.
        sha256: of the adapter's weights.
        base: what tells the base's architecture from others, as in an adapter's record.
    """
    seen = [row for step in state.steps for batch in step.batches for row in batch]
    best, settings = state.best, state.settings
    return TrainingRecord(
        adapter="",
        sha256=sha256,
        base=base,
        settings=asdict(settings),
        optimizer=optimizer_for(settings.optim, state.spec.device),
        rows=len(state.rows),
        tokens=sum(map(len, state.rows)),
        trained_rows=len(seen),
        trained_tokens=sum(len(state.rows[row]) for row in seen),
        steps=len(state.steps),
        losses=tuple(state.losses),
        evaluations=state.evaluations,
        best_step=None if best is None else best.step,
        select_on=None if best is None else "holdout" if state.holdout else "test",
        ids=_ids(state.rows),
        left_out=tuple(left_out),
        holdout_ids=_ids(state.holdout),
        stages=_stages(state) if state.staged else (),
        trainable_parameters=sum(
            matrix.numel()
            for name, matrix in state.model.named_parameters()
            if "lora_" in name and f".{state.adapter}." in f"{name}."
        ),
        seconds=round(state.seconds, 3),
        resumed_from=state.resumed_from,
    )


def _stages(state: TrainingState) -> tuple[StageRecord, ...]:
    return tuple(
        StageRecord(
            steps=sum(step.stage == number for step in state.steps),
            learning_rate=part.learning_rate,
            num_train_epochs=part.num_train_epochs,
            ids=_ids(state.rows[row] for row in part.rows),
        )
        for number, part in enumerate(state.parts)
    )


def _ids(rows: Iterable[Encoded]) -> tuple[str, ...]:
    return tuple(row.prompt.id for row in rows)
