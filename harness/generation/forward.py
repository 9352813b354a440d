"""Rows that are written together: their rests go through the model, then one token of each."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.generation.caches import Layout, keep_rows, writing_cache
from harness.models.attention import attends_here
from harness.models.encoding import Encoded
from harness.models.loading import LoadedModel
from harness.scoring.losses import head_on
from harness.scoring.prefix import SharedPrefix

if TYPE_CHECKING:
    from torch import Tensor


class Wave:
    """A batch that is being written, and the logits of its next tokens.

    Args:
        loaded: a model in eval mode.
        rows: they begin with ``prefix``; longest first.
        prefix: what they share.
        limit: tokens that may be written for each row.
        in_place: whether a row's keys are read where they lie.
        part: tokens, padding included, that go through the model together before any is written.

    Raises:
        UnsupportedCacheError: this model's rows cannot be written together.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        rows: Sequence[Encoded],
        prefix: SharedPrefix | None,
        limit: int,
        in_place: bool,
        part: int,
    ) -> None:
        self.loaded = loaded
        self.before = prefix.length if prefix else 0
        self._rests = [row.context[self.before :] for row in rows]
        lengths = [len(rest) for rest in self._rests]
        self.layout = Layout(lengths, max(lengths), max(lengths) + limit)
        self.layout.padding = self.layout.padding.to(loaded.device, loaded.model.dtype)
        self.past = writing_cache(loaded.model, prefix, self.layout, in_place)
        self._in_place = in_place and attends_here(loaded.model)
        self._part = part
        self._written = 0
        self._takes_positions = takes_positions(loaded)

    def start(self) -> Tensor:
        """Logits of each row's first token, float32, shape (rows, vocabulary)."""
        import torch

        # States of linear attention have no rows that could be filled in parts.
        whole = not all(hasattr(layer, "layout") for layer in self.past.layers)
        found, first, count = [], 0, len(self._rests)
        while first < count:
            wide = len(self._rests[first])
            last = count if whole else min(count, first + max(1, self._part // wide))
            self.layout.part = (first, last)
            found.append(self._begin(self._rests[first:last]))
            first = last
        self.layout.part = None
        return torch.cat(found)

    def _begin(self, rests: Sequence[tuple[int, ...]]) -> Tensor:
        """The first logits of some rows; padded on the right, where no token can see it."""
        import torch

        width = max(map(len, rests))
        ids = torch.zeros((len(rests), width), dtype=torch.long)
        for row, rest in enumerate(rests):
            ids[row, : len(rest)] = torch.tensor(rest)
        ends = torch.tensor([row * width + len(rest) - 1 for row, rest in enumerate(rests)])
        ends = ends.to(self.loaded.device)
        with head_on(self.loaded.model, ids.shape, ends) as used:
            logits: Tensor = self.loaded.model(
                input_ids=ids.to(self.loaded.device), past_key_values=self.past, use_cache=True
            ).logits
        if not used:
            logits = logits.flatten(0, 1).index_select(0, ends)
        return logits.float()

    def step(self, tokens: Tensor) -> Tensor:
        """Write a token of each row; return the logits of the next, float32.

        Args:
            tokens: shape (rows,).
        """
        import torch

        arguments: dict[str, Tensor] = {}
        lengths = torch.tensor(self.layout.lengths, device=tokens.device)
        if self._takes_positions:
            arguments["position_ids"] = (self.before + lengths + self._written)[:, None]
        self._written += 1
        if not self._in_place and self.layout.is_padded:
            seen = self.layout.padding[:, : self.layout.width + self._written] == 0
            arguments["attention_mask"] = torch.nn.functional.pad(
                seen.long(), (self.before, 0), value=1
            )
        logits: Tensor = self.loaded.model(
            input_ids=tokens[:, None], past_key_values=self.past, use_cache=True, **arguments
        ).logits
        return logits[:, -1].float()

    def keep(self, rows: Tensor) -> None:
        """Keep these rows, in this order; a row may stand several times."""
        keep_rows(self.past, rows)
        self.layout.keep(rows)


def takes_positions(loaded: LoadedModel) -> bool:
    """Whether the model can be told its tokens' positions."""
    model = loaded.model
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "position_ids" in inspect.signature(base.forward).parameters
