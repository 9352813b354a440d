"""The fast scorer: what the rows of a cell share is computed once.

The rows' longest common prefix of tokens (prefix token, preamble, demonstrations) goes through
the model once (:mod:`harness.scoring.sharing`). What is left of the rows is batched by length, and
the head and the log-softmax run on scored positions only.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.models.attention import short_row_attention
from harness.models.encoding import Encoded
from harness.models.loading import LoadedModel
from harness.records import Scoring
from harness.scoring.batches import BUDGETS, Batch, Budget, even, plan_batches
from harness.scoring.changes import at_a_time
from harness.scoring.prefix import SharedPrefix, must_be_alone
from harness.scoring.queue import BatchQueue, few_cores
from harness.scoring.sharing import shared_by
from harness.scoring.single import losses_if_they_fit, too_long

if TYPE_CHECKING:
    from torch import Tensor


class OutOfMemoryWarning(UserWarning):
    """A batch did not fit into memory and was halved."""


@dataclass(frozen=True)
class Scored:
    """The numbers of some rows.

    Attributes:
        nlls: of each row, nats.
        tokens: of each row, the NLLs of its scored tokens.
        how: how they were computed.
    """

    nlls: list[float]
    tokens: list[list[float]]
    how: Scoring


def fast(
    loaded: LoadedModel,
    rows: Sequence[Encoded],
    progress: Callable[[int], None],
    budget: Budget | None = None,
    share: bool = True,
    workers: int | None = None,
) -> Scored:
    """NLL of every row: the reference's numbers, computed without repetition.

    Args:
        loaded: a model in eval mode.
        rows: encoded rows.
        progress: called with the number of rows handed to the device so far.
        budget: what fits into a batch; by default, what suits the device.
        share: whether rows may share their prefix.
        workers: how many batches are computed at a time; by default, one on each core.

    Raises:
        ModelError: a single row does not fit into memory.
    """
    import torch

    budget = budget or BUDGETS[loaded.device.type]
    with torch.inference_mode():
        prefix, how = shared_by(loaded, rows) if share else (None, Scoring())
        cell = _Cell(loaded, rows, prefix, budget)
        batches = _batches(loaded, rows, prefix, budget)
        if workers is None:
            workers = at_a_time(loaded, max(map(len, rows)), len(batches))
        with short_row_attention(loaded.model):
            parts, halved = cell.losses(batches, workers, progress)
            if workers > 1 and not cell.repeats(*parts[-1]):
                loaded.side_by_side = False
                parts, halved = cell.losses(batches, 1, progress)
        tokens = _by_row(rows, parts)
        nlls = [part.sum().item() for part in tokens]
    return Scored(
        nlls,
        [part.tolist() for part in tokens],
        replace(how, batches=len(batches), halved=halved),
    )


@dataclass(frozen=True)
class _Cell:
    """What the batches of a cell have in common."""

    loaded: LoadedModel
    rows: Sequence[Encoded]
    prefix: SharedPrefix | None
    budget: Budget

    def losses(
        self, batches: Sequence[Batch], workers: int, progress: Callable[[int], None]
    ) -> tuple[list[tuple[Batch, Tensor]], int]:
        """Every batch with its losses, which stay on the device; how many did not fit.

        Raises:
            ModelError: a single row does not fit into memory.
        """
        queue = BatchQueue(batches, self._compute, self._halves, self._too_long)
        parts: list[tuple[Batch, Tensor]] = []
        try:
            # Reading a loss would wait for all work before it.
            for batch, losses in queue.losses(workers):
                parts.append((batch, losses))
                progress(sum(len(batch.rows) for batch, _ in parts))
        finally:
            if queue.first is not None:
                self._warn(queue.first)
        return parts, queue.halved

    def repeats(self, batch: Batch, losses: Tensor) -> bool:
        """Whether a batch that was computed beside others has the same losses on its own.

        What a model keeps of a forward where :func:`changes_itself` does not see it would spoil
        another one's. Looked at once for each model.
        """
        import torch

        if self.loaded.side_by_side is None:
            with few_cores():
                again = self._compute(batch)
            same = again is not None and torch.equal(again.nan_to_num(), losses.nan_to_num())
            self.loaded.side_by_side = same
        return self.loaded.side_by_side

    def _compute(self, batch: Batch) -> Tensor | None:
        some = [self.rows[index] for index in batch.rows]
        return losses_if_they_fit(self.loaded, some, self.prefix, batch, self.budget)

    def _halves(self, batch: Batch) -> tuple[Batch, Batch]:
        skipped, middle = self.prefix.length if self.prefix else 0, len(batch.rows) // 2
        one, other = (
            Batch(half, max(len(self.rows[index]) for index in half) - skipped)
            for half in (batch.rows[:middle], batch.rows[middle:])
        )
        return one, other

    def _too_long(self, batch: Batch) -> str:
        return too_long(self.loaded, self.rows[batch.rows[0]])

    def _warn(self, batch: Batch) -> None:
        warnings.warn(
            OutOfMemoryWarning(
                f"{self.loaded.spec.name}: a batch of {len(batch.rows)} rows of {batch.width} "
                f"tokens did not fit into memory; batches are halved"
            ),
            stacklevel=4,
        )


def _batches(
    loaded: LoadedModel, rows: Sequence[Encoded], prefix: SharedPrefix | None, budget: Budget
) -> list[Batch]:
    skipped = prefix.length if prefix else 0
    alone = must_be_alone(loaded.model, max(map(len, rows)))
    if alone:
        budget = replace(budget, tokens=0)
    batches = plan_batches(
        [len(row) - skipped for row in rows],
        [len(row.answer) for row in rows],
        skipped,
        loaded.model.get_output_embeddings().weight.shape[0],
        budget,
    )
    if alone or loaded.device.type != "cpu":
        return batches
    most = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    return [even(batch, (most or math.inf) - skipped) for batch in batches]


def _by_row(rows: Sequence[Encoded], parts: Sequence[tuple[Batch, Tensor]]) -> list[Tensor]:
    """The losses of each row's scored tokens, on the CPU, in the order of the rows."""
    found = {
        index: part
        for batch, losses in parts
        for index, part in zip(
            batch.rows,
            losses.cpu().split([len(rows[index].answer) for index in batch.rows]),
            strict=True,
        )
    }
    return [found[index] for index in range(len(rows))]
