"""The rows of several adapters as one batch, and the loss of each adapter in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.models.encoding import Encoded
from harness.scoring.losses import IGNORED, head_on
from harness.training.collation import collate

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class RowsTogether:
    """A batch of several adapters' rows, one adapter's behind the other's.

    Attributes:
        ids: shape (adapters · rows, width), int64.
        positions: row · width + column of what predicts a label, int64.
        targets: the labels, in the same order: one adapter's behind the other's.
        labels: how many of them each adapter has.
        rows: of each adapter; where one has fewer, the rest is padding.
    """

    ids: Tensor
    positions: Tensor
    targets: Tensor
    labels: list[int]
    rows: int

    @property
    def width(self) -> int:
        """Of a row, in tokens."""
        return int(self.ids.shape[1])


def rows_together(parts: Sequence[Sequence[Encoded]], device: torch.device) -> RowsTogether:
    """Put each adapter's rows behind each other; what pads them stands last and has no label.

    Everything that depends on the labels is worked out here, on the CPU, so that a GPU is not
    waited for.
    """
    import torch

    rows, width = max(map(len, parts)), max(len(row) for part in parts for row in part)
    shape = (len(parts), rows, width)
    ids = torch.full(shape, parts[0][0].answer[-1])
    labels = torch.full(shape, IGNORED)
    for place, part in enumerate(parts):
        batch = collate(part)
        own = batch["input_ids"].shape
        ids[place, : own[0], : own[1]] = batch["input_ids"]
        labels[place, : own[0], : own[1]] = batch["labels"]
    shifted = labels[..., 1:]
    wanted = shifted != IGNORED
    place, row, column = wanted.nonzero(as_tuple=True)
    return RowsTogether(
        ids=ids.flatten(0, 1).to(device),
        positions=((place * rows + row) * width + column).to(device),
        targets=shifted[wanted].to(device),
        labels=wanted.sum(dim=(1, 2)).tolist(),
        rows=rows,
    )


def losses_of(model: nn.Module, batch: RowsTogether, counts: Sequence[int]) -> Tensor:
    """Each adapter's cross-entropy, summed over its labels and divided by its count.

    Args:
        model: takes the batch.
        batch: the rows of all adapters.
        counts: for each adapter what its sum is divided by: the labels of its whole step.

    Returns:
        Shape (adapters,): of each what :func:`harness.scoring.losses.mean_loss` gives it alone.
    """
    import torch

    with head_on(model, batch.ids.shape, batch.positions) as used:
        logits = model(input_ids=batch.ids, use_cache=False).logits
    if not used:
        logits = logits.flatten(0, 1).index_select(0, batch.positions)
    sums = [
        torch.nn.functional.cross_entropy(own.float(), targets, reduction="sum")
        for own, targets in zip(
            logits.split(batch.labels), batch.targets.split(batch.labels), strict=True
        )
    ]
    return torch.stack([total / count for total, count in zip(sums, counts, strict=True)])
