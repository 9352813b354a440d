"""Whether adapters really may share a batch: each is asked alone and in it, before the first step.

An architecture that mixes the rows of a batch, or hands a layer other tokens than one expects,
would give an adapter another one's numbers, silently. So every group is held against PEFT's own
layers once, on its first rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from harness.models.encoding import Encoded
from harness.models.soundness import COARSE, EXACT
from harness.training.grouped import Grouped, Share, UngroupableError
from harness.training.rows_together import losses_of, rows_together


def check_sharing(
    grouped: Grouped, batches: Sequence[tuple[int, str, Sequence[Encoded]]], *, exact: bool
) -> None:
    """See that a batch of all adapters gives each the loss that it has alone.

    Fresh adapters change nothing, so that any mixture of them would look right: for as long as
    this takes, each has an update that is as large as what it is added to.

    Args:
        grouped: the adapters.
        batches: of each that takes part its place, its name and some of its rows.
        exact: whether the base computes in float32.

    Raises:
        UngroupableError: it does not.
    """
    import torch

    model = grouped.model
    parts = [rows for _, _, rows in batches]
    count = [sum(len(row.answer) for row in rows) for rows in parts]
    together = rows_together(parts, model.device)
    shares = [Share(place, len(rows), max(map(len, rows))) for place, _, rows in batches]
    model.eval()
    with _made_up(grouped), torch.no_grad():
        with grouped.batch(shares, together.rows, together.width):
            found = losses_of(model, together, count).tolist()
        alone = []
        for (_, name, rows), labels in zip(batches, count, strict=True):
            model.set_adapter(name)
            alone.append(float(losses_of(model, rows_together([rows], model.device), [labels])))
    for one, other in zip(found, alone, strict=True):
        if not math.isclose(one, other, rel_tol=EXACT if exact else COARSE):
            raise UngroupableError(
                f"in one batch with others, an adapter of it has another loss ({one:.6g} against "
                f"{other:.6g} alone)"
            )


@contextmanager
def _made_up(grouped: Grouped) -> Iterator[None]:
    """While active, every adapter has numbers of its own that change much."""
    import torch

    kept = [layer.b.detach().clone() for layer in grouped.layers]
    generator = torch.Generator().manual_seed(0)
    try:
        with torch.no_grad():
            for layer in grouped.layers:
                # A x is about as large as x / √3, so that B A x · scaling is as large as x / 5.
                size = 0.35 / (layer.scaling.cpu() * math.sqrt(layer.b.shape[2]))
                drawn = torch.randn(layer.b.shape, generator=generator) * size
                layer.b.copy_(drawn)
        yield
    finally:
        with torch.no_grad():
            for layer, b in zip(grouped.layers, kept, strict=True):
                layer.b.copy_(b)
