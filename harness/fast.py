"""The fast scorer: what the rows of a cell share is computed once.

The rows' longest common prefix of tokens (prefix token, preamble, demonstrations) goes through
the model once; its keys and values are then read by every batch and written by none, so no batch
can see another one's. What is left of the rows is batched by length, and the head and the
log-softmax run on scored positions only. A model whose cache is not plainly one key and one value
per token (sliding windows, linear attention) gets whole rows instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from harness.encoding import Encoded
from harness.models import LoadedModel

MIN_PREFIX = 16  # tokens; a shorter common prefix is cheaper computed with each row
BATCH_TOKENS = 2048  # tokens of a batch, padding included
CONTEXT_TOKENS = 16_384  # keys a batch attends to, the shared ones counted once per row
SCORED_LOGITS = 1 << 26  # scored positions × vocabulary of a batch: 256 MiB in float32


@dataclass(frozen=True)
class Batch:
    """Row numbers that go through the model together."""

    rows: tuple[int, ...]
    width: int


def plan_batches(
    lengths: Sequence[int], scored: Sequence[int], prefix: int, vocabulary: int
) -> list[Batch]:
    """Group rows by length under the budgets; a function of the rows alone.

    Args:
        lengths: tokens of each row after the shared prefix.
        scored: scored tokens of each row.
        prefix: length of the shared prefix.
        vocabulary: size of the vocabulary.
    """
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    batches: list[Batch] = []
    current: list[int] = []
    width = logits = 0
    for row in order:  # longest first: the first row of a batch is its width
        full = current and (
            (len(current) + 1) * width > BATCH_TOKENS
            or (len(current) + 1) * (width + prefix) > CONTEXT_TOKENS
            or logits + scored[row] * vocabulary > SCORED_LOGITS
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
    loaded: LoadedModel, rows: Sequence[Encoded], progress: Callable[[int], None]
) -> list[float]:
    """NLL of every row, in nats: the reference's numbers, computed without repetition."""
    import torch

    model = loaded.model
    with torch.inference_mode():
        length = common_prefix(rows) if len(rows) > 1 else 0
        past = None
        if length >= MIN_PREFIX:
            past = _shared_prefix(model, rows[0].context[:length], loaded.device)
        if past is None:
            length = 0
        vocabulary = model.get_output_embeddings().weight.shape[0]
        batches = plan_batches(
            [len(row) - length for row in rows], [len(r.answer) for r in rows], length, vocabulary
        )
        # Results stay on the device until the end: reading one would wait for all work before it.
        parts: list[tuple[int, Any]] = []
        done = 0
        for batch in batches:
            members = [rows[index] for index in batch.rows]
            nlls = _score_batch(model, members, length, past, batch.width, loaded.device)
            parts += list(zip(batch.rows, nlls, strict=True))
            done += len(members)
            progress(done)
        results = [0.0] * len(rows)
        for index, nll in parts:
            results[index] = nll.item()
    return results


def _score_batch(
    model: Any, rows: list[Encoded], skipped: int, past: Any, width: int, device: Any
) -> Any:
    """NLLs (float64, shape (rows,)) of rows whose first ``skipped`` tokens are in ``past``."""
    import torch

    ids = torch.zeros((len(rows), width), dtype=torch.long)
    scored = torch.zeros((len(rows), width), dtype=torch.bool)
    targets: list[int] = []
    for index, row in enumerate(rows):
        rest = row.ids[skipped:]
        ids[index, : len(rest)] = torch.tensor(rest)
        # The logits at position t predict token t + 1.
        scored[index, len(row.context) - skipped - 1 : len(rest) - 1] = True
        targets += row.answer
    ids, scored = ids.to(device), scored.to(device)
    # Padding stands last and attention is causal, so no scored position can see it; positions
    # count on from the shared prefix by themselves.
    with _head_on(model, scored) as used:
        output = model(input_ids=ids, past_key_values=past, use_cache=past is not None)
    logits = output.logits if used else output.logits[scored]
    losses = _token_nlls(logits.float(), torch.tensor(targets, device=device))
    return torch.stack([part.sum() for part in losses.split([len(row.answer) for row in rows])])


def _token_nlls(logits: Any, targets: Any) -> Any:
    """−log softmax(logits)[target] for each row of float32 logits, as float64, shape (rows,).

    The sum over the vocabulary is taken in float64: for 50,000 entries, float32 is off by up to
    1e-5 nats a token, nine times of ten to the same side, so that a row's sum is off by more.
    """
    import torch

    largest = logits.amax(dim=-1, keepdim=True)
    total = (logits - largest).exp_().sum(dim=-1, dtype=torch.float64)
    chosen = logits.gather(1, targets[:, None])
    return total.log() - (chosen - largest).squeeze(1).double()


@contextmanager
def _head_on(model: Any, scored: Any) -> Iterator[list[bool]]:
    """While active, the output head sees scored positions only: hidden states (scored, width).

    Selecting before the head keeps whatever a family does to its logits (scaling, capping),
    which is elementwise. Yields a list that is not empty once the head has been used this way.
    """
    used: list[bool] = []

    def select(module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        hidden = arguments[0]
        if hidden.shape[:2] != scored.shape:
            return None
        used.append(True)
        return (hidden[scored], *arguments[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield used
    finally:
        handle.remove()


def _shared_prefix(model: Any, ids: tuple[int, ...], device: Any) -> Any:
    """Return a read-only cache of these tokens' keys and values, or None where that is unsafe."""
    import torch
    from transformers.cache_utils import DynamicCache, DynamicLayer

    output = model(input_ids=torch.tensor([ids], device=device), use_cache=True, logits_to_keep=1)
    past: Any = getattr(output, "past_key_values", None)
    if type(past) is not DynamicCache:
        return None
    if any(type(layer) is not DynamicLayer for layer in past.layers):
        return None
    layers = []
    for layer in past.layers:
        shared = _read_only_layer()()
        shared.keys, shared.values = layer.keys, layer.values
        shared.dtype, shared.device, shared.is_initialized = layer.dtype, layer.device, True
        layers.append(shared)
    past.layers = layers
    return past


@cache
def _read_only_layer() -> Any:
    import torch
    from transformers.cache_utils import DynamicLayer

    class SharedPrefixLayer(DynamicLayer):  # type: ignore[misc]
        """Puts the shared keys and values before a batch's own and keeps nothing of the batch."""

        def update(self, keys: Any, values: Any, *args: Any, **kwargs: Any) -> Any:
            rows = keys.shape[0]
            return (
                torch.cat([self.keys.expand(rows, -1, -1, -1), keys], dim=-2),
                torch.cat([self.values.expand(rows, -1, -1, -1), values], dim=-2),
            )

    return SharedPrefixLayer
