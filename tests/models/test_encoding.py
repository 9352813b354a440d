"""The token layout: one prefix, separate tokenization, one EOS, nothing cut, nothing injected."""

from __future__ import annotations

import pytest

from harness.conformance.tiny_models import make_tokenizer
from harness.core import Example, Prompt, Span
from harness.errors import ModelError, PromptError
from harness.models.encoding import Encoder
from harness.prompts.files import load_template
from harness.prompts.rendering import render


@pytest.fixture(scope="module")
def tokenizer() -> object:
    return make_tokenizer()


@pytest.fixture(scope="module")
def encoder(tokenizer: object) -> Encoder:
    return Encoder(tokenizer, "tiny", 400)


def prompt(context: str, answer: str) -> Prompt:
    return Prompt("r", (Span(context),), answer)


def test_layout(encoder: Encoder, tokenizer: object) -> None:
    row = encoder.encode(prompt("問 ", "答"))
    plain = lambda text: list(tokenizer(text, add_special_tokens=False).input_ids)  # noqa: E731
    assert row.context == (tokenizer.bos_token_id, *plain("問 "))
    assert row.answer == (*plain("答"), tokenizer.eos_token_id)
    assert row.ids == row.context + row.answer
    assert len(row) == len(row.ids)
    assert encoder.prefix_kind == "BOS"


def test_context_and_answer_are_tokenized_separately() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    # A tokenizer that merges across the boundary: jointly, "a b" would be one token.
    merging = Tokenizer(models.BPE(vocab={"a": 0, "b": 1, "ab": 2, "<e>": 3}, merges=[("a", "b")]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=merging, eos_token="<e>")
    row = Encoder(tokenizer, "m", None).encode(prompt("a", "b"))
    assert row.ids == (3, 0, 1, 3)


def test_without_a_bos_the_eos_is_the_prefix() -> None:
    tokenizer = make_tokenizer(bos=False)
    encoder = Encoder(tokenizer, "tiny", None)
    row = encoder.encode(prompt("問", "答"))
    assert row.ids[0] == tokenizer.eos_token_id
    assert encoder.prefix_kind == "EOS"


def test_special_tokens_spelled_in_data_are_text(encoder: Encoder, tokenizer: object) -> None:
    row = encoder.encode(prompt("<|begin|>問<|end|>", "答<|end|>"))
    assert row.ids.count(tokenizer.bos_token_id) == 1
    assert row.ids.count(tokenizer.eos_token_id) == 1
    assert row.ids[-1] == tokenizer.eos_token_id


def test_chat_has_one_bos_and_its_own_special_tokens(encoder: Encoder, tokenizer: object) -> None:
    example = Example("r", "問<|end|>", "答")
    chat = render(load_template("chat"), example, (), encoder.chat_template)
    row = encoder.encode(chat)
    assert row.context[0] == tokenizer.bos_token_id
    assert row.ids.count(tokenizer.bos_token_id) == 1
    # The template's end of turn, and the answer's EOS; the one spelled in the row is text.
    assert row.ids.count(tokenizer.eos_token_id) == 2
    text = tokenizer.decode(row.ids)
    assert text == "<|begin|><user>問<|end|><|end|><assistant>答<|end|>"


def test_too_long_is_an_error_that_names_the_row(encoder: Encoder) -> None:
    fits = 400 - 2 - 3
    encoder.encode(prompt("x" * fits, "答"))
    with pytest.raises(PromptError, match=r"row 'r': 401 tokens \(397 before the answer, 0 dem"):
        encoder.encode(prompt("x" * (fits + 1), "答"))


def test_a_tokenizer_without_eos_is_refused() -> None:
    tokenizer = make_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="no EOS token"):
        Encoder(tokenizer, "tiny", None)


def test_a_chat_template_that_refuses(encoder: Encoder) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"
    with pytest.raises(PromptError, match="System role not supported"):
        Encoder(tokenizer, "tiny", None).chat_template([{"role": "system", "content": "x"}])


@pytest.mark.parametrize("today", ["{{ strftime_now('%d %b %Y') }}", "{{ date_string }}"])
def test_a_chat_template_that_prints_the_date_gives_the_same_tokens_every_day(today: str) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = f"Today: {today}\n{{{{ messages[0].content }}}}"
    text = Encoder(tokenizer, "tiny", None).chat_template([{"role": "user", "content": "x"}])
    assert text == "Today: 01 Jan 2025\nx"
