"""Attention to shared and own keys equals its definition in float64."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from harness.models.attention import attend
from tests.builders.attention import definition


@pytest.mark.parametrize("heads", [2, 6])
@pytest.mark.parametrize(
    ("length", "shared"), [(2, 0), (17, 0), (1, 1), (2, 1), (17, 1), (1, 29), (2, 29), (17, 29)]
)
@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_it_equals_the_definition(heads: int, length: int, shared: int, spread: float) -> None:
    import torch

    torch.manual_seed(0)
    query = spread * torch.randn(3, heads, length, 8)
    key, value = torch.randn(3, 2, length, 8), torch.randn(3, 2, length, 8)
    everything = [key, value]
    with torch.inference_mode():
        if shared:
            first = SimpleNamespace(
                keys=torch.randn(1, 2, shared, 8), values=torch.randn(1, 2, shared, 8)
            )
            key = key.clone()
            key.shared = first
            everything = [
                torch.cat([part.expand(3, -1, -1, -1), own], 2)
                for part, own in ((first.keys, key), (first.values, value))
            ]
        module = SimpleNamespace(is_causal=True)
        found, weights = attend(module, query, key, value, None, scaling=0.3)
    assert weights is None
    expected = definition(query, *everything, 0.3, shared)
    assert found.shape == (3, length, heads, 8)
    assert float((found.double() - expected).abs().max()) < 2e-6 * spread


def test_rows_longer_than_short(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr("harness.models.attention.SHORT", 4)
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 4, 9, 8) for _ in range(3))
    key.shared = SimpleNamespace(keys=torch.randn(1, 4, 5, 8), values=torch.randn(1, 4, 5, 8))
    found, _ = attend(SimpleNamespace(is_causal=True), query, key, value, None, scaling=0.3)
    both = [
        torch.cat([part.expand(2, -1, -1, -1), own], 2)
        for part, own in ((key.shared.keys, key), (key.shared.values, value))
    ]
    assert (found.double() - definition(query, *both, 0.3, 5)).abs().max() < 2e-6


@pytest.mark.parametrize(
    "special",
    [
        {"attention_mask": "all"},
        {"is_causal": False},
        {"position_bias": "far"},
    ],
)
def test_what_is_not_plainly_causal_is_left_to_transformers(special: dict[str, Any]) -> None:
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 4, 9, 8) for _ in range(3))
    mask = torch.ones(2, 1, 9, 9, dtype=torch.bool) if "attention_mask" in special else None
    more: dict[str, Any] = {"scaling": 1 / math.sqrt(8)}
    if "is_causal" in special:
        more["is_causal"] = False
    if "position_bias" in special:
        more["position_bias"] = torch.randn(1, 4, 9, 9)
    module = torch.nn.Module()
    module.is_causal = True
    found, _ = attend(module, query, key, value, mask, **more)
    expected, _ = sdpa_attention_forward(module, query, key, value, mask, **more)
    plain, _ = attend(module, query, key, value, None, scaling=more["scaling"])
    assert torch.equal(found, expected)
    assert not torch.allclose(found, plain)


@pytest.mark.parametrize(("heads", "key_heads"), [(4, 4), (6, 2), (4, 1)])
def test_recomputed_attention_has_the_gradients_of_torch_s(heads: int, key_heads: int) -> None:
    import torch

    from harness.models.attention import learn

    torch.manual_seed(0)
    found = []
    given = [torch.randn(3, count, 17, 8) for count in (heads, key_heads, key_heads)]
    weights = torch.randn(3, 17, heads, 8)
    for own in (True, False):
        query, key, value = (one.clone().requires_grad_() for one in given)
        if own:
            output, _ = learn(torch.nn.Module(), query, key, value, None, scaling=0.3)
        else:
            groups = heads // key_heads
            output = torch.nn.functional.scaled_dot_product_attention(
                query.double(),
                key.double().repeat_interleave(groups, 1),
                value.double().repeat_interleave(groups, 1),
                is_causal=True,
                scale=0.3,
            ).transpose(1, 2)
        (output * weights).sum().backward()
        found.append([output, query.grad, key.grad, value.grad])
    for mine, reference in zip(*found, strict=True):
        assert torch.allclose(mine.double(), reference.double(), rtol=1e-4, atol=1e-5)


def test_recomputed_attention_keeps_no_scores() -> None:
    """What is kept for the backward pass grows with the length, not with its square."""
    import torch

    from harness.models.attention import learn

    kept: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    query, key, value = (torch.randn(1, 2, 256, 8, requires_grad=True) for _ in range(3))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        learn(torch.nn.Module(), query, key, value, None)
    assert kept
    assert max(kept) <= query.numel()
