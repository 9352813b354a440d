"""Attention on CUDA to keys that many rows share, read where they lie.

The formula is that of :mod:`harness.models.attention`: attention to the shared keys and attention
to a row's own keys are computed apart and merged by their sums of exponentials. Both parts come
from kernels of torch that return the logarithm of that sum. Flash attention takes half precision
and heads of up to 256 numbers, on devices from compute capability 8.0 on; the memory-efficient
kernel takes the rest, float32 included. What neither takes raises, and the scorer then puts the
shared keys before each row's own.

Tensors that have no shared keys go to transformers' own function.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from harness.models.attention import SPECIAL, default

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

FLASH_SIZE = 256  # the largest head that flash attention takes
FLASH_CAPABILITY = 8  # the first major version of devices that it runs on (Ampere)
MULTIPLE = 8  # both kernels want heads of a multiple of so many numbers


def attend_on_cuda(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of a batch to itself and to the keys that its rows share.

    Arguments and result are those of :func:`harness.models.attention.attend`.

    Raises:
        ValueError: keys are shared, and this is not plain softmax attention.
        RuntimeError: no kernel takes these tensors.
    """
    shared = getattr(key, "shared", None)
    if shared is None:
        return default(module, query, key, value, attention_mask, **kwargs)
    if any(kwargs.get(name) is not None for name in SPECIAL):
        raise ValueError(f"shared keys can not be attended to with {', '.join(SPECIAL)}")
    scale = kwargs.get("scaling") or query.shape[-1] ** -0.5
    return merged(query, key, value, shared.keys, shared.values, scale), None


def merged(
    query: Tensor, key: Tensor, value: Tensor, shared: Tensor, values: Tensor, scale: float
) -> Tensor:
    """Causal attention of each row to the shared keys and to its own.

    Args:
        query: shape (rows, heads, length, size).
        key: shape (rows, key heads, length, size).
        value: shape (rows, key heads, length, value size).
        shared: shape (1, key heads, shared length, size); the length may be 0.
        values: shape (1, key heads, shared length, value size).
        scale: what products of queries and keys are multiplied by.

    Returns:
        Shape (rows, length, heads, value size), contiguous.
    """
    import torch

    own, own_sum = _with_sums(query, key, value, scale, causal=True)
    own = own.transpose(1, 2)
    if not shared.shape[2]:  # flash attention's sum over no keys is +∞, where −∞ is meant
        return own.contiguous()
    rows, heads, length, _ = query.shape
    # All rows behind each other: in the layout of (rows, length, heads, size), which projections
    # leave behind, this is no copy.
    together = query.transpose(1, 2).reshape(1, rows * length, heads, -1).transpose(1, 2)
    seen, seen_sum = _with_sums(together, shared, values, scale, causal=False)
    seen = seen.transpose(1, 2).reshape(rows, length, heads, -1)
    seen_sum = seen_sum.view(heads, rows, length).transpose(0, 1)
    weight = (seen_sum - own_sum).sigmoid().transpose(1, 2).unsqueeze(-1)
    return torch.lerp(own, seen, weight.to(own.dtype)).contiguous()


def _with_sums(
    query: Tensor, key: Tensor, value: Tensor, scale: float, causal: bool
) -> tuple[Tensor, Tensor]:
    """Attention and the log of its sum of exponentials, by the kernel that takes these tensors.

    Returns:
        Shapes (rows, heads, length, value size) and (rows, heads, length), the latter float32.
    """
    size = value.shape[-1]
    flash = takes_flash(query.dtype, query.shape[-1], size, query.device)
    query, key, value = (_padded(one) for one in (query, key, value))
    output, sums = (_flash if flash else _efficient)(query, key, value, scale, causal)
    return output[..., :size], sums[..., : query.shape[2]]


def takes_flash(dtype: torch.dtype, size: int, value_size: int, device: torch.device) -> bool:
    """Whether flash attention takes heads of that size and type on that device."""
    import torch

    half = dtype in (torch.float16, torch.bfloat16)
    return half and size == value_size <= FLASH_SIZE and _capability(device) >= FLASH_CAPABILITY


@lru_cache(maxsize=16)
def _capability(device: torch.device) -> int:
    import torch

    major: int = torch.cuda.get_device_capability(device)[0]
    return major


def _padded(tensor: Tensor) -> Tensor:
    """With zeros up to a multiple of what the kernels take: they add nothing to a product."""
    import torch

    missing = -tensor.shape[-1] % MULTIPLE
    return torch.nn.functional.pad(tensor, (0, missing)) if missing else tensor


def _flash(
    query: Tensor, key: Tensor, value: Tensor, scale: float, causal: bool
) -> tuple[Tensor, Tensor]:
    """Flash attention; several heads may read one key head."""
    import torch

    kernel = torch.ops.aten._scaled_dot_product_flash_attention
    output, sums, *_ = kernel(query, key, value, is_causal=causal, scale=scale)
    return output, sums


def _efficient(
    query: Tensor, key: Tensor, value: Tensor, scale: float, causal: bool
) -> tuple[Tensor, Tensor]:
    """Memory-efficient attention, which wants a key head for each head.

    Where all positions see all keys, heads of one key head can stand behind each other instead,
    so that the shared keys are not repeated. The kernel's sums are padded to a multiple of 32
    positions.
    """
    import torch

    kernel = torch.ops.aten._scaled_dot_product_efficient_attention
    rows, heads, length, size = query.shape
    key_heads = key.shape[1]
    groups = heads // key_heads
    if causal:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        output, sums, *_ = kernel(query, key, value, None, True, is_causal=True, scale=scale)
        return output, sums
    stacked = query.reshape(rows, key_heads, groups * length, size)
    output, sums, *_ = kernel(stacked, key, value, None, True, is_causal=False, scale=scale)
    sums = sums[..., : groups * length]
    return output.reshape(rows, heads, length, -1), sums.reshape(rows, heads, length)
