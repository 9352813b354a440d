"""The keys and values of a batch that is being written, in memory allocated once.

A batch's rows begin with shared tokens (perhaps none) and have a rest of their own. A row's own
keys stand at the right of its memory, so that the next token of every row has the same column:

    row 0    own own own own | new …
    row 1     ·   ·  own own | new …        · never attended to

The rests are computed first, in parts if there are many; then one token of every row at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from harness.scoring.prefix import SharedPrefix, empty_cache

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import DynamicCache, PreTrainedModel
    from transformers.cache_utils import CacheLayerMixin


@dataclass
class Layout:
    """Where the rows of a batch stand in its memory; the same for all layers.

    Attributes:
        lengths: tokens of each row's rest.
        width: of the longest rest.
        capacity: columns that there are, those of the rests included.
        part: first row of the part whose rests are being computed, and the one after its last;
            None once tokens are written.
        padding: 0 where a row's own key counts, else −∞; shape (rows, capacity).
    """

    lengths: list[int]
    width: int
    capacity: int
    part: tuple[int, int] | None = None
    padding: Tensor = field(init=False)

    def __post_init__(self) -> None:
        import torch

        starts = self.width - torch.tensor(self.lengths)
        hidden = torch.arange(self.capacity) < starts[:, None]
        self.padding = torch.zeros(hidden.shape).masked_fill_(hidden, float("-inf"))

    @property
    def is_padded(self) -> bool:
        return min(self.lengths) < self.width

    def keep(self, rows: Tensor) -> None:
        """Keep these rows, in this order."""
        self.lengths = [self.lengths[row] for row in rows.tolist()]
        self.padding = self.padding[rows]


def writing_cache(
    model: PreTrainedModel | PeftModel,
    prefix: SharedPrefix | None,
    layout: Layout,
    in_place: bool,
) -> DynamicCache:
    """Return a cache for a batch laid out like this.

    Args:
        model: whose cache it is.
        prefix: what the rows begin with.
        layout: of the batch.
        in_place: whether keys may be read where they lie, where no prefix says so.

    Raises:
        UnsupportedCacheError: the model has cache layers that cannot be written together.
    """
    if prefix is not None:
        return prefix.cache(
            len(layout.lengths),
            lambda shared: _own_layer()(layout, shared, bool(shared.in_place)),
        )
    from transformers.cache_utils import DynamicLayer

    past, _ = empty_cache(model)
    past.layers = [
        _own_layer()(layout, None, in_place) if isinstance(layer, DynamicLayer) else layer
        for layer in past.layers
    ]
    return past


def keep_rows(past: DynamicCache, rows: Tensor) -> None:
    """Keep these rows of every layer, in this order."""
    for layer in past.layers:
        if hasattr(layer, "layout"):
            used = layer.offset + layer.length
            layer.keys, layer.values = (
                _kept(memory, used, rows) for memory in (layer.keys, layer.values)
            )
            continue
        for states in (layer.conv_states, layer.recurrent_states):
            for index, state in states.items():
                states[index] = state if state is None else state.index_select(0, rows)


@cache
def _own_layer() -> type[CacheLayerMixin]:
    from transformers.cache_utils import DynamicLayer

    class OwnLayer(DynamicLayer):  # type: ignore[misc]
        """Keys and values of one layer; ``own`` to :mod:`harness.generation.attention`."""

        def __init__(self, layout: Layout, shared: Any, in_place: bool) -> None:
            super().__init__()
            self.layout, self.shared, self.in_place = layout, shared, in_place
            self.before = 0 if shared is None else int(shared.keys.shape[2])
            self.offset = 0 if in_place else self.before
            self._written = 0

        @property
        def length(self) -> int:
            """Columns in use, once the rests are computed."""
            return self.layout.width + self._written

        @property
        def padding(self) -> Tensor:
            return self.layout.padding

        def get_seq_length(self) -> int:
            return self.before + (0 if self.layout.part is not None else self.length)

        def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
            return self.get_seq_length() + query_length, 0

        def update(
            self, keys: Tensor, values: Tensor, *args: object, **kwargs: object
        ) -> tuple[Tensor, Tensor]:
            if not self.is_initialized:
                _allocate(self, keys, values)
            if self.layout.part is not None:
                return _begin(self, keys, values, *self.layout.part)
            self._written += 1
            return _next(self, keys, values)

    return OwnLayer


def _kept(memory: Tensor, used: int, rows: Tensor) -> Tensor:
    """Memory of these rows, in this order; only its first ``used`` columns are copied."""
    new = memory.new_empty(len(rows), *memory.shape[1:])
    new[:, :, :used] = memory[:, :, :used].index_select(0, rows)
    return new


def _allocate(layer: Any, keys: Tensor, values: Tensor) -> None:
    rows, columns = len(layer.layout.lengths), layer.offset + layer.layout.capacity
    layer.keys = keys.new_empty(rows, keys.shape[1], columns, keys.shape[3])
    layer.values = values.new_empty(rows, values.shape[1], columns, values.shape[3])
    if layer.offset:
        layer.keys[:, :, : layer.offset] = layer.shared.keys
        layer.values[:, :, : layer.offset] = layer.shared.values
    layer.dtype, layer.device, layer.is_initialized = keys.dtype, keys.device, True


def _next(layer: Any, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Keep a token of every row; return all keys and values that there are now."""
    used = layer.offset + layer.length
    layer.keys[:, :, used - 1] = keys[:, :, 0]
    layer.values[:, :, used - 1] = values[:, :, 0]
    found: Tensor = layer.keys[:, :, :used]
    if layer.in_place:
        found.own = layer
    return found, layer.values[:, :, :used]


def _begin(
    layer: Any, keys: Tensor, values: Tensor, first: int, last: int
) -> tuple[Tensor, Tensor]:
    """Keep the rests of some rows, padded on the right; return what they attend to."""
    import torch

    right = layer.offset + layer.layout.width
    for row, length in enumerate(layer.layout.lengths[first:last]):
        for kept, new in ((layer.keys, keys), (layer.values, values)):
            # Finite in what is masked, too: 0 times an unset value may not be 0.
            kept[first + row, :, layer.offset : right - length] = 0
            kept[first + row, :, right - length : right] = new[row, :, :length]
    if layer.shared is None:
        return keys, values
    if layer.in_place:
        keys.shared = layer.shared
        return keys, values
    before = (layer.shared.keys, layer.shared.values)
    return (
        torch.cat([before[0].expand(len(keys), -1, -1, -1), keys], dim=2),
        torch.cat([before[1].expand(len(keys), -1, -1, -1), values], dim=2),
    )
