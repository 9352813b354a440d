"""Decoded 4-bit weights: the same answers to the bit, and nothing of them left behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.core import DecodingSpec, Quantization
from harness.generation import unpacked as module
from harness.generation.engine import write
from harness.generation.unpacked import unpacked
from harness.models.loading import LoadedModel, load
from tests.builders.models import make_llama
from tests.builders.scoring import QUIET, encode, spec


def loaded(folder: Path, quantization: Quantization = "nf4") -> LoadedModel:
    return load(replace(spec(), quantization=quantization), make_llama(folder / "m"), None)


def test_logits_are_the_same_to_the_bit_and_the_layers_as_they_were(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    model = loaded(tmp_path)
    ids = torch.arange(5, 17)[None]
    with torch.inference_mode():
        before = model.model(input_ids=ids).logits
        with unpacked(model) as count:
            during = model.model(input_ids=ids).logits
        after = model.model(input_ids=ids).logits
    assert count == 14  # seven in each of two layers; the head is not quantized
    assert torch.equal(before, during)
    assert torch.equal(before, after)
    assert not any("forward" in vars(layer) for layer in model.model.modules())


def test_answers_are_those_of_packed_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bitsandbytes")
    model, decoding = loaded(tmp_path), DecodingSpec(max_new_tokens=8, do_sample=True)
    rows = encode(model.encoder, 4)
    ours, _ = write(model, rows, decoding, 0, QUIET)
    monkeypatch.setattr(module, "SHARE", 0.0)  # no room
    with unpacked(model) as count:
        assert count == 0
    packed, _ = write(model, rows, decoding, 0, QUIET)
    assert ours == packed


def test_plain_weights_are_left_alone(tmp_path: Path) -> None:
    with unpacked(loaded(tmp_path, "none")) as count:
        assert count == 0
