"""The losses of one batch, if it fits into memory, and the NLL of one row alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import ModelError
from harness.models.encoding import Encoded
from harness.models.loading import LoadedModel
from harness.models.memory import free, is_out_of_memory
from harness.scoring.batches import BUDGETS, Batch, Budget
from harness.scoring.losses import batch_losses
from harness.scoring.prefix import SharedPrefix

if TYPE_CHECKING:
    from torch import Tensor


def whole_row(loaded: LoadedModel, row: Encoded) -> float:
    """NLL of one row, alone and from its first token on: nothing is shared, nothing is padded.

    Raises:
        ModelError: it does not fit into memory.
    """
    import torch

    budget = BUDGETS[loaded.device.type]
    with torch.inference_mode():
        losses = losses_if_they_fit(loaded, [row], None, Batch((0,), len(row)), budget)
        if losses is None:
            raise ModelError(too_long(loaded, row))
        return float(losses.sum().item())


def losses_if_they_fit(
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


def too_long(loaded: LoadedModel, row: Encoded) -> str:
    """What is said of a row that does not fit into memory."""
    return (
        f"row {row.prompt.id!r}: {len(row)} tokens do not fit into memory with "
        f"{loaded.spec.name}, even alone; use a smaller --k, --quant=nf4 or --dtype=bfloat16"
    )
