"""Attention of one new token of each row: to the keys that all rows share, and to the row's own.

The two are merged by their sums of exponentials, as in :mod:`harness.models.attention`. The keys
that are shared are read where they lie, by all rows together; a row's own lie in memory that was
allocated once, so that a step copies nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.models.attention import SPECIAL, attend, attends_here, full

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor, nn
    from transformers import PreTrainedModel


@contextmanager
def writing_attention(model: PreTrainedModel | PeftModel) -> Iterator[None]:
    """While active, models on a CPU that attend with torch's kernel ("sdpa") do so as above.

    Layers whose keys carry no ``own`` attend as in scoring.
    """
    if not attends_here(model):
        yield
        return
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    AttentionInterface.register("sdpa", _attend)
    try:
        yield
    finally:
        AttentionInterface.register("sdpa", sdpa_attention_forward)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """As transformers' attention functions: shape (rows, length, heads, size), and no weights.

    ``key`` may carry ``own``: a layer of :mod:`harness.generation.caches` with ``shared`` (keys and
    values, or None) and ``padding`` (0 where a row's own key counts, else −∞; shape (rows, keys)).
    """
    own = getattr(key, "own", None)
    if own is None:
        return attend(module, query, key, value, attention_mask, **kwargs)
    if any(kwargs.get(name) is not None for name in SPECIAL):
        raise ValueError(f"keys can not be read in place with {', '.join(SPECIAL)}")
    scale = kwargs.get("scaling") or query.shape[-1] ** -0.5
    output, log_sum = _one_token(query, key, value, own.padding, scale)
    if own.shared is not None:
        seen, seen_sum = full(query, own.shared.keys, own.shared.values, scale)
        weight = (seen_sum - log_sum).sigmoid().unsqueeze(-1)
        output = output.lerp(seen, weight.to(output.dtype))
    return output.transpose(1, 2).contiguous(), None


def _one_token(
    query: Tensor, keys: Tensor, values: Tensor, padding: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Attention of one query a row to its own keys, and the log of its sum of exponentials.

    Shapes (rows, heads, 1, size) and (rows, heads, 1).
    """
    import torch

    rows, heads, _, size = query.shape
    key_heads = keys.shape[1]
    stacked = (query * scale).view(rows * key_heads, heads // key_heads, size)
    scores = torch.bmm(stacked, keys.flatten(0, 1).transpose(1, 2))
    scores.view(rows, heads, -1).add_(padding[:, None, : keys.shape[2]])
    scores = scores.float()
    log_sum = scores.logsumexp(dim=-1, keepdim=True)
    weights = scores.sub_(log_sum).exp_().to(values.dtype)
    output = torch.bmm(weights, values.flatten(0, 1))
    return output.view(rows, heads, 1, -1), log_sum.view(rows, heads, 1)
