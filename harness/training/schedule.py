"""What an optimizer step sees: rows, batches and learning rate, worked out before training starts.

The order of rows is a pure function of their ids, the seed, the stage and the epoch, so a
training run that was killed is resumed with exactly the steps that were left.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.core import TrainingSettings

GROUP = 50  # steps whose rows are sorted by length before they are cut into steps


@dataclass(frozen=True)
class Row:
    """What the schedule needs to know of a training row."""

    id: str
    length: int


@dataclass(frozen=True)
class Part:
    """A stage of the schedule: its rows (numbers into all rows), epochs and peak rate."""

    rows: tuple[int, ...]
    num_train_epochs: float
    learning_rate: float


@dataclass(frozen=True)
class Step:
    """An optimizer step: batches of row numbers whose gradients are added up."""

    stage: int
    batches: tuple[tuple[int, ...], ...]


def count_steps(parts: Sequence[Part], settings: TrainingSettings) -> list[int]:
    """Optimizer steps of each stage.

    By epochs; or, with ``max_steps``, that many in all, shared out in proportion, but at least
    one for each stage.
    """
    size = settings.per_device_train_batch_size * settings.gradient_accumulation_steps
    natural = [
        # Less a little, so that 1.1 epochs of 50 steps are 55.
        max(1, math.ceil(part.num_train_epochs * math.ceil(len(part.rows) / size) - 1e-9))
        for part in parts
    ]
    if settings.max_steps < 0:
        return natural
    ends = [
        round(settings.max_steps * done / sum(natural)) for done in itertools.accumulate(natural)
    ]
    counts = [max(1, high - low) for low, high in itertools.pairwise([0, *ends])]
    while sum(counts) > max(settings.max_steps, len(counts)):
        counts[counts.index(max(counts))] -= 1
    return counts


def plan_steps(
    rows: Sequence[Row], parts: Sequence[Part], settings: TrainingSettings
) -> list[Step]:
    """Every optimizer step of the training run, in order."""
    counts = count_steps(parts, settings)
    return [
        step
        for stage, (part, count) in enumerate(zip(parts, counts, strict=True))
        for step in itertools.islice(_endless(rows, part, stage, settings), count)
    ]


def _endless(
    rows: Sequence[Row], part: Part, stage: int, settings: TrainingSettings
) -> Iterator[Step]:
    batch = settings.per_device_train_batch_size
    size = batch * settings.gradient_accumulation_steps
    for epoch in itertools.count():
        for step in _epoch(rows, part.rows, size, f"{settings.seed}\n{stage}\n{epoch}"):
            yield Step(stage, tuple(_cut(step, batch)))


def _epoch(
    rows: Sequence[Row], numbers: Sequence[int], size: int, key: str
) -> list[tuple[int, ...]]:
    """Each row once, in steps of ``size`` rows of similar length, in an order that is keyed.

    Sorting within groups of steps keeps padding small and steps different from epoch to epoch;
    the steps are then shuffled, so that lengths come in no order.
    """
    shuffled = sorted(numbers, key=lambda number: _keyed(key, rows[number].id))
    steps: list[tuple[int, ...]] = []
    for group in _cut(shuffled, GROUP * size):
        steps += _cut(sorted(group, key=lambda number: -rows[number].length), size)
    return sorted(steps, key=lambda step: _keyed(key, *(rows[number].id for number in step)))


def _keyed(*parts: str) -> bytes:
    return hashlib.sha256("\n".join(parts).encode()).digest()


def _cut(values: Sequence[int], size: int) -> Iterator[tuple[int, ...]]:
    return (tuple(values[start : start + size]) for start in range(0, len(values), size))


def learning_rates(
    parts: Sequence[Part], counts: Sequence[int], settings: TrainingSettings
) -> list[float]:
    """The learning rate of every step: each stage warms up and decays on its own.

    The shapes are transformers' (``get_scheduler``).
    """
    import torch
    from transformers import get_scheduler

    found: list[float] = []
    for part, count in zip(parts, counts, strict=True):
        weight = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([weight], lr=part.learning_rate)
        scheduler = get_scheduler(
            settings.lr_scheduler_type,
            optimizer,
            num_warmup_steps=settings.warmup_steps or math.ceil(settings.warmup_ratio * count),
            num_training_steps=count,
        )
        for _ in range(count):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
    return found


def at_steps(every: float | None, total: int) -> frozenset[int]:
    """The steps at which something is due: each ``every``-th, or at shares of ``total``.

    The last step is always one of them; there are none without ``every``.
    """
    if every is None:
        return frozenset()
    if every >= 1:
        return frozenset(range(int(every), total + 1, int(every))) | {total}
    shares = math.floor(1 / every + 1e-9)
    return frozenset(max(1, round(total * every * share)) for share in range(1, shares + 1)) | {
        total
    }
