"""What all rows of a cell share before they differ: computed once, read by every batch.

The shared tokens go through the model once. Their keys and values (and the states of linear
attention) are then handed to every batch and written by none: a cache object that a second batch
finds changed by the first gives wrong numbers silently.

Keys and values are not even copied (:mod:`harness.models.attention`). Where that is not possible
(eager attention, a sliding window shorter than the row), the shared keys are put before the
batch's own, row by row.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from harness.models.attention import reads_in_place
from harness.records import COPIED, IN_PLACE

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import DynamicCache, PreTrainedModel
    from transformers.cache_utils import CacheLayerMixin, LinearAttentionLayer


class UnsupportedCacheError(Exception):
    """This model's cache cannot be shared between rows; the text says why."""


def must_be_alone(model: PreTrainedModel | PeftModel, longest: int) -> str | None:
    """Say why no row of this model may share a forward with another one; None where it may.

    LongRoPE and dynamic scaling choose their frequencies by the longest position of a forward:
    beyond the original length, what a short row has computed is not what a long row needs.
    State-space models are not all sure of padding (Mamba 2 in transformers 5.20 is not).
    """
    config = model.config.get_text_config()
    if not getattr(config, "num_attention_heads", None):
        return "it has no attention, and its states may depend on padding"
    found = getattr(config, "rope_parameters", None) or {}
    parts = [found, *(part for part in found.values() if isinstance(part, dict))]
    for part in parts:
        kind = str(part.get("rope_type"))
        original = part.get("original_max_position_embeddings") or getattr(
            config, "original_max_position_embeddings", config.max_position_embeddings
        )
        if (kind == "longrope" or "dynamic" in kind) and longest > original:
            return "its positions depend on a row's length"
    return None


class SharedPrefix:
    """The cache of tokens that many rows begin with.

    Args:
        model: a causal language model in eval mode.
        ids: the shared tokens.
        longest: length of the longest row, these tokens included.
        in_place: whether keys and values may be read where they lie, in the layers that can.

    Attributes:
        way: ``IN_PLACE`` if a layer does that, else ``COPIED``.

    Raises:
        UnsupportedCacheError: the model has cache layers that cannot be shared, or, with
            ``in_place``, no attention that could read it in place.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        ids: tuple[int, ...],
        longest: int,
        in_place: bool,
    ) -> None:
        import torch

        self.length = len(ids)
        if in_place and not reads_in_place(model):
            raise UnsupportedCacheError("its attention cannot read shared keys in place")
        past, windows = empty_cache(model)
        model(
            input_ids=torch.tensor([ids], device=model.device),
            past_key_values=past,
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache = past
        self._layers = [
            _shareable(layer, in_place and (window is None or longest <= window))
            for layer, window in zip(past.layers, windows, strict=True)
        ]
        # Which layers can is a matter of the cell's longest row, so it is no reason to refuse.
        self.way = IN_PLACE if any(map(_is_in_place, self._layers)) else COPIED

    def cache(
        self, rows: int, wrap: Callable[[CacheLayerMixin], CacheLayerMixin] | None = None
    ) -> DynamicCache:
        """Return a cache for a batch of ``rows`` rows that begin with these tokens.

        Args:
            rows: how many.
            wrap: makes the batch's own layer from one of shared ``keys`` and ``values``; without
                it, the batch's keys are not kept.
        """
        past = copy.copy(self._cache)
        past.layers = [
            (wrap(layer) if wrap else layer)
            if hasattr(layer, "in_place")
            else _copied_states(layer, rows)
            for layer in self._layers
        ]
        return past


def _is_in_place(layer: CacheLayerMixin) -> bool:
    return bool(getattr(layer, "in_place", False))


def empty_cache(model: PreTrainedModel | PeftModel) -> tuple[DynamicCache, list[int | None]]:
    """Return an empty cache that keeps every key, and each layer's sliding window or None.

    Layers with a window would drop keys that the window's mask leaves out anyway; but rows of
    other lengths than the prefix need other keys, so all are kept, and the mask decides.

    Raises:
        UnsupportedCacheError: the model's cache is of another kind.
    """
    from transformers.cache_utils import DynamicCache

    # A model that makes a cache of another kind knows something that this module does not.
    try:
        past = DynamicCache(config=model.config)
    except (AttributeError, KeyError, ValueError, TypeError) as error:
        raise UnsupportedCacheError(f"its cache is of a kind of its own ({error})") from None
    windows = [getattr(layer, "sliding_window", None) for layer in past.layers]
    past.layers = [_unwindowed(layer) for layer in past.layers]
    return past, windows


def _unwindowed(layer: CacheLayerMixin) -> CacheLayerMixin:
    from transformers.cache_utils import (
        DynamicLayer,
        DynamicSlidingWindowLayer,
        LinearAttentionLayer,
    )

    if type(layer) in (DynamicLayer, DynamicSlidingWindowLayer):
        return DynamicLayer()
    if type(layer) is LinearAttentionLayer:
        return layer
    raise UnsupportedCacheError(f"its cache has layers of type {type(layer).__name__}")


def _shareable(layer: CacheLayerMixin, in_place: bool) -> CacheLayerMixin:
    from transformers.cache_utils import DynamicLayer

    if not isinstance(layer, DynamicLayer):
        return layer
    if not layer.is_initialized:
        raise UnsupportedCacheError("one of its layers stores no keys of its own")
    shared = _read_only_layer()()
    shared.keys, shared.values, shared.in_place = layer.keys, layer.values, in_place
    shared.dtype, shared.device, shared.is_initialized = layer.dtype, layer.device, True
    return shared


def _copied_states(layer: LinearAttentionLayer, rows: int) -> LinearAttentionLayer:
    """Copy a linear-attention layer's states, one for each row: the model writes into them."""

    def each(states: dict[int, Tensor | None]) -> dict[int, Tensor | None]:
        return {
            index: state if state is None else state.expand(rows, *state.shape[1:]).clone()
            for index, state in states.items()
        }

    mine = copy.copy(layer)
    mine.conv_states, mine.recurrent_states = each(layer.conv_states), each(layer.recurrent_states)
    for name in (
        "is_conv_states_initialized",
        "is_recurrent_states_initialized",
        "has_previous_state",
    ):
        setattr(mine, name, dict(getattr(layer, name)))
    return mine


@cache
def _read_only_layer() -> type[CacheLayerMixin]:
    import torch
    from transformers.cache_utils import DynamicLayer

    class SharedPrefixLayer(DynamicLayer):  # type: ignore[misc]
        """Hands the shared keys and values to a batch and keeps nothing of the batch's own."""

        def update(
            self, keys: Tensor, values: Tensor, *args: object, **kwargs: object
        ) -> tuple[Tensor, Tensor]:
            if self.in_place:
                keys.shared = self  # found by harness.models.attention
                return keys, values
            rows = keys.shape[0]
            return (
                torch.cat([self.keys.expand(rows, -1, -1, -1), keys], dim=-2),
                torch.cat([self.values.expand(rows, -1, -1, -1), values], dim=-2),
            )

    return SharedPrefixLayer
