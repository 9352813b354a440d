"""What a model writes, against its own logits taken one token at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.conformance.tiny_models import FAMILIES, make
from harness.core import Example, GenerationSettings, ModelSpec
from harness.generation.generate import generate
from harness.models.encoding import Encoder
from harness.models.loading import LoadedModel, load
from harness.prompts.files import load_template
from harness.records import Sample
from harness.training.train import encode_rows
from tests.builders.tasks import row

TEST = tuple(Example(**row(i, 6 + i % 3, "test")) for i in range(3))


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> LoadedModel:
    return load(ModelSpec("tiny", "sha"), tiny_model, None)


def written(loaded: LoadedModel, rows: Any = TEST, seed: int = 0, **settings: Any) -> Any:
    encoded = encode_rows(loaded.encoder, load_template("plain"), rows)
    wanted = GenerationSettings(rows=len(rows), **{"max_new_tokens": 12, **settings})
    return generate(loaded, encoded, wanted, seed, lambda done: None)


def test_greedy_text_is_the_most_likely_token_each_time(loaded: LoadedModel) -> None:
    import torch

    for example, sample in zip(TEST, written(loaded), strict=True):
        (encoded,) = encode_rows(loaded.encoder, load_template("plain"), [example])
        ids = list(encoded.context)
        with torch.no_grad():
            while len(ids) < len(encoded.context) + 12:
                token = int(loaded.model(torch.tensor([ids])).logits[0, -1].argmax())
                if token == loaded.encoder.eos:
                    break
                ids.append(token)
        answer = ids[len(encoded.context) :]
        assert sample.id == example.id
        assert sample.tokens == len(answer)
        assert sample.text == loaded.encoder.tokenizer.decode(answer, skip_special_tokens=True)
        assert sample.finished == (len(answer) < 12)


def test_it_stops_at_the_eos(loaded: LoadedModel) -> None:
    """With a head that can say nothing else."""
    import torch

    head = loaded.model.get_output_embeddings()

    def only_eos(module: Any, arguments: Any, output: torch.Tensor) -> torch.Tensor:
        output = torch.full_like(output, -100.0)
        output[..., loaded.encoder.eos] = 0.0
        return output

    handle = head.register_forward_hook(only_eos)
    try:
        (sample, *_) = written(loaded)
    finally:
        handle.remove()
    assert sample == Sample("test-000", "", 0, True)


def test_it_stops_at_every_end_that_the_configuration_lists(tiny_model: Path) -> None:
    """A Gemma ends turns with another token than its EOS."""
    import torch

    model = load(ModelSpec("tiny", "sha"), tiny_model, None)
    other = 80
    model.encoder = Encoder(model.encoder.tokenizer, "tiny", None, (other,))

    def only_other(module: Any, arguments: Any, output: torch.Tensor) -> torch.Tensor:
        output = torch.full_like(output, -100.0)
        output[..., other] = 0.0
        return output

    handle = model.model.get_output_embeddings().register_forward_hook(only_other)
    try:
        (sample, *_) = written(model)
    finally:
        handle.remove()
    assert sample == Sample("test-000", "", 0, True)


def test_samples_depend_on_the_seed_and_the_row_alone(loaded: LoadedModel) -> None:
    sampled = written(loaded, do_sample=True, temperature=2.0)
    assert written(loaded, TEST[1:], do_sample=True, temperature=2.0) == sampled[1:]
    assert written(loaded, seed=1, do_sample=True, temperature=2.0) != sampled
    assert written(loaded) != sampled


def test_sampling_leaves_the_global_generator_alone(loaded: LoadedModel) -> None:
    import torch

    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    written(loaded, do_sample=True)
    assert torch.random.get_rng_state().equal(before)


def test_nothing_of_the_model_s_own_configuration_counts(loaded: LoadedModel) -> None:
    from transformers import GenerationConfig

    greedy, sampled = written(loaded), written(loaded, do_sample=True)
    own = loaded.model.generation_config
    first = [loaded.encoder.tokenizer(s.text[:1]).input_ids[-1] for s in greedy if s.text]
    loaded.model.generation_config = GenerationConfig(suppress_tokens=first, top_k=1, min_length=99)
    try:
        assert written(loaded) == greedy
        assert written(loaded, do_sample=True) == sampled
        assert loaded.model.generation_config.top_k == 1  # and it is given back
    finally:
        loaded.model.generation_config = own


def test_writing_ends_where_the_model_s_positions_end(tmp_path: Path) -> None:
    model = make(FAMILIES["gpt2-learned-positions"], tmp_path / "m")
    loaded = load(ModelSpec("tiny", "sha"), model, None)
    (encoded,) = encode_rows(loaded.encoder, load_template("plain"), TEST[:1])
    room = loaded.encoder.max_length
    assert room is not None
    (sample,) = written(loaded, TEST[:1], max_new_tokens=10 * room)
    assert sample.tokens <= room - len(encoded.context)
