"""The fast scorer: what the rows of a cell share is computed once.

The rows' longest common prefix of tokens (prefix token, preamble, demonstrations) goes through
the model once (:mod:`harness.prefix`). What is left of the rows is batched by length, and the
head and the log-softmax run on scored positions only. How the prefix may be shared differs
between families; whatever is tried is checked against a whole row before its numbers count, and
a model that cannot share gets whole rows.
"""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from harness.attention import short_row_attention
from harness.encoding import Encoded
from harness.errors import ModelError, one_line
from harness.memory import free, is_out_of_memory
from harness.models import LoadedModel
from harness.prefix import COPIED, IN_PLACE, NONE, SharedPrefix

MIN_PREFIX = 16  # tokens; a shorter common prefix is cheaper computed with each row

# Relative difference of a row's NLL with and without sharing that is arithmetic, not a mistake.
SHARING_TOLERANCE = {"float32": 1e-5, "float16": 5e-3, "bfloat16": 3e-2}


class OutOfMemoryWarning(UserWarning):
    """A batch did not fit into memory and was halved."""


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


@dataclass(frozen=True)
class Scored:
    """NLLs in nats, one per row, and how they were computed, for the record."""

    nlls: list[float]
    how: dict[str, Any] = field(default_factory=dict)


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


def common_prefix(rows: Sequence[Encoded]) -> int:
    """Length of the contexts' longest common prefix that leaves each row a token of context."""
    first, shortest = rows[0].context, min(len(row.context) for row in rows)
    for position in range(shortest - 1):
        if any(row.context[position] != first[position] for row in rows):
            return position
    return shortest - 1


def fast(
    loaded: LoadedModel,
    rows: Sequence[Encoded],
    progress: Callable[[int], None],
    budget: Budget | None = None,
    share: bool = True,
) -> Scored:
    """NLL of every row: the reference's numbers, computed without repetition.

    Args:
        loaded: a model in eval mode.
        rows: encoded rows.
        progress: called with the number of rows handed to the device so far.
        budget: what fits into a batch; by default, what suits the device.
        share: whether rows may share their prefix.

    Raises:
        ModelError: a single row does not fit into memory.
    """
    import torch

    budget = budget or BUDGETS[loaded.device.type]
    with torch.inference_mode():
        prefix, how = _share(loaded, rows) if share else (None, {"prefix": NONE})
        skipped = prefix.length if prefix else 0
        vocabulary = loaded.model.get_output_embeddings().weight.shape[0]
        batches = plan_batches(
            [len(row) - skipped for row in rows],
            [len(row.answer) for row in rows],
            skipped,
            vocabulary,
            budget,
        )
        how |= {"batches": len(batches), "halved": 0}
        # Losses stay on the device until the end: reading one would wait for all work before it.
        parts: list[tuple[Batch, Any]] = []
        with short_row_attention(loaded.model):
            for batch, losses in _all_batches(loaded, rows, batches, prefix, budget, how):
                parts.append((batch, losses))
                progress(sum(len(batch.rows) for batch, _ in parts))
        nlls = [0.0] * len(rows)
        for batch, losses in parts:
            sizes = [len(rows[index].answer) for index in batch.rows]
            for index, part in zip(batch.rows, losses.cpu().split(sizes), strict=True):
                nlls[index] = part.sum().item()
    return Scored(nlls, how)


def whole_row(loaded: LoadedModel, row: Encoded) -> float:
    """NLL of one row, alone and from its first token on: nothing is shared, nothing is padded."""
    import torch

    with torch.inference_mode():
        losses = _score_batch(loaded, [row], None, len(row), BUDGETS[loaded.device.type])
        return float(losses.sum().item())


def _all_batches(
    loaded: LoadedModel,
    rows: Sequence[Encoded],
    batches: Sequence[Batch],
    prefix: SharedPrefix | None,
    budget: Budget,
    how: dict[str, Any],
) -> Iterator[tuple[Batch, Any]]:
    """Yield every batch with its losses; one that does not fit into memory is halved."""
    waiting = deque(batches)
    limit: float = math.inf
    while waiting:
        batch = waiting.popleft()
        size = len(batch.rows) * batch.width
        if size <= limit or len(batch.rows) == 1:
            losses = _fitting(loaded, [rows[index] for index in batch.rows], prefix, batch, budget)
            if losses is not None:
                yield batch, losses
                continue
            limit = size / 2
            how["halved"] += 1
            if len(batch.rows) == 1:
                raise ModelError(_too_long(loaded, rows[batch.rows[0]]))
            if how["halved"] == 1:
                warnings.warn(
                    OutOfMemoryWarning(
                        f"{loaded.spec.name}: a batch of {len(batch.rows)} rows of "
                        f"{batch.width} tokens did not fit into memory; batches are halved"
                    ),
                    stacklevel=4,
                )
        middle = len(batch.rows) // 2
        for half in (batch.rows[middle:], batch.rows[:middle]):
            width = max(len(rows[index]) for index in half) - (prefix.length if prefix else 0)
            waiting.appendleft(Batch(half, width))


def _fitting(
    loaded: LoadedModel,
    rows: list[Encoded],
    prefix: SharedPrefix | None,
    batch: Batch,
    budget: Budget,
) -> Any:
    """Return the losses of a batch, or None where it does not fit into memory."""
    try:
        return _score_batch(loaded, rows, prefix, batch.width, budget)
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


def _score_batch(
    loaded: LoadedModel,
    rows: list[Encoded],
    prefix: SharedPrefix | None,
    width: int,
    budget: Budget,
) -> Any:
    """Losses (float64, shape (scored tokens,), row after row) of rows that begin with ``prefix``.

    Padding stands last and attention is causal, so no scored position can see it; positions
    count on from the shared prefix by themselves.
    """
    import torch

    model, skipped = loaded.model, prefix.length if prefix else 0
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    scored: list[int] = []
    targets: list[int] = []
    for index, row in enumerate(rows):
        rest = row.ids[skipped:]
        ids[index, : len(rest)] = torch.tensor(rest)
        # The logits at position t predict token t + 1.
        start = index * width + len(row.context) - skipped - 1
        scored += range(start, start + len(row.answer))
        targets += row.answer
    positions = _to(torch.tensor(scored), loaded.device)
    past = prefix.cache(len(rows)) if prefix else None
    with _head_on(model, ids.shape, positions) as used:
        output = model(
            input_ids=_to(ids, loaded.device), past_key_values=past, use_cache=past is not None
        )
    logits = output.logits if used else output.logits.flatten(0, 1).index_select(0, positions)
    chunk = max(1, budget.softmax // logits.shape[-1])
    return _token_nlls(logits, _to(torch.tensor(targets), loaded.device), chunk)


def _to(tensor: Any, device: Any) -> Any:
    """Send to the device; from pinned memory, so that nothing waits for the copy."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def _token_nlls(logits: Any, targets: Any, chunk: int) -> Any:
    """−log softmax(logits)[target] for each row of logits, as float64, shape (rows,).

    The sum over the vocabulary is taken in float64: for 50,000 entries, float32 is off by up to
    1e-5 nats a token, nine times of ten to the same side, so that a row's sum is off by more.
    ``chunk`` rows at a time, so that the intermediate values stay in cache.
    """
    import torch

    found = []
    for some, wanted in zip(logits.split(chunk), targets.split(chunk), strict=True):
        values = some.float()
        largest = values.amax(dim=-1, keepdim=True)
        total = (values - largest).exp_().sum(dim=-1, dtype=torch.float64)
        chosen = values.gather(1, wanted[:, None])
        found.append(total.log() - (chosen - largest).squeeze(1).double())
    return torch.cat(found)


@contextmanager
def _head_on(model: Any, shape: Any, positions: Any) -> Iterator[list[bool]]:
    """While active, the output head sees the hidden states of the flat ``positions`` only.

    Selecting before the head keeps whatever a family does to its logits (scaling, capping),
    which is elementwise. Yields a list that is not empty once the head has been used this way.
    """
    used: list[bool] = []

    def select(module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        hidden = arguments[0]
        if hidden.shape[:2] != shape:
            return None
        used.append(True)
        return (hidden.flatten(0, 1).index_select(0, positions), *arguments[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield used
    finally:
        handle.remove()


def _share(
    loaded: LoadedModel, rows: Sequence[Encoded]
) -> tuple[SharedPrefix | None, dict[str, Any]]:
    """Compute what the rows share, in the best way that this model gets right.

    A way is checked on the shortest row whenever a prefix is longer than all it was checked on:
    the row must have the NLL that it has without sharing.

    Returns:
        The prefix, or None; and which way was taken, with the reason where the model has none.
    """
    length = common_prefix(rows) if len(rows) > 1 else 0
    if length < MIN_PREFIX:
        return None, {"prefix": NONE, "prefix_tokens": 0}
    shortest = min(rows, key=len)
    for way in (IN_PLACE, COPIED):
        if way in loaded.cannot_share:
            continue
        try:
            prefix = SharedPrefix(
                loaded.model, rows[0].context[:length], max(map(len, rows)), way == IN_PLACE
            )
            if length > loaded.shared_tokens:
                _check_sharing(loaded, prefix, shortest)
                loaded.shared_tokens = length
        except Exception as error:  # a family's own code, handed a cache it may not know
            if is_out_of_memory(error):
                raise ModelError(_too_long(loaded, shortest)) from None
            loaded.cannot_share[way] = one_line(error, 160)
            continue
        return prefix, {"prefix": way, "prefix_tokens": length}
    return None, {"prefix": NONE, "prefix_tokens": 0, "reason": loaded.cannot_share[COPIED]}


def _check_sharing(loaded: LoadedModel, prefix: SharedPrefix, row: Encoded) -> None:
    budget = BUDGETS[loaded.device.type]
    with short_row_attention(loaded.model):
        losses = _score_batch(loaded, [row], prefix, len(row) - prefix.length, budget)
    shared, whole = float(losses.sum().item()), whole_row(loaded, row)
    if math.isnan(shared) and math.isnan(whole):
        return
    if not abs(shared - whole) <= SHARING_TOLERANCE[loaded.spec.dtype] * max(1.0, abs(whole)):
        raise ModelError(
            f"row {row.prompt.id!r} has an NLL of {shared:.6f} with a shared prefix and "
            f"{whole:.6f} without"
        )
