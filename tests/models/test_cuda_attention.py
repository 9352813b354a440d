"""What CUDA's kernels return is merged to attention by its definition, in float64.

The kernels themselves need a GPU. In their place stand their contracts: what they refuse, and in
which shape they return their sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.conformance.tiny_models import FAMILIES, make
from harness.models import attention, cuda_attention
from harness.models.cuda_attention import attend_on_cuda, merged, takes_flash
from harness.models.loading import load
from harness.records import COPIED, IN_PLACE
from harness.scoring.batches import common_prefix
from harness.scoring.fast import fast
from harness.scoring.prefix import SharedPrefix, UnsupportedCacheError
from harness.scoring.score import reference
from harness.scoring.sharing import allowed, check_sharing, check_together
from tests.builders.attention import GEOMETRY, definition
from tests.builders.scoring import QUIET, encode, spec


def with_sums(query: Any, key: Any, value: Any, scale: float, causal: bool) -> tuple[Any, Any]:
    """Attention and the log of its sum of exponentials, in float64."""
    import torch

    groups = query.shape[1] // key.shape[1]
    key, value = (one.double().repeat_interleave(groups, 1) for one in (key, value))
    products = query.double() @ key.transpose(2, 3) * scale
    if causal:
        assert query.shape[2] == key.shape[2]  # else the kernels differ in what is the past
        products += torch.full(products.shape[2:], -math.inf, dtype=torch.float64).triu(1)
    return products.softmax(-1) @ value, products.logsumexp(-1)


def flash(
    query: Any, key: Any, value: Any, *, is_causal: bool, scale: float
) -> tuple[Any, Any, None]:
    """The contract of aten::_scaled_dot_product_flash_attention."""
    import torch

    assert query.dtype == key.dtype == value.dtype
    assert query.shape[-1] == key.shape[-1] == value.shape[-1]
    assert query.shape[-1] % 8 == 0
    assert query.shape[1] % key.shape[1] == 0
    assert all(one.stride(-1) == 1 for one in (query, key, value))
    assert key.shape[2] > 0
    output, sums = with_sums(query, key, value, scale, is_causal)
    output = output.to(query.dtype).transpose(1, 2).contiguous().transpose(1, 2)
    return output, sums.to(torch.float32), None


def efficient(
    query: Any,
    key: Any,
    value: Any,
    bias: None,
    compute_log_sumexp: bool,
    *,
    is_causal: bool,
    scale: float,
) -> tuple[Any, Any, None]:
    """The contract of aten::_scaled_dot_product_efficient_attention."""
    import torch

    assert bias is None
    assert compute_log_sumexp
    assert query.shape[1] == key.shape[1] == value.shape[1]
    assert all(one.shape[-1] % 8 == 0 and one.stride(-1) == 1 for one in (query, key, value))
    output, sums = with_sums(query, key, value, scale, is_causal)
    wide = torch.full((*sums.shape[:2], sums.shape[2] + -sums.shape[2] % 32), math.inf)
    wide[..., : sums.shape[2]] = sums
    output = output.to(query.dtype).transpose(1, 2).contiguous().transpose(1, 2)
    return output, wide, None


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], list[str]]:
    """Puts the contracts in the kernels' places; with or without flash attention."""
    import torch

    called: list[str] = []

    def replace(has_flash: bool) -> list[str]:
        for function in (flash, efficient):

            def noted(*args: Any, function: Any = function, **kwargs: Any) -> Any:
                called.append(function.__name__)
                return function(*args, **kwargs)

            name = f"_scaled_dot_product_{function.__name__}_attention"
            monkeypatch.setattr(torch.ops.aten, name, noted)
        monkeypatch.setattr(
            cuda_attention, "takes_flash", lambda dtype, size, other, device: has_flash
        )
        return called

    return replace


@pytest.mark.parametrize("has_flash", [True, False])
@pytest.mark.parametrize("shape", GEOMETRY)
@pytest.mark.parametrize("projected", [True, False])
def test_the_merge_equals_the_definition(
    has_flash: bool, shape: tuple[int, ...], projected: bool, kernels: Any
) -> None:
    import torch

    rows, heads, key_heads, length, shared, size, value_size = shape
    has_flash = has_flash and size == value_size
    called = kernels(has_flash)
    torch.manual_seed(0)

    def random(count: int, wide: int) -> Any:
        if projected:  # the layout that a projection leaves behind
            return torch.randn(rows, length, count, wide).transpose(1, 2)
        return torch.randn(rows, count, length, wide)

    query, key, value = (
        3 * random(heads, size),
        random(key_heads, size),
        random(key_heads, value_size),
    )
    keys = torch.randn(1, key_heads, shared, size)
    values = torch.randn(1, key_heads, shared, value_size)
    found = merged(query, key, value, keys, values, 0.3)
    both = [
        torch.cat([first.expand(rows, -1, -1, -1), own], 2)
        for first, own in ((keys, key), (values, value))
    ]
    assert set(called) == {"flash" if has_flash else "efficient"}
    assert found.shape == (rows, length, heads, value_size)
    assert found.is_contiguous()
    assert (found.double() - definition(query, *both, 0.3, shared)).abs().max() < 1e-5


@pytest.mark.parametrize("has_flash", [True, False])
def test_padding_behind_a_row_changes_nothing(has_flash: bool, kernels: Any) -> None:
    import torch

    kernels(has_flash)
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 6, 9, 8), torch.randn(2, 2, 9, 8), torch.randn(2, 2, 9, 8)
    keys, values = torch.randn(1, 2, 5, 8), torch.randn(1, 2, 5, 8)
    whole = merged(query, key, value, keys, values, 0.3)
    for one in (query, key, value):
        one[0, :, 6:] = 50.0
    padded = merged(query, key, value, keys, values, 0.3)
    assert torch.equal(padded[0, :6], whole[0, :6])
    assert torch.equal(padded[1], whole[1])
    assert not torch.equal(padded[0, 6:], whole[0, 6:])


@pytest.mark.parametrize("heads", [2, 6])
def test_the_real_kernels_take_these_arguments(heads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's own rules of their shapes, without numbers: its meta tensors.

    They raise where a number is read, so nothing here waits for a device either.
    """
    import torch

    for has_flash in (True, False):
        monkeypatch.setattr(cuda_attention, "takes_flash", lambda *given, now=has_flash: now)

        def empty(*shape: int) -> Any:
            return torch.empty(shape, device="meta", dtype=torch.bfloat16)

        own, shared = empty(3, 2, 17, 64), empty(1, 2, 29, 64)
        found = merged(empty(3, heads, 17, 64), own, own, shared, shared, 0.125)
        assert found.shape == (3, 17, heads, 64)


@pytest.mark.parametrize(
    ("dtype", "size", "value_size", "capability", "expected"),
    [
        ("bfloat16", 128, 128, 9, True),
        ("float16", 256, 256, 8, True),
        ("float32", 128, 128, 9, False),
        ("bfloat16", 288, 288, 9, False),
        ("bfloat16", 192, 128, 9, False),
        ("float16", 128, 128, 7, False),
    ],
)
def test_flash_attention_is_asked_only_for_what_it_takes(
    dtype: str,
    size: int,
    value_size: int,
    capability: int,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    monkeypatch.setattr(cuda_attention, "_capability", lambda device: capability)
    device = torch.device("cuda", 0)
    assert takes_flash(getattr(torch, dtype), size, value_size, device) is expected


def test_without_shared_keys_it_is_transformers_own() -> None:
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    query, key, value = (torch.randn(2, 4, 9, 8) for _ in range(3))
    module = torch.nn.Module()
    found, _ = attend_on_cuda(module, query, key, value, None, scaling=0.3)
    expected, _ = sdpa_attention_forward(module, query, key, value, None, scaling=0.3)
    assert torch.equal(found, expected)


def test_shared_keys_with_a_soft_cap_are_refused() -> None:
    import torch

    query, key, value = (torch.randn(2, 4, 9, 8) for _ in range(3))
    key.shared = SimpleNamespace(keys=key[:1], values=value[:1])
    with pytest.raises(ValueError, match="softcap"):
        attend_on_cuda(torch.nn.Module(), query, key, value, None, softcap=30.0)


@pytest.mark.parametrize("has_flash", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_has_the_reference_s_numbers(
    has_flash: bool, dtype: str, kernels: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    called = kernels(has_flash)
    monkeypatch.setattr(attention, "attend", attend_on_cuda)
    name = "llama-grouped-query"
    loaded = load(spec(name, dtype=dtype), make(FAMILIES[name], tmp_path / "m"), None)
    rows = encode(loaded.encoder)
    scored = fast(loaded, rows, QUIET)
    assert scored.how.prefix == IN_PLACE
    assert called
    for row, found, right in zip(
        rows, scored.nlls, reference(loaded, rows, QUIET).nlls, strict=True
    ):
        assert abs(found - right) <= allowed(dtype, right, len(row.answer))


def test_wrong_sums_are_noticed_and_the_keys_copied(
    kernels: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kernels(True)
    plain = cuda_attention._flash
    monkeypatch.setattr(
        cuda_attention,
        "_flash",
        lambda *given: (plain(*given)[0], plain(*given)[1] * math.log2(math.e)),
    )
    monkeypatch.setattr(attention, "attend", attend_on_cuda)
    name = "llama-grouped-query"
    loaded = load(spec(name), make(FAMILIES[name], tmp_path / "m"), None)
    rows = encode(loaded.encoder)
    scored = fast(loaded, rows, QUIET)
    assert scored.how.prefix == COPIED
    assert scored.nlls == pytest.approx(reference(loaded, rows, QUIET).nlls, rel=1e-5)


def test_rows_that_are_mixed_up_in_a_batch_are_noticed(
    kernels: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A row alone can not show it, so two rows are checked together."""
    import torch

    kernels(True)
    monkeypatch.setattr(attention, "attend", attend_on_cuda)
    plain = cuda_attention.merged
    monkeypatch.setattr(cuda_attention, "merged", lambda *given: plain(*given).roll(1, 0))
    name = "llama-grouped-query"
    loaded = load(spec(name), make(FAMILIES[name], tmp_path / "m"), None)
    rows = encode(loaded.encoder, 2)
    shared = rows[0].context[: common_prefix(rows)]
    with torch.inference_mode():
        prefix = SharedPrefix(loaded.model, shared, max(map(len, rows)), in_place=True)
        for row in rows:
            check_sharing(loaded, prefix, [row])
        with pytest.raises(UnsupportedCacheError, match="has an NLL of"):
            check_together(loaded, prefix, rows)
