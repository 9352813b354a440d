"""From the rows of an optimizer step to tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

from harness.models.encoding import Encoded
from harness.scoring.losses import IGNORED
from harness.training.schedule import Step

if TYPE_CHECKING:
    from torch import Tensor

# Larger batches make CPUs no faster, and are what memory is needed for.
CPU_TOKENS = 1024


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


def collate_step(step: Step, rows: Sequence[Encoded], tokens: int | None) -> StepBatches:
    """The tensors of an optimizer step.

    A batch of more than ``tokens`` tokens is cut, which changes no gradient: they are sums over
    the step's labels, divided by their number.
    """
    batches = batches_of(step, rows, tokens)
    return {
        "batches": [collate(batch) for batch in batches],
        "row_ids": [row.prompt.id for batch in batches for row in batch],
        "count": sum(len(row.answer) for batch in batches for row in batch),
    }


def batches_of(step: Step, rows: Sequence[Encoded], tokens: int | None) -> list[list[Encoded]]:
    """The batches of an optimizer step, those of more than ``tokens`` tokens cut."""
    return [
        part for batch in step.batches for part in _cut([rows[number] for number in batch], tokens)
    ]


def _cut(batch: list[Encoded], tokens: int | None) -> list[list[Encoded]]:
    width = max(map(len, batch))
    if tokens is None or len(batch) * width <= tokens:
        return [batch]
    size = max(1, tokens // width)
    return [batch[start : start + size] for start in range(0, len(batch), size)]
