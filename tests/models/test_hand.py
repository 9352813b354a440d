"""A base that serves several adapters: loaded once, the same to the bit, or loaded again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from harness.core import ModelSpec
from harness.models import loading, pool
from harness.models.hand import BaseChangedWarning, detached, imprint
from harness.models.loading import load, load_base
from harness.models.pool import ModelPool
from tests.builders.models import make_llama

SPEC = ModelSpec("tiny", "sha-tiny")
IDS = torch.arange(5, 40)[None]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("m") / "m", hidden_size=64, intermediate_size=128)


@pytest.fixture(scope="module")
def adapters(model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two adapters that change what the model says."""
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        config = LoraConfig(
            r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
        )
        folder = tmp_path_factory.mktemp("adapters") / str(seed)
        get_peft_model(load_base(SPEC, model), config).save_pretrained(str(folder))
        found.append(folder)
    return found


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[ModelSpec]:
    """The bases that are loaded from files."""
    seen: list[ModelSpec] = []
    real = load_base

    def spied(spec: ModelSpec, folder: Path) -> Any:
        seen.append(spec)
        return real(spec, folder)

    for module in (loading, pool):
        monkeypatch.setattr(module, "load_base", spied)
    return seen


def logits(loaded: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = loaded.model(input_ids=IDS).logits
    return found


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_one_load_serves_the_base_and_its_adapters(
    model: Path, adapters: list[Path], loads: list[ModelSpec], quantization: Any
) -> None:
    base = replace(SPEC, quantization=quantization)
    asked = [None, *adapters, None, adapters[0]]
    specs = [replace(base, adapter_digest=None if one is None else one.name) for one in asked]
    expected = [
        logits(load(one, model, adapter)) for one, adapter in zip(specs, asked, strict=True)
    ]
    loads.clear()
    pool = ModelPool(reuse=True)
    for one, adapter, told in zip(specs, asked, expected, strict=True):
        assert logits(pool.get(one, model, adapter)).equal(told)
    assert len(loads) == 1
    assert not expected[0].equal(expected[1])
    assert not expected[1].equal(expected[2])


def test_a_base_that_changed_is_loaded_again(
    model: Path, adapters: list[Path], loads: list[ModelSpec]
) -> None:
    pool = ModelPool(reuse=True)
    first = replace(SPEC, adapter_digest="0")
    told = logits(load(replace(SPEC, adapter_digest="1"), model, adapters[1]))
    loads.clear()
    loaded = pool.get(first, model, adapters[0])
    with torch.no_grad():
        loaded.model.get_base_model().model.norm.weight[3] += 1e-3
    with pytest.warns(BaseChangedWarning, match=r"--model=tiny: the base is not what it was"):
        again = pool.get(replace(SPEC, adapter_digest="1"), model, adapters[1])
    assert logits(again).equal(told)
    assert len(loads) == 2


OTHERS = {
    "another base": {"digest": "sha-other"},
    "another quantization": {"quantization": "nf4"},
    "merged": {"score_as": "merged"},
    "an adapter from elsewhere": {"adapter": "somewhere"},
    "int8": {"quantization": "int8"},
}


@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS.keys())
def test_no_base_serves_what_could_be_another(
    model: Path, adapters: list[Path], loads: list[ModelSpec], changes: dict[str, Any]
) -> None:
    """Which its own adapter, merged or resizing embeddings, leaves behind changed."""
    pool = ModelPool(reuse=True)
    other = replace(SPEC, **changes, adapter_digest="0")
    loaded = pool.get(other, model, adapters[0])
    pool.get(replace(other, adapter_digest="1"), model, adapters[1])
    if "adapter" in changes or "score_as" in changes or other.quantization == "int8":
        assert len(loads) == 2
    else:
        assert len(loads) == 1
        pool.get(SPEC, model, None)
        assert len(loads) == 2
    assert loaded.spec == other


def _scale(base: Any) -> None:
    base.model.layers[1].mlp.up_proj.weight.quant_state.absmax[0] += 1


def _code(base: Any) -> None:
    base.model.layers[1].mlp.up_proj.weight.data[7] += 1


def _swap(base: Any) -> None:
    weight = base.model.embed_tokens.weight.data.view(-1)
    weight[[200, 201]] = weight[[201, 200]]


def _buffer(base: Any) -> None:
    base.model.rotary_emb.inv_freq[0] += 1e-3


def _hook(base: Any) -> None:
    base.model.layers[0].register_forward_hook(lambda module, given, made: made * 1.001)


@pytest.mark.parametrize("change", [_scale, _code, _swap, _buffer, _hook])
def test_an_imprint_knows_of_every_change(model: Path, change: Callable[[Any], None]) -> None:
    base = load_base(replace(SPEC, quantization="nf4", double_quant=False), model)
    before = imprint(base)
    assert imprint(base) == before
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    base = detached(get_peft_model(base, config))
    assert imprint(base) == before
    change(base)
    assert imprint(base) != before
