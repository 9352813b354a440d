"""Answers of the real small model: batches, memory, and equality with transformers."""

from __future__ import annotations

import pytest
import torch

from harness.core import DecodingSpec, ModelSpec, Prompt, Span
from harness.errors import ModelError
from harness.generation.alone import run
from harness.generation.engine import Load, write
from harness.models.embedded import SMOLLM2, fetch
from harness.models.encoding import Encoded
from harness.models.loading import LoadedModel, load
from tests.builders.scoring import QUIET

pytestmark = pytest.mark.real
SHOWN = "Write the next sentence.\n\nThe river rose in the night, and the bridge was gone.\n" * 3
BEGINNINGS = (
    "The old man looked at the sea",
    "When the bell rang for the third time that morning, nobody in the village",
    "12 + 30 =",
    "天地玄黃",
    "She opened the letter,",
    "In 1969",
)


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    try:
        folder = fetch(SMOLLM2)
    except ModelError as error:
        pytest.skip(f"the embedded model cannot be had here: {error}")
    return load(ModelSpec("smollm2-135m", SMOLLM2.digest), folder, None)


def rows(loaded: LoadedModel, shown: str = SHOWN) -> list[Encoded]:
    return [
        loaded.encoder.encode(Prompt(f"r{index}", (Span(shown + text),), ""))
        for index, text in enumerate(BEGINNINGS)
    ]


@pytest.mark.parametrize("shown", [SHOWN, ""])
def test_greedy_is_transformers_own(loaded: LoadedModel, shown: str) -> None:
    from transformers import GenerationConfig

    ends = sorted(loaded.encoder.ends)
    config = GenerationConfig(
        do_sample=False, max_new_tokens=16, eos_token_id=ends, pad_token_id=ends[0]
    )
    encoded = rows(loaded, shown)
    found, how = write(loaded, encoded, DecodingSpec(max_new_tokens=16), 0, QUIET)
    assert how.prefix == ("in place" if shown else "none")
    for row, one in zip(encoded, found, strict=True):
        with torch.inference_mode():
            right = run(loaded, row, config)[0, len(row.context) :].tolist()
        assert list(one.tokens) == [token for token in right if token not in ends]


@pytest.mark.parametrize(
    "decoding",
    [
        DecodingSpec(max_new_tokens=10),
        DecodingSpec(max_new_tokens=10, do_sample=True, temperature=0.7, top_p=0.9),
        DecodingSpec(max_new_tokens=10, num_beams=3),
    ],
)
def test_the_batch_does_not_matter(loaded: LoadedModel, decoding: DecodingSpec) -> None:
    encoded = rows(loaded)
    right, _ = write(loaded, encoded, decoding, 0, QUIET, Load(1, 1, 1))
    for some in (encoded, encoded[3::-1]):
        found, _ = write(loaded, some, decoding, 0, QUIET)
        texts = {one.id: (one.text, one.tokens) for one in found}
        assert texts == {one.id: (one.text, one.tokens) for one in right if one.id in texts}
