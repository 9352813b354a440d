"""The losses of a batch's scored tokens, for scoring and for training."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.models.encoding import Encoded
from harness.models.loading import LoadedModel
from harness.scoring.batches import Budget
from harness.scoring.prefix import SharedPrefix

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

IGNORED = -100  # the label of what is not learnt, as in transformers


def batch_losses(
    loaded: LoadedModel,
    rows: list[Encoded],
    prefix: SharedPrefix | None,
    width: int,
    budget: Budget,
) -> Tensor:
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
    with head_on(model, ids.shape, positions) as used:
        output = model(
            input_ids=_to(ids, loaded.device), past_key_values=past, use_cache=past is not None
        )
    logits = output.logits if used else output.logits.flatten(0, 1).index_select(0, positions)
    chunk = max(1, budget.softmax // logits.shape[-1])
    return _token_nlls(logits, _to(torch.tensor(targets), loaded.device), chunk)


def _to(tensor: Tensor, device: torch.device) -> Tensor:
    """Send to the device; from pinned memory, so that nothing waits for the copy."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def _token_nlls(logits: Tensor, targets: Tensor, chunk: int) -> Tensor:
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


def mean_loss(model: nn.Module, ids: Tensor, labels: Tensor, count: int) -> Tensor:
    """Cross-entropy of the labelled tokens, summed and divided by ``count``, to be trained on.

    The number that the model itself computes from labels, but the head and the softmax run on
    the labelled positions only.

    Args:
        model: a causal language model.
        ids: shape (rows, width), int64.
        labels: shape (rows, width); what is not to be learnt is ``IGNORED``.
        count: what the sum is divided by: the labels of all batches of an optimizer step.
    """
    import torch

    wanted = labels[:, 1:] != IGNORED
    row, column = wanted.nonzero(as_tuple=True)
    positions = row * ids.shape[1] + column  # the logits at position t predict token t + 1
    with head_on(model, ids.shape, positions) as used:
        logits = model(input_ids=ids, use_cache=False).logits
    if not used:
        logits = logits.flatten(0, 1).index_select(0, positions)
    total = torch.nn.functional.cross_entropy(
        logits.float(), labels[:, 1:][wanted], reduction="sum"
    )
    return total / count


@contextmanager
def head_on(model: nn.Module, shape: torch.Size, positions: Tensor) -> Iterator[list[bool]]:
    """While active, the output head sees the hidden states of the flat ``positions`` only.

    Selecting before the head keeps whatever a family does to its logits (scaling, capping),
    which is elementwise.

    Args:
        model: a causal language model.
        shape: (rows, width) of the batch; hidden states of another shape are left alone.
        positions: row · width + column of what is wanted, int64.

    Yields:
        A list that is not empty once the head has been used this way.
    """
    used: list[bool] = []
    ours = threading.get_ident()  # other batches go through the same head in other threads

    def select(module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        hidden = arguments[0]
        if threading.get_ident() != ours or hidden.shape[:2] != shape:
            return None
        used.append(True)
        return (hidden.flatten(0, 1).index_select(0, positions), *arguments[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield used
    finally:
        handle.remove()
