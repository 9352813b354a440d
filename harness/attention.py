"""Attention on CPUs for short rows, with or without keys that many rows share.

Two things make it faster than torch's kernel, with the same float32 numbers. Rows of a few
hundred tokens are computed as plain batched products (torch's CPU kernel works in blocks that are
too small for them: four times slower at 120 tokens). And keys that all rows share are read where
they lie: with a batch's own keys S and the shared ones P, attention to both is the mean of the
two attentions, weighted by their sums of exponentials,

    attention(q; P ∪ S) = w · attention(q; P) + (1 − w) · attention(q; S),
    w = σ(logsumexp(q·P) − logsumexp(q·S))

and in attention(q; P) all rows of the batch stand behind each other as one long query, since every
one of them sees all of P (Juravsky et al. 2024, "Hydragen", arXiv:2402.05099).

Whatever is not plain causal softmax attention goes to transformers' own function.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

SPECIAL = ("position_bias", "softcap", "s_aux")  # what makes attention another one
SHORT = 512  # tokens; longer rows are faster with torch's kernel


@contextmanager
def short_row_attention(model: Any) -> Iterator[None]:
    """While active, models on a CPU that attend with torch's kernel ("sdpa") do so with ``attend``.

    The function behind the name is exchanged, and no model's configuration is touched: some parts
    of composite models, and some families, decide other things by that name.
    """
    if model.device.type != "cpu" or not _has_kernel():
        yield
        return
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    AttentionInterface.register("sdpa", attend)
    try:
        yield
    finally:
        AttentionInterface.register("sdpa", sdpa_attention_forward)


def is_possible(model: Any) -> bool:
    """Whether ``short_row_attention`` concerns this model."""
    name = model.config.get_text_config()._attn_implementation
    return bool(model.device.type == "cpu" and name == "sdpa" and _has_kernel())


def _has_kernel() -> bool:
    import torch

    return hasattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu")


def attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **kwargs: Any
) -> tuple[Any, None]:
    """Attention of a batch to itself and to the keys that its rows share.

    Args:
        module: the attention module.
        query: shape (rows, heads, length, size).
        key: shape (rows, key heads, length, size). An attribute ``shared`` holds ``keys`` and
            ``values`` of shape (1, key heads, shared length, size) that come before.
        value: as ``key``.
        attention_mask: what may be seen; None where that is causal. Not needed with shared keys:
            padding stands last.
        **kwargs: what transformers hands to every attention function.

    Returns:
        Shape (rows, length, heads, size), and no weights.
    """
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    shared = getattr(key, "shared", None)
    if shared is None and (attention_mask is not None or not _is_plain(module, query, key, kwargs)):
        output: tuple[Any, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **kwargs
        )
        return output
    if any(kwargs.get(name) is not None for name in SPECIAL):
        raise ValueError(f"shared keys can not be attended to with {', '.join(SPECIAL)}")
    scale = kwargs.get("scaling") or query.shape[-1] ** -0.5
    own, own_sum = _causal(query, key, value, scale)
    if shared is not None:
        seen, seen_sum = _full(query, shared.keys, shared.values, scale)
        weight = (seen_sum - own_sum).sigmoid().unsqueeze(-1)
        own = torch.lerp(own, seen, weight.to(own.dtype))
    return own.transpose(1, 2).contiguous(), None


def _is_plain(module: Any, query: Any, key: Any, kwargs: dict[str, Any]) -> bool:
    import torch

    causal = kwargs.get("is_causal")
    return (
        query.dtype == torch.float32
        and (getattr(module, "is_causal", True) if causal is None else causal)
        and all(kwargs.get(name) is None for name in SPECIAL)
        and not kwargs.get("dropout")
        and 1 < query.shape[2] == key.shape[2] <= SHORT
    )


def _causal(query: Any, key: Any, value: Any, scale: float) -> tuple[Any, Any]:
    """Attention of each row to itself, and the log of its sum of exponentials, both per head."""
    import torch

    rows, heads, length, size = query.shape
    key_heads = key.shape[1]
    groups = heads // key_heads
    if query.dtype != torch.float32 or length > SHORT:
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        keys, values = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        result: tuple[Any, Any] = flash(query, keys, values, is_causal=True, scale=scale)
        return result
    # The heads that share a key head stand behind each other.
    products = _workspace(rows * heads * length * length)
    products = products.view(rows * key_heads, groups * length, length)
    torch.bmm(
        (query * scale).reshape(rows * key_heads, groups * length, size),
        key.reshape(rows * key_heads, length, size).transpose(1, 2),
        out=products,
    )
    products.view(-1, length, length).add_(_future(length))
    largest = products.amax(dim=-1, keepdim=True)
    total = products.sub_(largest).exp_().sum(dim=-1, keepdim=True)
    output = torch.bmm(products, value.reshape(rows * key_heads, length, -1)).div_(total)
    log_sum = largest.add_(total.log_())
    return output.view(rows, heads, length, -1), log_sum.view(rows, heads, length)


def _full(query: Any, keys: Any, values: Any, scale: float) -> tuple[Any, Any]:
    """Attention of all rows to the same keys, and the log of its sum of exponentials."""
    import torch

    rows, heads, length, size = query.shape
    key_heads = keys.shape[1]
    parts = (key_heads, heads // key_heads, rows, length)
    together = query.view(rows, *parts[:2], length, size).permute(1, 2, 0, 3, 4)
    seen, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        together.reshape(1, key_heads, -1, size), keys, values, scale=scale
    )
    return (
        seen.view(*parts, -1).permute(2, 0, 1, 3, 4).reshape(rows, heads, length, -1),
        log_sum.view(parts).permute(2, 0, 1, 3).reshape(rows, heads, length),
    )


@lru_cache(maxsize=4)
def _future(length: int) -> Any:
    """−∞ where a key stands after its query, else 0; shape (length, length)."""
    import torch

    return torch.full((length, length), float("-inf")).triu_(1)


_kept: list[Any] = []


def _workspace(size: int) -> Any:
    """Memory that is kept between calls: getting it afresh costs more than the products in it."""
    import torch

    if not _kept or _kept[0].numel() < size:
        with torch.inference_mode(False):  # so that it can be written to in either mode
            _kept[:] = [torch.empty(size)]
    return _kept[0][:size]
