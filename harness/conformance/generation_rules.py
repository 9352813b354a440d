"""Does a model write the same answers however its rows are computed? One function per rule.

Each check takes a :class:`ModelUnderTest`, tiny and random or a user's own, and raises
:class:`ConformanceError` with the row and the two answers that should have been one. In half
precision the batch may decide between tokens, and the checks that compare answers do not apply.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.conformance.model_under_test import ModelUnderTest
from harness.conformance.rules import random_adapter
from harness.core import DecodingSpec, ModelSpec
from harness.errors import ConformanceError, NotApplicableError
from harness.generation.alone import plain_logits, run
from harness.generation.engine import Load, write
from harness.generation.stops import PENDING
from harness.models.encoding import Encoded
from harness.models.pool import ModelPool
from harness.records import STOP_TOKEN, Answer
from harness.run.progress import silent

LENGTH = 12  # tokens that are written for each row
ALONE_EVERY = 2  # of a batch's rows, every second one is written alone, too: that takes longest
DECODINGS = (
    DecodingSpec("greedy", LENGTH),
    DecodingSpec("sample", LENGTH, do_sample=True, temperature=0.9, top_k=40, top_p=0.95),
    DecodingSpec("beam", LENGTH, num_beams=3),
)
GREEDY, SAMPLE, _ = DECODINGS
PENALTIES = replace(GREEDY, name="penalties", repetition_penalty=1.5, no_repeat_ngram_size=3)
SINGLE = Load(kept=1, logits=1, part=1)
# What generation configurations have been shipped with, and worse.
POISON: dict[str, Any] = {
    "repetition_penalty": 1.5,
    "top_k": 1,
    "min_p": 0.5,
    "max_length": 17,
    "temperature": 0.1,
    "do_sample": True,
    "num_beams": 2,
    "forced_bos_token_id": 6,
    "forced_eos_token_id": 5,
    "no_repeat_ngram_size": 1,
}


def _exact(model: ModelUnderTest) -> None:
    if model.files[0].dtype != "float32":
        raise NotApplicableError("in half precision the batch may decide between tokens")


def _answers(
    model: ModelUnderTest, rows: Sequence[Encoded], decoding: DecodingSpec, load: Load | None = None
) -> list[Answer]:
    return list(write(model.loaded, rows, decoding, 0, silent, load)[0])


def _same(
    model: ModelUnderTest, found: Sequence[Answer], one: str, right: Sequence[Answer], other: str
) -> None:
    for a, b in zip(found, right, strict=True):
        if (a.tokens, a.text, a.ended, a.stop) != (b.tokens, b.text, b.ended, b.stop):
            raise ConformanceError(
                f"{model.name}: row {b.id!r} is answered {a.text!r} ({a.ended}) {one} and "
                f"{b.text!r} ({b.ended}) {other}"
            )


def writing_one_row_or_many(model: ModelUnderTest) -> None:
    """An answer does not depend on the rows that are written with it."""
    _exact(model)
    rows = model.rows()
    some = rows[::ALONE_EVERY]
    for decoding in DECODINGS:
        alone = [_answers(model, [row], decoding)[0] for row in some]
        together = _answers(model, rows, decoding)[::ALONE_EVERY]
        _same(model, together, "in a batch", alone, "alone")
        _same(model, _answers(model, some, decoding, SINGLE), "in batches of one", alone, "alone")


def writing_shuffled_rows(model: ModelUnderTest) -> None:
    """The order of the rows changes no answer."""
    _exact(model)
    rows = model.rows()
    for decoding in DECODINGS:
        back = _answers(model, rows[::-1], decoding)[::-1]
        _same(model, back, "in reversed order", _answers(model, rows, decoding), "in order")


def writing_with_padding(model: ModelUnderTest) -> None:
    """Penalties neither see padding nor what stands before the answer."""
    _exact(model)
    shortest, longest = (f(model.rows(), key=lambda row: len(row.context)) for f in (min, max))
    rows = [shortest, longest]
    alone = [_answers(model, [row], PENALTIES)[0] for row in rows]
    _same(model, _answers(model, rows, PENALTIES), "beside a longer row", alone, "alone")


def writing_with_a_prefix_or_without(model: ModelUnderTest) -> None:
    """Sharing what rows begin with changes no answer; log-probabilities are a plain forward's."""
    import torch

    _exact(model)
    rows = model.rows()
    found, how = write(model.loaded, rows, GREEDY, 0, silent)
    if how.alone:
        raise NotApplicableError("its rows are written alone, and share nothing")
    for row, one in zip(rows, found, strict=True):
        tokens = _with_end(model, one)
        with torch.inference_mode():
            plain = plain_logits(model.loaded, row, [tokens])[0].double().log_softmax(-1)
        right = [float(plain[step, token]) for step, token in enumerate(tokens)]
        worst = max(abs(a - b) for a, b in zip(one.logprobs, right, strict=True))
        if not worst <= 1e-3:
            raise ConformanceError(
                f"{model.name}: row {one.id!r}: log-probabilities differ by {worst:.2g} from those "
                f"of a plain forward"
            )
    odd = model.rows(1, shared="", seed=3)[0]
    odd = replace(odd, prompt=replace(odd.prompt, id="odd"))
    free = _answers(model, [*rows, odd], GREEDY)[:-1]
    shared = _answers(model, rows, GREEDY)
    _same(model, shared, "with a shared prefix", free, "without")


def writing_as_transformers_does(model: ModelUnderTest) -> None:
    """Greedy tokens and the best beam are those of ``model.generate``."""
    import torch
    from transformers import GenerationConfig

    _exact(model)
    ends = sorted(model.loaded.encoder.ends)
    rows = model.rows(4)
    for decoding in (GREEDY, DECODINGS[2]):
        config = GenerationConfig(
            do_sample=False,
            max_new_tokens=LENGTH,
            num_beams=decoding.num_beams,
            eos_token_id=ends,
            pad_token_id=ends[0],
        )
        for row, one in zip(rows, _answers(model, rows, decoding), strict=True):
            with torch.inference_mode():
                right = run(model.loaded, row, config)[0, len(row.context) :].tolist()
            found = _with_end(model, one)
            if found != right:
                raise ConformanceError(
                    f"{model.name}: {decoding.name}: row {one.id!r} has the tokens {found}, by "
                    f"transformers {right}"
                )


def _with_end(model: ModelUnderTest, one: Answer) -> list[int]:
    if one.ended != STOP_TOKEN:
        return list(one.tokens)
    return [*one.tokens, model.loaded.encoder.tokenizer.convert_tokens_to_ids(one.stop)]


def writing_with_a_poisoned_configuration(model: ModelUnderTest) -> None:
    """Nothing of the model's own generation configuration counts but its end tokens."""
    rows = model.rows(3)
    right = [_answers(model, rows, decoding) for decoding in DECODINGS]
    with ExitStack() as restored:
        for part in _parts(model.loaded.model):
            config = part.generation_config
            restored.callback(config.__dict__.update, dict(config.__dict__))
            for name, value in POISON.items():
                setattr(config, name, value)
            config.suppress_tokens = sorted({one.tokens[0] for one in right[0] if one.tokens})
        found = [_answers(model, rows, decoding) for decoding in DECODINGS]
    for decoding, one, other in zip(DECODINGS, found, right, strict=True):
        how = f"by {decoding.name} with a generation configuration of its own"
        _same(model, one, how, other, "without")


def _parts(model: Any) -> list[Any]:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return list(dict.fromkeys((model, base)))


def writing_up_to_a_stop_string(model: ModelUnderTest) -> None:
    """A stop string is found in the answer's text alone, and cut from it."""
    rows = model.rows()
    free = _answers(model, rows, GREEDY)
    # Where a character's bytes are not all there, a text changes with the next token.
    pieces = (one.text[at : at + 2] for one in free for at in range(2, len(one.text) - 1))
    stop = next((piece for piece in pieces if PENDING not in piece), None)
    if stop is None:
        raise NotApplicableError("its answers have no two characters that could end them")
    unseen = rows[0].prompt.text[-4:]
    found = _answers(model, rows, replace(GREEDY, stop=(stop, unseen)))
    for one, other in zip(found, free, strict=True):
        expected = min((other.text.partition(text)[0] for text in (stop, unseen)), key=len)
        if one.text != expected:
            raise ConformanceError(
                f"{model.name}: row {one.id!r} is answered {one.text!r} up to {stop!r}, expected "
                f"{expected!r}"
            )


def writing_with_an_adapter_then_without(model: ModelUnderTest) -> None:
    """An adapter changes the answers while it is attached, and nothing afterwards."""
    _exact(model)
    spec, folder, adapter = model.files
    pool, rows = ModelPool(), model.rows()
    if adapter is not None:
        spec = replace(spec, adapter=None, adapter_digest=None)

    def answers(spec: ModelSpec, adapter: Path | None) -> list[Answer]:
        other = ModelUnderTest(model.name, lambda: (spec, folder, adapter), pool=pool)
        found = _answers(other, rows, SAMPLE)
        alone = [_answers(other, [row], SAMPLE)[0] for row in rows[::ALONE_EVERY]]
        _same(model, found[::ALONE_EVERY], "in a batch", alone, "alone")
        return found

    model.close()
    with tempfile.TemporaryDirectory() as made:
        if adapter is None:
            adapter = random_adapter(spec, folder, Path(made))
        before = answers(spec, None)
        adapted = answers(replace(spec, adapter=str(adapter), adapter_digest="random"), adapter)
        after = answers(spec, None)
    pool.clear()
    if [one.logprobs for one in adapted] == [one.logprobs for one in before]:
        raise ConformanceError(f"{model.name}: an adapter changes no answer")
    _same(model, after, "after an adapter was attached", before, "before")


GENERATION_CHECKS: dict[str, Callable[[ModelUnderTest], None]] = {
    check.__name__: check
    for check in (
        writing_one_row_or_many,
        writing_shuffled_rows,
        writing_with_padding,
        writing_with_a_prefix_or_without,
        writing_as_transformers_does,
        writing_with_a_poisoned_configuration,
        writing_up_to_a_stop_string,
        writing_with_an_adapter_then_without,
    )
}
