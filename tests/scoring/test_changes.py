"""Two forwards at a time are for models that do not change themselves in one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.conformance.model_under_test import SMALL, tiny
from harness.conformance.rules import random_adapter
from harness.conformance.tiny_models import FAMILIES
from harness.core import ModelSpec
from harness.errors import NotApplicableError
from harness.models.loading import LoadedModel, load
from harness.scoring.changes import WRITERS, changes_itself
from harness.scoring.fast import fast
from harness.scoring.score import reference
from tests.builders.models import make_llama
from tests.builders.scoring import PREFIX, QUIET, encode

# LongRoPE takes its frequencies anew in every forward: the same ones for rows of a usual length.
CHANGING = {"phi3-long-rope"}


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelSpec, Path, Path]:
    """A mixture of experts, with an adapter on the experts."""
    folder = tmp_path_factory.mktemp("experts")
    spec, base, _ = tiny("qwen3-moe", folder / "base").files
    adapter = random_adapter(spec, base, folder / "adapter")
    return replace(spec, adapter="random", adapter_digest="random"), base, adapter


@pytest.mark.parametrize("name", FAMILIES)
def test_families_that_change_themselves_are_known(name: str, tmp_path: Path) -> None:
    try:
        network = tiny(name, tmp_path / name).loaded.model
    except NotApplicableError as reason:
        pytest.skip(str(reason))
    plain = [getattr(type(network), name) for name in WRITERS]
    assert changes_itself(network) is (name in CHANGING)
    assert [getattr(type(network), name) for name in WRITERS] == plain


@pytest.mark.usefixtures("two_cores")
def test_experts_with_an_adapter_are_scored_one_batch_after_the_other(
    experts: tuple[ModelSpec, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PEFT puts the update into the layer for one forward; two at a time would add it twice."""
    from harness.scoring import queue

    loaded = load(*experts)
    rows = encode(loaded.encoder, shared=PREFIX)
    right = reference(loaded, rows, QUIET).nlls
    monkeypatch.setattr(queue, "on_each_core", lambda *_: pytest.fail("two at a time"))
    found = fast(loaded, rows, QUIET, SMALL)
    assert found.how.batches > 1
    assert found.nlls == pytest.approx(right, rel=1e-5)
    assert loaded.side_by_side is False


def test_the_base_of_experts_is_scored_on_all_cores(experts: tuple[ModelSpec, Path, Path]) -> None:
    spec, base, _ = experts
    assert not changes_itself(load(replace(spec, adapter=None), base, None).model)


def test_a_layer_that_a_hook_brings_and_takes_away(tmp_path: Path) -> None:
    """What accelerate does for a model of which a part lies on a disk."""
    from accelerate.hooks import ModelHook, add_hook_to_module

    loaded = load(ModelSpec("tiny", "tiny"), make_llama(tmp_path / "m"), None)
    assert not changes_itself(loaded.model)
    add_hook_to_module(loaded.model.model.layers[0], ModelHook())
    assert changes_itself(loaded.model)


def test_what_a_first_forward_prepares_is_no_change(tmp_path: Path) -> None:
    loaded = load(ModelSpec("tiny", "tiny"), make_llama(tmp_path / "m"), None)
    layer = loaded.model.model.layers[0]
    plain = layer.forward

    def once(*given: Any, **named: Any) -> Any:
        if not hasattr(layer, "prepared"):
            layer.prepared = True
        return plain(*given, **named)

    layer.forward = once
    assert not changes_itself(loaded.model)


def test_what_is_written_elsewhere_is_no_change(tmp_path: Path) -> None:
    """A module of somebody else, made or changed while the model computes."""
    import torch

    loaded: LoadedModel = load(ModelSpec("tiny", "tiny"), make_llama(tmp_path / "m"), None)
    layer, plain = loaded.model.model.layers[0], loaded.model.model.layers[0].forward

    def busy(*given: Any, **named: Any) -> Any:
        torch.nn.Linear(2, 2).bias = None
        return plain(*given, **named)

    layer.forward = busy
    assert not changes_itself(loaded.model)
