"""From the rows of an optimizer step to tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

from harness.models.encoding import Encoded
from harness.scoring.losses import IGNORED
from harness.training.schedule import Step

if TYPE_CHECKING:
    from torch import Tensor

# Of a batch on CPUs: larger ones make them no faster, and are what memory is needed for.
CPU_TOKENS = 512


class LabelledBatch(TypedDict):
    """Rows that go through the model together: int64, shape (rows, longest row)."""

    input_ids: Tensor
    labels: Tensor


class StepBatches(TypedDict):
    """An optimizer step: its batches, its rows' ids, and how many labels it has in all."""

    batches: list[LabelledBatch]
    row_ids: list[str]
    count: int


def collate(rows: Sequence[Encoded]) -> LabelledBatch:
    """Pad a batch on the right and label the answer only.

    Returns:
        ``input_ids`` and ``labels``, int64 of shape (rows, longest row); every label that is not
        an answer token or the EOS is −100. No attention mask: attention is causal and the padding
        stands last, so no labelled position can see it, and attention without a mask takes a
        faster kernel. What stands in the padding is of no account; it is the EOS.
    """
    import torch

    length = max(len(row) for row in rows)
    ids = torch.full((len(rows), length), rows[0].answer[-1])
    labels = torch.full((len(rows), length), IGNORED)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row.ids)
        labels[index, len(row.context) : len(row)] = torch.tensor(row.answer)
    return {"input_ids": ids, "labels": labels}


def collate_step(step: Step, rows: Sequence[Encoded], cpu: bool) -> StepBatches:
    """The tensors of an optimizer step."""
    batches = batches_of(step, rows, cpu)
    return {
        "batches": [collate(batch) for batch in batches],
        "row_ids": [row.prompt.id for batch in batches for row in batch],
        "count": sum(len(row.answer) for batch in batches for row in batch),
    }


def batches_of(step: Step, rows: Sequence[Encoded], cpu: bool) -> list[list[Encoded]]:
    """The batches of an optimizer step: as planned, or :func:`even_batches` for a CPU.

    How its rows are put into batches changes no gradient: they are sums over the step's labels,
    divided by their number.
    """
    if not cpu:
        return [[rows[number] for number in batch] for batch in step.batches]
    own = [rows[number] for batch in step.batches for number in batch]
    return [[own[place] for place in batch] for batch in even_batches([len(row) for row in own])]


def even_batches(lengths: Sequence[int]) -> list[list[int]]:
    """Put an optimizer step's rows into batches of about as many tokens each, for CPUs.

    An even number of them, so that two cores end at the same time, and no more than it takes for
    ``CPU_TOKENS`` tokens each, padding included. The machine has no say in it: its number of
    cores would be part of what determines the adapter.

    Args:
        lengths: of the step's rows, in tokens; at least one.

    Returns:
        Places in ``lengths``, longest rows first.
    """
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    least = max(lengths)
    most = max(CPU_TOKENS, least)
    count = len(_filled(order, lengths, most))
    count += count % 2
    while least < most:
        middle = (least + most) // 2
        if len(_filled(order, lengths, middle)) <= count:
            most = middle
        else:
            least = middle + 1
    return _filled(order, lengths, most)


def _filled(order: Sequence[int], lengths: Sequence[int], most: int) -> list[list[int]]:
    """Rows in their order, each batch with as many as ``most`` tokens have room for."""
    batches: list[list[int]] = []
    for place in order:
        full = not batches or (len(batches[-1]) + 1) * lengths[batches[-1][0]] > most
        if full:
            batches.append([])
        batches[-1].append(place)
    return batches
