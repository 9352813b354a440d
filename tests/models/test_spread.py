"""A model whose layers are in several places: the same numbers, by every way of sharing.

Two places on one machine without a GPU: memory, and the disk, from which a layer is fetched when it
is its turn. The machinery (hooks of accelerate around every layer) is that of several GPUs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.core import DecodingSpec, Prompt, Span
from harness.errors import ModelError
from harness.generation.engine import write
from harness.models import loading
from harness.models.loading import LoadedModel, load
from harness.scoring.score import score
from tests.builders.models import make_llama
from tests.builders.scoring import QUIET, spec


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("spread") / "m")


@pytest.fixture(scope="module")
def plain(folder: Path) -> LoadedModel:
    return load(spec(), folder, None)


@pytest.fixture
def spread(folder: Path, tmp_path: Path) -> LoadedModel:
    from transformers import AutoModelForCausalLM

    first = ("model.embed_tokens", "model.layers.0", "model.norm", "model.rotary_emb", "lm_head")
    places = {**dict.fromkeys(first, "cpu"), "model.layers.1": "disk"}
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        device_map=places,
        offload_folder=tmp_path / "disk",
        local_files_only=True,
    )
    assert next(model.model.layers[1].parameters()).device.type == "meta"  # it is elsewhere
    return LoadedModel(spec(), model.eval(), loading.load_encoder(spec(), folder))


def rows(loaded: LoadedModel) -> list[Any]:
    shown = "共同的開頭很長很長" * 3
    return [
        loaded.encoder.encode(Prompt(f"r{i}", (Span(shown + "問" * i),), "答案" * (i + 1)))
        for i in range(6)
    ]


@pytest.mark.parametrize("scorer", ["fast", "reference"])
def test_scores_are_the_same(plain: LoadedModel, spread: LoadedModel, scorer: str) -> None:
    here, how = score(plain, rows(plain), scorer, QUIET)
    there, also = score(spread, rows(spread), scorer, QUIET)
    assert [one.nll for one in there] == [one.nll for one in here]
    assert also.prefix == how.prefix


@pytest.mark.parametrize(
    "decoding",
    [
        DecodingSpec(max_new_tokens=8),
        DecodingSpec("sample", do_sample=True, max_new_tokens=8),
        DecodingSpec("beam", num_beams=3, max_new_tokens=8),
    ],
    ids=lambda one: one.name,
)
def test_answers_are_the_same(
    plain: LoadedModel, spread: LoadedModel, decoding: DecodingSpec
) -> None:
    here, _ = write(plain, rows(plain), decoding, 0, QUIET)
    there, _ = write(spread, rows(spread), decoding, 0, QUIET)
    assert [one.tokens for one in there] == [one.tokens for one in here]


def test_gpus_that_are_not_there_are_one_line(folder: Path) -> None:
    from dataclasses import replace

    with pytest.raises(ModelError, match="--gpus-per-model=2: 0 GPUs are to be seen here"):
        load(replace(spec(), gpus=2), folder, None)


def test_how_many_gpus_a_model_takes_is_no_part_of_a_key(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from tests.builders.cells import MEASUREMENT

    cell = MEASUREMENT.cell
    assert replace(cell, model=replace(cell.model, gpus=4)).key == cell.key
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert loading._places(replace(spec(), gpus=2)) == "auto"
    assert loading._places(spec()) == {"": "cpu"}
