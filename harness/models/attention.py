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

In training, the plain products are not kept for the backward pass but computed again there, from
the sums of exponentials (Dao et al. 2022, "FlashAttention", arXiv:2205.14135), so that memory grows
with the length of the rows and not with its square.

Whatever is not plain causal softmax attention goes to transformers' own function. CUDA devices
have kernels of their own (:mod:`harness.models.cuda_attention`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor, nn
    from transformers import PreTrainedModel

SPECIAL = ("position_bias", "softcap", "s_aux")  # what makes attention another one
SHORT = 512  # tokens; longer rows are faster with torch's kernel


@contextmanager
def short_row_attention(
    model: PreTrainedModel | PeftModel, training: bool = False
) -> Iterator[None]:
    """While active, models that attend with torch's kernel ("sdpa") do so with ours.

    On a CPU with ``attend``, in ``training`` with ``learn``; on CUDA with ``attend_on_cuda``, in
    training with torch's. The function behind the name is exchanged, and no model's
    configuration is touched: some parts of composite models, and some families, decide other
    things by that name.
    """
    function = _function(model.device.type, training)
    if function is None:
        yield
        return
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    AttentionInterface.register("sdpa", function)
    try:
        yield
    finally:
        AttentionInterface.register("sdpa", sdpa_attention_forward)


def _function(device: str, training: bool) -> Callable[..., tuple[Tensor, None]] | None:
    if device == "cuda":
        from harness.models.cuda_attention import attend_on_cuda

        return None if training else attend_on_cuda
    if device != "cpu" or not _has_kernel():
        return None
    return learn if training else attend


def reads_in_place(model: PreTrainedModel | PeftModel) -> bool:
    """Whether ``short_row_attention`` lets this model read shared keys where they lie."""
    name = model.config.get_text_config()._attn_implementation
    return bool(name == "sdpa" and _function(model.device.type, training=False))


def attends_here(model: PreTrainedModel | PeftModel) -> bool:
    """Whether this model attends with :func:`attend`: on a CPU, not with torch's kernel."""
    name = model.config.get_text_config()._attn_implementation
    return bool(model.device.type == "cpu" and name == "sdpa" and _has_kernel())


def _has_kernel() -> bool:
    import torch

    return hasattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu")


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
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

    shared = getattr(key, "shared", None)
    if shared is None and (attention_mask is not None or not _is_plain(module, query, key, kwargs)):
        return default(module, query, key, value, attention_mask, **kwargs)
    if any(kwargs.get(name) is not None for name in SPECIAL):
        raise ValueError(f"shared keys can not be attended to with {', '.join(SPECIAL)}")
    scale = kwargs.get("scaling") or query.shape[-1] ** -0.5
    if shared is None:
        return _alone(query, key, value, scale).transpose(1, 2).contiguous(), None
    own, own_sum = _causal(query, key, value, scale)
    seen, seen_sum = full(query, shared.keys, shared.values, scale)
    weight = (seen_sum - own_sum).sigmoid().unsqueeze(-1)
    own = torch.lerp(own, seen, weight.to(own.dtype))
    return own.transpose(1, 2).contiguous(), None


def learn(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of a batch to itself, with gradients.

    Arguments and result are those of :func:`attend`; nothing is shared.
    """
    if attention_mask is not None or not _is_plain(module, query, key, kwargs):
        return default(module, query, key, value, attention_mask, **kwargs)
    scale = kwargs.get("scaling") or query.shape[-1] ** -0.5
    return _recomputed()(query, key, value, scale).transpose(1, 2).contiguous(), None


def default(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Transformers' own function for the same arguments."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    output: tuple[Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, **kwargs
    )
    return output


@lru_cache(maxsize=1)
def _recomputed() -> Callable[[Tensor, Tensor, Tensor, float], Tensor]:
    """Causal attention whose backward pass computes the weights again."""
    import torch

    class Recomputed(torch.autograd.Function):  # type: ignore[misc]
        # Any: torch's context holds whatever is put on it.
        @staticmethod
        def forward(
            context: Any, query: Tensor, key: Tensor, value: Tensor, scale: float
        ) -> Tensor:
            output, log_sum = _causal(query, key, value, scale)
            context.save_for_backward(query, key, value, output, log_sum)
            context.scale = scale
            return output

        @staticmethod
        def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
            query, key, value, output, log_sum = context.saved_tensors
            scale = context.scale
            return *_gradients(query, key, value, output, log_sum, scale, gradient), None

    apply: Callable[[Tensor, Tensor, Tensor, float], Tensor] = Recomputed.apply
    return apply


def _gradients(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    log_sum: Tensor,
    scale: float,
    gradient: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of query, key and value, from that of the output.

    With P = exp(S − logsumexp(S)), S = scale · q kᵀ, o = P v, and ō, the gradient of o:

        v̄ = Pᵀ ō        S̄ = P ∘ (ō vᵀ − Σ ō ∘ o)        q̄ = scale · S̄ k        k̄ = scale · S̄ᵀ q
    """
    import torch

    rows, heads, length, _ = query.shape
    stacked = (rows * key.shape[1], heads // key.shape[1] * length, -1)
    keys, values = key.flatten(0, 1), value.flatten(0, 1)
    scaled = (query * scale).reshape(stacked)
    weights = _products(scaled, keys, rows * heads, length)
    weights.sub_(log_sum.reshape(stacked)).exp_()
    gradient = gradient.reshape(stacked)
    inner = (gradient * output.reshape(stacked)).sum(dim=-1, keepdim=True)
    values_gradient = weights.transpose(1, 2) @ gradient
    scores = torch.bmm(gradient, values.transpose(1, 2)).sub_(inner).mul_(weights)
    query_gradient = (scores @ keys).mul_(scale)
    key_gradient = scores.transpose(1, 2) @ scaled
    return (
        query_gradient.view(query.shape),
        key_gradient.view(key.shape),
        values_gradient.view(value.shape),
    )


def _is_plain(module: nn.Module, query: Tensor, key: Tensor, kwargs: dict[str, Any]) -> bool:
    import torch

    causal = kwargs.get("is_causal")
    return (
        query.dtype == torch.float32
        and (getattr(module, "is_causal", True) if causal is None else causal)
        and all(kwargs.get(name) is None for name in SPECIAL)
        and not kwargs.get("dropout")
        and 1 < query.shape[2] == key.shape[2] <= SHORT
    )


def _alone(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Attention of each row to itself, where no log-sum is wanted: one softmax in one pass."""
    import torch

    rows, heads, length, size = query.shape
    key_heads = key.shape[1]
    stacked = (query * scale).reshape(rows * key_heads, heads // key_heads * length, size)
    products = _products(stacked, key.flatten(0, 1), rows * heads, length)
    weights = _workspace(products.numel(), "weights").view(products.shape)
    torch.softmax(products, dim=-1, out=weights)
    return torch.bmm(weights, value.flatten(0, 1)).view(rows, heads, length, -1)


def _causal(query: Tensor, key: Tensor, value: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Attention of each row to itself, and the log of its sum of exponentials, both per head."""
    import torch

    rows, heads, length, size = query.shape
    key_heads = key.shape[1]
    groups = heads // key_heads
    if query.dtype != torch.float32 or length > SHORT:
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        keys, values = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        result: tuple[Tensor, Tensor] = flash(query, keys, values, is_causal=True, scale=scale)
        return result
    stacked = (query * scale).reshape(rows * key_heads, groups * length, size)
    products = _products(stacked, key.flatten(0, 1), rows * heads, length)
    largest = products.amax(dim=-1, keepdim=True)
    total = products.sub_(largest).exp_().sum(dim=-1, keepdim=True)
    output = torch.bmm(products, value.reshape(rows * key_heads, length, -1)).div_(total)
    log_sum = largest.add_(total.log_())
    return output.view(rows, heads, length, -1), log_sum.view(rows, heads, length)


def _products(stacked: Tensor, keys: Tensor, heads: int, length: int) -> Tensor:
    """Scores of queries and keys, −∞ where a key stands after its query; in kept memory.

    The heads that share a key head stand behind each other in ``stacked``.
    """
    import torch

    products = _workspace(heads * length * length).view(*stacked.shape[:2], length)
    torch.bmm(stacked, keys.transpose(1, 2), out=products)
    products.view(-1, length, length).add_(_future(length))
    return products


def full(query: Tensor, keys: Tensor, values: Tensor, scale: float) -> tuple[Tensor, Tensor]:
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
def _future(length: int) -> Tensor:
    """−∞ where a key stands after its query, else 0; shape (length, length)."""
    import torch

    return torch.full((length, length), float("-inf")).triu_(1)


_kept = threading.local()  # batches are computed side by side


def _workspace(size: int, name: str = "products") -> Tensor:
    """Memory that is kept between calls: getting it afresh costs more than the products in it."""
    import torch

    kept: Tensor | None = getattr(_kept, name, None)
    if kept is None or kept.numel() < size:
        with torch.inference_mode(False):  # so that it can be written to in either mode
            kept = torch.empty(size)
        setattr(_kept, name, kept)
    return kept[:size]
