"""What the rows of a cell share: computed once, in the best way that a model gets right.

How a prefix may be shared differs between families. Whatever is tried is checked against whole rows
before its numbers count, and a model that cannot share gets whole rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from harness.errors import ModelError, one_line
from harness.models.attention import short_row_attention
from harness.models.encoding import Encoded
from harness.models.loading import LoadedModel
from harness.models.memory import free, is_out_of_memory
from harness.records import COPIED, IN_PLACE, Scoring
from harness.scoring.batches import BUDGETS, common_prefix
from harness.scoring.changes import at_a_time
from harness.scoring.losses import batch_losses
from harness.scoring.prefix import SharedPrefix, UnsupportedCacheError, must_be_alone
from harness.scoring.queue import few_cores
from harness.scoring.single import too_long, whole_row

MIN_PREFIX = 16  # tokens; a shorter common prefix is cheaper computed with each row

# What two ways of computing a row's NLL may differ by and still be the same number. In float32
# relative to the NLL; in half precision, whose numbers depend on the batch, nats per scored token:
# single tokens move by up to 0.2 nats in bfloat16, a mistake by 0.8 and more.
RELATIVE = 1e-5
PER_TOKEN = {"float16": 0.05, "bfloat16": 0.2}


def allowed(dtype: str, nll: float, tokens: int) -> float:
    """What two computations of a row's NLL may differ by, in nats."""
    if dtype in PER_TOKEN:
        return PER_TOKEN[dtype] * tokens
    return RELATIVE * max(1.0, abs(nll))


def shared_by(loaded: LoadedModel, rows: Sequence[Encoded]) -> tuple[SharedPrefix | None, Scoring]:
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
                    check_together(loaded, prefix, [longest, other])
                loaded.shared_tokens[way] = length
        except ModelError:  # no memory for a row
            raise
        except Exception as error:  # a family's own code, handed a cache it may not know
            if is_out_of_memory(error):
                raise ModelError(too_long(loaded, longest)) from None
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

    workers = at_a_time(loaded, max(map(len, rows)), len(rows))
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


def check_together(loaded: LoadedModel, prefix: SharedPrefix, rows: list[Encoded]) -> None:
    """Check rows in one batch, if they fit: kernels of a device may see more rows otherwise."""
    try:
        check_sharing(loaded, prefix, rows)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    else:
        return
    free()  # outside of the handler: the error holds on to the tensors of the call


def check_sharing(loaded: LoadedModel, prefix: SharedPrefix, rows: list[Encoded]) -> None:
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
