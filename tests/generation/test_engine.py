"""What is written does not depend on what it is written with; greedy and beams are transformers'."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.conformance.tiny_models import FAMILIES, make
from harness.core import DecodingSpec
from harness.errors import ModelError, PromptError
from harness.generation import engine, ways
from harness.generation.engine import Load, write
from harness.models.encoding import Encoded
from harness.models.loading import LoadedModel, load
from harness.records import LIMIT, STOP_TOKEN, Answer, Writing
from harness.scoring.fast import OutOfMemoryWarning
from tests.builders.models import make_llama
from tests.builders.scoring import QUIET, encode, spec

LENGTH = 16
DECODINGS = {
    "greedy": DecodingSpec(max_new_tokens=LENGTH),
    "penalties": DecodingSpec(
        max_new_tokens=LENGTH, repetition_penalty=1.3, no_repeat_ngram_size=2, min_new_tokens=6
    ),
    "sample": DecodingSpec(max_new_tokens=LENGTH, do_sample=True, temperature=0.9),
    "warped": DecodingSpec(max_new_tokens=LENGTH, do_sample=True, top_k=30, top_p=0.8, min_p=0.01),
    "draws": DecodingSpec(max_new_tokens=LENGTH, do_sample=True, num_return_sequences=3),
    "beam": DecodingSpec(max_new_tokens=LENGTH, num_beams=3),
}
# A row's keys are about 15 KB long: batches of one row, of a few, of all.
LOADS = [Load(1, 1, 1), Load(45_000, 1 << 20, 40), Load(1 << 30, 1 << 30, 1 << 30)]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load(spec(), make_llama(tmp_path_factory.mktemp("llama") / "m"), None)


def answers(
    loaded: LoadedModel,
    rows: Sequence[Encoded],
    decoding: DecodingSpec,
    *,
    seed: int = 0,
    **more: Any,
) -> dict[tuple[str, int], Answer]:
    found, _ = write(loaded, rows, decoding, seed, QUIET, **more)
    return {(one.id, one.draw): one for one in found}


def same(found: dict[Any, Answer], right: dict[Any, Answer]) -> None:
    """Equal but for the last digits of what was computed in other batches."""
    assert found.keys() == right.keys()
    for key, one in right.items():
        other = found[key]
        assert other.logprobs == pytest.approx(one.logprobs, abs=1e-4)
        assert other.score == pytest.approx(one.score, abs=1e-4)
        assert replace(other, logprobs=one.logprobs, score=one.score) == one


@pytest.mark.parametrize("decoding", DECODINGS.values(), ids=DECODINGS)
def test_a_row_is_written_alike_in_every_batch_and_order(
    loaded: LoadedModel, decoding: DecodingSpec
) -> None:
    rows = encode(loaded.encoder, 9)
    alone: dict[Any, Answer] = {}
    for row in rows:
        alone |= answers(loaded, [row], decoding)
    batches = set()
    for size in LOADS:
        found, how = write(loaded, rows, decoding, 0, QUIET, size)
        batches.add(how.batches)
        same({(one.id, one.draw): one for one in found}, alone)
        same(answers(loaded, rows[::-1], decoding, load=size), alone)
    assert len(batches) == 3
    same(answers(loaded, rows[:4], decoding), {k: v for k, v in alone.items() if int(k[0][1:]) < 4})


def test_answers_stand_in_the_order_of_the_rows(loaded: LoadedModel) -> None:
    rows = encode(loaded.encoder, 5)
    found, _ = write(loaded, rows, DECODINGS["draws"], 0, QUIET)
    assert [(one.id, one.draw) for one in found] == [
        (row.prompt.id, draw) for row in rows for draw in range(3)
    ]


def test_draws_depend_on_the_seed_and_draw_0_on_no_other_draw(loaded: LoadedModel) -> None:
    rows = encode(loaded.encoder, 3)
    drawn = answers(loaded, rows, DECODINGS["draws"])
    once = answers(loaded, rows, replace(DECODINGS["draws"], num_return_sequences=1))
    same({key: one for key, one in drawn.items() if key[1] == 0}, once)
    assert drawn["r0", 0].tokens != drawn["r0", 1].tokens
    other = answers(loaded, rows, DECODINGS["draws"], seed=1)
    assert all(other[key].tokens != one.tokens for key, one in drawn.items())


def transformers_own(
    loaded: LoadedModel, row: Encoded, **settings: Any
) -> tuple[list[int], float | None]:
    """What ``model.generate`` writes after a row, alone, and a beam search's score."""
    from transformers import GenerationConfig

    own = loaded.model.generation_config
    loaded.model.generation_config = GenerationConfig()
    config = GenerationConfig(
        max_new_tokens=LENGTH,
        eos_token_id=sorted(loaded.encoder.ends),
        pad_token_id=loaded.encoder.eos,
        return_dict_in_generate=True,
        output_scores=True,
        **settings,
    )
    ids = torch.tensor([row.context])
    with torch.inference_mode():
        out = loaded.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config
        )
    loaded.model.generation_config = own
    score = out.sequences_scores[0].item() if settings.get("num_beams", 1) > 1 else None
    return out.sequences[0, len(row.context) :].tolist(), score


def with_end(loaded: LoadedModel, answer: Answer) -> list[int]:
    ended = answer.ended == STOP_TOKEN
    end = [loaded.encoder.tokenizer.convert_tokens_to_ids(answer.stop)] if ended else []
    return [*answer.tokens, *end]


@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_and_beams_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    model = load(spec(quantization=family.quantization), make(family, tmp_path / "m"), None)
    rows = encode(model.encoder, 4)
    for row, one in zip(rows, answers(model, rows, DECODINGS["greedy"]).values(), strict=True):
        assert with_end(model, one) == transformers_own(model, row, do_sample=False)[0]
    for row, one in zip(rows, answers(model, rows, DECODINGS["beam"]).values(), strict=True):
        tokens, score = transformers_own(model, row, num_beams=3, do_sample=False)
        assert with_end(model, one) == tokens
        assert one.score == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 1.0, 3.0])
@pytest.mark.parametrize("early_stopping", [False, True, "never"])
def test_beams_of_every_kind(
    tmp_path_factory: pytest.TempPathFactory, length_penalty: float, early_stopping: Any
) -> None:
    """With a head that likes to end, so that beams finish at different lengths."""
    folder = make_llama(tmp_path_factory.mktemp("m") / "m", tie_word_embeddings=False)
    model = load(spec(), folder, None)
    rows = encode(model.encoder, 6)
    ending = list(model.encoder.ends)

    def ends_often(module: Any, arguments: Any, output: torch.Tensor) -> torch.Tensor:
        output[..., ending] += 6.0
        return output

    handle = model.model.get_output_embeddings().register_forward_hook(ends_often)
    settings = {"num_beams": 4, "length_penalty": length_penalty, "early_stopping": early_stopping}
    found = answers(model, rows, DecodingSpec(max_new_tokens=LENGTH, **settings))
    right = [transformers_own(model, row, do_sample=False, **settings) for row in rows]
    handle.remove()
    assert length_penalty > 1 or len({len(tokens) for tokens, _ in right}) > 1
    for (tokens, score), one in zip(right, found.values(), strict=True):
        assert with_end(model, one) == tokens
        assert one.score == pytest.approx(score, abs=1e-4)


def test_log_probabilities_are_those_of_a_plain_forward(loaded: LoadedModel) -> None:
    rows = encode(loaded.encoder, 5)
    for decoding in DECODINGS.values():
        for key, one in answers(loaded, rows, decoding).items():
            row = next(row for row in rows if row.prompt.id == key[0])
            ids = [*row.context, *with_end(loaded, one)]
            with torch.inference_mode():
                plain = loaded.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
            right = [plain[at - 1, ids[at]].item() for at in range(len(row.context), len(ids))]
            assert one.logprobs == pytest.approx(right, abs=1e-4)
            assert one.n_context == len(row.context)


@pytest.mark.parametrize("decoding", DECODINGS.values(), ids=DECODINGS)
@pytest.mark.parametrize("family", ["llama", "falcon-h1-hybrid"])
def test_nothing_of_the_model_s_own_configuration_counts(
    decoding: DecodingSpec, family: str, tmp_path: Path
) -> None:
    """Also not for a family that is written by transformers' own loop."""
    model = load(spec(), make(FAMILIES[family], tmp_path / "m"), None)
    rows = encode(model.encoder, 3)
    right = answers(model, rows, decoding)
    first = sorted({one.tokens[0] for one in right.values() if one.tokens})
    own = model.model.generation_config
    own.repetition_penalty, own.top_k, own.min_p, own.max_length = 1.5, 1, 0.5, 17
    own.suppress_tokens, own.begin_suppress_tokens, own.forced_eos_token_id = first, first, 5
    own.forced_bos_token_id, own.do_sample, own.num_beams, own.temperature = 6, True, 2, 0.1
    found = answers(model, rows, decoding)
    assert found == right
    assert model.model.generation_config is own


def test_penalties_do_not_see_padding_or_what_stands_before_the_answer(loaded: LoadedModel) -> None:
    """The shortest of the rows is padded most; alone it is not padded."""
    decoding = DecodingSpec(max_new_tokens=LENGTH, repetition_penalty=1.8, no_repeat_ngram_size=1)
    rows = encode(loaded.encoder, 9)
    shortest = min(rows, key=len)
    name = shortest.prompt.id, 0
    same({name: answers(loaded, rows, decoding)[name]}, answers(loaded, [shortest], decoding))
    tokens = answers(loaded, [shortest], decoding)[name].tokens
    assert len(set(tokens)) == len(tokens)


def test_the_second_of_the_model_s_end_tokens_ends_an_answer(tmp_path: Path) -> None:
    folder, second = make_llama(tmp_path / "m"), 65
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["eos_token_id"] = [config["eos_token_id"], second]
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    (folder / "generation_config.json").unlink(missing_ok=True)
    model = load(spec(), folder, None)
    rows = encode(model.encoder, 2)

    def only(module: Any, arguments: Any, output: torch.Tensor) -> torch.Tensor:
        output = torch.full_like(output, -100.0)
        output[..., second] = 0.0
        return output

    model.model.get_output_embeddings().register_forward_hook(only)
    for decoding in (DECODINGS["greedy"], DECODINGS["sample"], DECODINGS["beam"]):
        for one in answers(model, rows, decoding).values():
            assert (one.tokens, one.text, one.ended) == ((), "", STOP_TOKEN)
            assert one.stop == model.encoder.tokenizer.convert_ids_to_tokens(second)


@pytest.mark.parametrize("name", ["greedy", "sample", "beam"])
def test_a_stop_string_ends_an_answer_and_is_cut(loaded: LoadedModel, name: str) -> None:
    rows = encode(loaded.encoder, 6)
    free = answers(loaded, rows, DECODINGS[name])
    text = free["r0", 0].text
    stop = text[3:5]
    found = answers(loaded, rows, replace(DECODINGS[name], stop=(stop, "unseen")))
    if name != "beam":  # beams that stop leave room for others
        assert found["r0", 0].text == text[: text.find(stop)]
        for key, one in found.items():
            assert one.text == free[key].text.partition(stop)[0]
    assert all(stop not in one.text for one in found.values())


def test_max_length_is_a_row_s_own_limit(loaded: LoadedModel) -> None:
    rows = encode(loaded.encoder, 4)
    longest = max(len(row.context) for row in rows)
    found = answers(loaded, rows, DecodingSpec(max_length=longest + 3))
    free = answers(loaded, rows, DecodingSpec(max_new_tokens=200))
    for row in rows:
        one = found[row.prompt.id, 0]
        limit = longest + 3 - len(row.context)
        assert one.tokens == free[row.prompt.id, 0].tokens[:limit]
        assert (one.ended == LIMIT) == (len(one.tokens) == limit)
    with pytest.raises(PromptError, match="leave no room for a token"):
        answers(loaded, rows, DecodingSpec(max_length=longest))


def test_a_near_tie_is_decided_by_the_row_alone(loaded: LoadedModel) -> None:
    """Two tokens have equal logits, and noise of a batch's size makes one or the other higher."""
    rows = encode(loaded.encoder, 6)
    shaken = torch.Generator()

    def tied(module: Any, arguments: Any, output: torch.Tensor) -> torch.Tensor:
        output[..., 1] = output[..., 0] = output.amax(dim=-1) + 1.0
        if output.shape[0] > 1:
            output = output + 1e-5 * torch.randn(output.shape, generator=shaken)
        return output

    handle = loaded.model.get_output_embeddings().register_forward_hook(tied)
    found, how = write(loaded, rows, DECODINGS["greedy"], 0, QUIET)
    right = answers(loaded, rows, DECODINGS["greedy"], load=LOADS[0])
    handle.remove()
    loaded.written.clear()
    assert how.recomputed >= LENGTH
    assert [one.tokens for one in found] == [one.tokens for one in right.values()]


def test_a_batch_that_does_not_fit_is_halved(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = encode(loaded.encoder, 8)
    right = answers(loaded, rows, DECODINGS["greedy"])
    start = engine.Wave.start
    most = 2

    def limited(wave: Any) -> Any:
        if len(wave.layout.lengths) > most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return start(wave)

    monkeypatch.setattr(engine.Wave, "start", limited)
    with pytest.warns(OutOfMemoryWarning, match="halved"):
        found, how = write(loaded, rows, DECODINGS["greedy"], 0, QUIET)
    same({(one.id, one.draw): one for one in found}, right)
    assert (how.batches, how.halved) == (4, 2)
    most = 0
    with pytest.raises(ModelError, match=r"^row 'r\d': writing after \d+ tokens does not fit"):
        write(loaded, rows[:1], DECODINGS["greedy"], 0, QUIET)


@pytest.mark.parametrize(
    ("name", "prefix", "padded"),
    [
        ("llama", "in place", True),
        ("bloom-alibi", "copied", True),
        ("mistral-sliding-window", "copied", False),
        ("qwen3-next-linear-attention", "in place", False),
        ("mamba2-state-space", "none", False),
    ],
)
def test_how_rows_were_written_is_recorded(
    name: str, prefix: str, padded: bool, tmp_path: Path
) -> None:
    model = load(spec(), make(FAMILIES[name], tmp_path / "m"), None)
    rows = encode(model.encoder, 5)
    _, how = write(model, rows, DECODINGS["greedy"], 0, QUIET)
    assert (how.prefix, how.padded) == (prefix, padded)
    assert (how.alone, bool(how.refused)) == (
        (5, True) if name.startswith("mamba") else (0, how.refused != {})
    )
    assert isinstance(how, Writing)


def test_a_way_that_is_wrong_is_refused(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = encode(loaded.encoder, 4)
    right = answers(loaded, rows, DECODINGS["greedy"])
    monkeypatch.setattr(loaded, "written", {})
    difference = ways._difference
    monkeypatch.setattr(
        ways, "_difference", lambda a, way, b: 1.0 if way.in_place else difference(a, way, b)
    )
    found, how = write(loaded, rows, DECODINGS["greedy"], 0, QUIET)
    assert how.prefix == "copied"
    assert "log-probabilities differ by up to 1" in how.refused["in place, padded"]
    same({(one.id, one.draw): one for one in found}, right)


def test_drawing_leaves_torch_s_generator_alone(loaded: LoadedModel) -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    answers(loaded, encode(loaded.encoder, 2), DECODINGS["sample"])
    assert torch.random.get_rng_state().equal(before)
