"""The fast scorer: what the rows of a cell share is computed once.

The rows' longest common prefix of tokens (prefix token, preamble, demonstrations) goes through
the model once (:mod:`harness.scoring.prefix`). What is left of the rows is batched by length, and
the head and the log-softmax run on scored positions only. How the prefix may be shared differs
between families; whatever is tried is checked against a whole row before its numbers count, and
a model that cannot share gets whole rows.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.errors import ModelError, one_line
from harness.models.attention import short_row_attention
from harness.models.encoding import Encoded
from harness.models.loading import LoadedModel
from harness.models.memory import free, is_out_of_memory
from harness.records import COPIED, IN_PLACE, Scoring
from harness.scoring.batches import BUDGETS, Batch, Budget, common_prefix, even, plan_batches
from harness.scoring.changes import changes_itself
from harness.scoring.losses import batch_losses
from harness.scoring.prefix import SharedPrefix, UnsupportedCacheError, must_be_alone
from harness.scoring.queue import MOST, BatchQueue, few_cores

if TYPE_CHECKING:
    from torch import Tensor

MIN_PREFIX = 16  # tokens; a shorter common prefix is cheaper computed with each row

# What two ways of computing a row's NLL may differ by and still be the same number. In float32
# relative to the NLL; in half precision, whose numbers depend on the batch, nats per scored token:
# single tokens move by up to 0.2 nats in bfloat16, a mistake by 0.8 and more.
RELATIVE = 1e-5
PER_TOKEN = {"float16": 0.05, "bfloat16": 0.2}


class OutOfMemoryWarning(UserWarning):
    """A batch did not fit into memory and was halved."""


def allowed(dtype: str, nll: float, tokens: int) -> float:
    """What two computations of a row's NLL may differ by, in nats."""
    if dtype in PER_TOKEN:
        return PER_TOKEN[dtype] * tokens
    return RELATIVE * max(1.0, abs(nll))


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
        prefix, how = _share(loaded, rows) if share else (None, Scoring())
        cell = _Cell(loaded, rows, prefix, budget)
        batches = _batches(loaded, rows, prefix, budget)
        workers = _workers(loaded, rows, batches) if workers is None else workers
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
        return _losses_if_they_fit(self.loaded, some, self.prefix, batch, self.budget)

    def _halves(self, batch: Batch) -> tuple[Batch, Batch]:
        skipped, middle = self.prefix.length if self.prefix else 0, len(batch.rows) // 2
        one, other = (
            Batch(half, max(len(self.rows[index]) for index in half) - skipped)
            for half in (batch.rows[:middle], batch.rows[middle:])
        )
        return one, other

    def _too_long(self, batch: Batch) -> str:
        return _too_long(self.loaded, self.rows[batch.rows[0]])

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


def _workers(loaded: LoadedModel, rows: Sequence[Encoded], batches: Sequence[Batch]) -> int:
    """How many batches may be computed at a time.

    A model whose rows must be alone may keep what it knows of a row's length in itself, where a
    second row would change it.
    """
    import torch

    if loaded.device.type != "cpu" or must_be_alone(loaded.model, max(map(len, rows))):
        return 1
    most = min(int(torch.get_num_threads()), len(batches), MOST)
    if most > 1 and not loaded.watched:
        loaded.watched = True
        if changes_itself(loaded.model):
            loaded.side_by_side = False
    return 1 if loaded.side_by_side is False else most


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


def whole_row(loaded: LoadedModel, row: Encoded) -> float:
    """NLL of one row, alone and from its first token on: nothing is shared, nothing is padded.

    Raises:
        ModelError: it does not fit into memory.
    """
    import torch

    budget = BUDGETS[loaded.device.type]
    with torch.inference_mode():
        losses = _losses_if_they_fit(loaded, [row], None, Batch((0,), len(row)), budget)
        if losses is None:
            raise ModelError(_too_long(loaded, row))
        return float(losses.sum().item())


def _losses_if_they_fit(
    loaded: LoadedModel,
    rows: list[Encoded],
    prefix: SharedPrefix | None,
    batch: Batch,
    budget: Budget,
) -> Tensor | None:
    """Return the losses of a batch, or None where it does not fit into memory."""
    try:
        return batch_losses(loaded, rows, prefix, batch.width, budget)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    free()  # outside of the handler: the error holds on to the tensors of the call
    return None


def _too_long(loaded: LoadedModel, row: Encoded) -> str:
    return (
        f"row {row.prompt.id!r}: {len(row)} tokens do not fit into memory with "
        f"{loaded.spec.name}, even alone; use a smaller --k, --quant=nf4 or --dtype=bfloat16"
    )


def _share(loaded: LoadedModel, rows: Sequence[Encoded]) -> tuple[SharedPrefix | None, Scoring]:
    """Compute what the rows share, in the best way that this model gets right.

    A way is checked on the shortest and the longest row whenever a prefix is longer than all that
    it was checked on: the rows must have the NLL that they have without sharing.

    Returns:
        The prefix, or None; and which way was taken, with the reasons against the others.
    """
    length = common_prefix(rows) if len(rows) > 1 else 0
    if length < MIN_PREFIX:
        return None, Scoring()
    shortest, longest = min(rows, key=len), max(rows, key=len)
    refused: dict[str, str] = {}
    alone = must_be_alone(loaded.model, len(longest))
    if alone:
        return None, Scoring(refused={COPIED: alone})
    for way in (IN_PLACE, COPIED):
        try:
            prefix = SharedPrefix(
                loaded.model, rows[0].context[:length], len(longest), way == IN_PLACE
            )
            if length > loaded.shared_tokens.get(way, 0):
                _check_each(loaded, prefix, list(dict.fromkeys((shortest, longest))))
                if loaded.device.type != "cpu":
                    other = rows[0] if longest is rows[-1] else rows[-1]
                    _check_together(loaded, prefix, [longest, other])
                loaded.shared_tokens[way] = length
        except ModelError:  # no memory for a row
            raise
        except Exception as error:  # a family's own code, handed a cache it may not know
            if is_out_of_memory(error):
                raise ModelError(_too_long(loaded, longest)) from None
            refused[way] = one_line(error, 160)
            continue
        return prefix, Scoring(prefix.way, length, refused)
    return None, Scoring(refused=refused)


def _check_each(loaded: LoadedModel, prefix: SharedPrefix, rows: list[Encoded]) -> None:
    """Compare rows with themselves, whole: each a batch of its own, on a core of its own.

    Raises:
        UnsupportedCacheError: an NLL differs.
    """
    import torch

    budget = BUDGETS[loaded.device.type]

    def sharing(row: Encoded) -> float:
        with torch.inference_mode():  # of this thread
            losses = batch_losses(loaded, [row], prefix, len(row) - prefix.length, budget)
        return float(losses.sum().item())

    batches = [Batch((place,), len(row)) for place, row in enumerate(rows)]
    workers = _workers(loaded, rows, batches)
    # Which function attends is the same for all threads: first one way for all, then the other.
    with short_row_attention(loaded.model):
        shared = _each(sharing, rows, workers)
    whole = _each(lambda row: whole_row(loaded, row), rows, workers)
    for row, one, other in zip(rows, shared, whole, strict=True):
        _compare(loaded, row, one, other)


def _each(
    compute: Callable[[Encoded], float], rows: Sequence[Encoded], workers: int
) -> list[float]:
    """What is computed of each row, so many at a time; one by one where they do not fit."""
    import torch

    if workers > 1:
        start = torch.set_num_threads, (1,)
        try:
            with few_cores(), ThreadPoolExecutor(workers, "row", *start) as pool:
                return list(pool.map(compute, rows))
        except (ModelError, RuntimeError) as error:
            if not isinstance(error, ModelError) and not is_out_of_memory(error):
                raise
        free()  # outside of the handler: the error holds on to the tensors of the call
    return [compute(row) for row in rows]


def _check_together(loaded: LoadedModel, prefix: SharedPrefix, rows: list[Encoded]) -> None:
    """Check rows in one batch, if they fit: kernels of a device may see more rows otherwise."""
    try:
        _check_sharing(loaded, prefix, rows)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    else:
        return
    free()  # outside of the handler: the error holds on to the tensors of the call


def _check_sharing(loaded: LoadedModel, prefix: SharedPrefix, rows: list[Encoded]) -> None:
    """Compare rows that are computed in one batch with themselves, whole and alone.

    Raises:
        UnsupportedCacheError: an NLL differs.
    """
    budget = BUDGETS[loaded.device.type]
    width = max(map(len, rows)) - prefix.length
    with short_row_attention(loaded.model):
        losses = batch_losses(loaded, rows, prefix, width, budget)
    for row, part in zip(rows, losses.split([len(row.answer) for row in rows]), strict=True):
        _compare(loaded, row, float(part.sum().item()), whole_row(loaded, row))


def _compare(loaded: LoadedModel, row: Encoded, shared: float, whole: float) -> None:
    if math.isnan(shared) and math.isnan(whole):
        return
    if not abs(shared - whole) <= allowed(loaded.spec.dtype, whole, len(row.answer)):
        raise UnsupportedCacheError(
            f"row {row.prompt.id!r} has an NLL of {shared:.6f} with a shared prefix and "
            f"{whole:.6f} without"
        )
