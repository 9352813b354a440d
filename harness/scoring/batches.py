"""Which rows go through a model together, and what they have in common."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.models.encoding import Encoded


@dataclass(frozen=True)
class Budget:
    """How much may stand in one batch; a single row is never refused.

    On CPUs the batches are small, so that a layer's activations stay in the processor's caches:
    512 tokens were 1.3 times as fast as 2,048 on two cores with 1 MiB of L2 cache each.

    Attributes:
        tokens: tokens after the shared prefix, padding included.
        keys: keys attended to, the shared ones counted once per row.
        logits: scored positions × vocabulary.
        softmax: logits turned into losses at a time.
    """

    tokens: int
    keys: int
    logits: int
    softmax: int


BUDGETS = {
    "cpu": Budget(tokens=512, keys=1 << 14, logits=1 << 26, softmax=1 << 22),
    "cuda": Budget(tokens=1 << 13, keys=1 << 17, logits=1 << 27, softmax=1 << 26),
}


@dataclass(frozen=True)
class Batch:
    """Row numbers that go through the model together."""

    rows: tuple[int, ...]
    width: int


def plan_batches(
    lengths: Sequence[int],
    scored: Sequence[int],
    prefix: int,
    vocabulary: int,
    budget: Budget = BUDGETS["cpu"],
) -> list[Batch]:
    """Group rows by length within the budget; a function of the rows alone.

    Args:
        lengths: tokens of each row after the shared prefix.
        scored: scored tokens of each row.
        prefix: length of the shared prefix.
        vocabulary: size of the vocabulary.
        budget: what fits into a batch.
    """
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    batches: list[Batch] = []
    current: list[int] = []
    width = logits = 0
    for row in order:  # longest first: the first row of a batch is its width
        full = current and (
            (len(current) + 1) * width > budget.tokens
            or (len(current) + 1) * (width + prefix) > budget.keys
            or logits + scored[row] * vocabulary > budget.logits
        )
        if full:
            batches.append(Batch(tuple(current), width))
            current, logits = [], 0
        if not current:
            width = lengths[row]
        current.append(row)
        logits += scored[row] * vocabulary
    if current:
        batches.append(Batch(tuple(current), width))
    return batches


def even(batch: Batch, most: float) -> Batch:
    """Widen a batch until its positions are a multiple of four, within ``most`` positions a row.

    oneDNN's float32 product loses a tenth of its rate on an odd number of a few hundred rows (seen
    on an AMD EPYC: 91 against 101 GFLOP/s). The columns that are added are padding.
    """
    width = batch.width + -batch.width % (4 // math.gcd(4, len(batch.rows)))
    return replace(batch, width=width) if width <= most else batch


def common_prefix(rows: Sequence[Encoded]) -> int:
    """Length of the contexts' longest common prefix that leaves each row a token of context."""
    first, shortest = rows[0].context, min(len(row.context) for row in rows)
    for position in range(shortest - 1):
        if any(row.context[position] != first[position] for row in rows):
            return position
    return shortest - 1


def unique_tokens(rows: Sequence[Encoded]) -> int:
    """How many of the rows' tokens have not the same tokens before them in another row."""
    ordered = sorted(row.ids for row in rows)
    shared = 0
    for before, row in itertools.pairwise(ordered):
        for a, b in zip(before, row, strict=False):
            if a != b:
                break
            shared += 1
    return sum(map(len, ordered)) - shared
