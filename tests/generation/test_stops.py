"""Where answers end: end tokens, stop strings in the decoded answer, room for a token."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.conformance.tiny_models import make_tokenizer
from harness.core import DecodingSpec, Prompt, Span
from harness.errors import PromptError
from harness.generation.lines import Line
from harness.generation.stops import Stops, room
from harness.models.encoding import Encoded
from harness.records import LIMIT, STOP_STRING, STOP_TOKEN

TOKENIZER = make_tokenizer()  # a token a byte
END = TOKENIZER.eos_token_id


def write(text: str, *strings: str, limit: int = 999, end: bool = True) -> Any:
    """What is kept of an answer that a model goes on writing."""
    stops = Stops(TOKENIZER, frozenset([END]), strings)
    line = Line(Encoded(Prompt("r", (Span("##"),), ""), (1, 2), ()), 0, limit)
    for token in [*TOKENIZER(text, add_special_tokens=False).input_ids, *([END] if end else [])]:
        if not line.ended:
            line.add(token, -1.0, stops)
    return line.answer(stops)


@pytest.mark.parametrize(
    ("text", "strings", "kept", "ended"),
    [
        ("天地", (), "天地", STOP_TOKEN),
        ("ab<|x|>cd", ("<|x|>",), "ab", STOP_STRING),  # over several tokens
        ("##ab", ("##",), "", STOP_STRING),  # at position 0
        ("#ab", ("###",), "#ab", STOP_TOKEN),  # with what stands before the answer it would
        ("a。b", ("。",), "a", STOP_STRING),  # three bytes, three tokens
        ("ab\n\ncd", ("\n\n", "\n"), "ab", STOP_STRING),
        ("a1b2c", ("2", "1"), "a", STOP_STRING),  # the first in the text, not in the list
        ("天地玄", ("\ufffd",), "天地玄", STOP_TOKEN),  # half a character is none yet
        ("天" * 30 + "##玄", ("##",), "天" * 30, STOP_STRING),  # long after the first tokens
    ],
)
def test_stop_strings(text: str, strings: tuple[str, ...], kept: str, ended: str) -> None:
    answer = write(text, *strings)
    assert (answer.text, answer.ended) == (kept, ended)
    assert answer.n_tokens == len(answer.tokens)


def test_an_answer_ends_with_the_token_that_completes_the_string() -> None:
    answer = write("ab##cd", "##")
    assert TOKENIZER.decode(list(answer.tokens)) == "ab##"
    assert (answer.stop, len(answer.logprobs)) == ("##", 4)


def test_two_strings_completed_at_once_are_the_one_that_begins_first() -> None:
    answer = write("abcde", "cd", "bcd", "d")
    assert (answer.text, answer.stop) == ("a", "bcd")


def test_a_stop_string_inside_a_token() -> None:
    """A token that spells more than the string: the text is cut within it."""

    class Words:
        all_special_tokens: tuple[str, ...] = ()
        all_special_ids: tuple[int, ...] = ()
        words = ("he", "llo. W", "orld")

        def decode(self, ids: list[int], **_: Any) -> str:
            return "".join(self.words[one] for one in ids)

    stops = Stops(Words(), frozenset(), (". ",))  # type: ignore[arg-type]
    assert stops.find([0]) is None
    assert stops.find([0, 1]) == ". "
    assert stops.cut([0, 1]) == "hello"


def test_a_stop_string_that_spells_a_special_token() -> None:
    """The text never shows it, and still it ends the answer."""
    answer = write("天", TOKENIZER.eos_token)
    assert (answer.text, answer.ended, answer.stop) == ("天", STOP_STRING, TOKENIZER.eos_token)


def test_the_end_token_is_not_kept_but_its_log_probability_is() -> None:
    answer = write("ab")
    assert (answer.tokens, len(answer.logprobs)) == (tuple(TOKENIZER("ab").input_ids), 3)
    assert answer.stop == TOKENIZER.eos_token


def test_the_limit() -> None:
    answer = write("abcd", limit=3)
    assert (answer.text, answer.ended, answer.stop) == ("abc", LIMIT, "")


def fake(**encoder: Any) -> Any:
    """A loaded model of which only what is said of ends is known."""
    config = SimpleNamespace(eos_token_id=[7, 8])
    config.get_text_config = lambda: config
    model = SimpleNamespace(config=config, generation_config=SimpleNamespace(eos_token_id=9))
    known = {"eos": END, "tokenizer": TOKENIZER, "model_name": "tiny", "max_length": 30, **encoder}
    return SimpleNamespace(model=model, encoder=SimpleNamespace(**known))


@pytest.mark.parametrize(
    ("before", "settings", "tokens"),
    [
        (10, {"max_new_tokens": 5}, 5),
        (10, {"max_new_tokens": 50}, 20),  # the model's positions end at 30
        (10, {"max_length": 16}, 6),
    ],
)
def test_room(before: int, settings: dict[str, int], tokens: int) -> None:
    row = Encoded(Prompt("r1", (Span("x"),), ""), (1,) * before, ())
    assert room(fake(), row, DecodingSpec(**settings)) == tokens


@pytest.mark.parametrize(("before", "settings"), [(16, {"max_length": 16}), (30, {})])
def test_a_row_without_room_is_named(before: int, settings: dict[str, int]) -> None:
    row = Encoded(Prompt("r1", (Span("x"),), ""), (1,) * before, ())
    with pytest.raises(PromptError, match=f"^row 'r1': {before} tokens before the answer leave"):
        room(fake(), row, DecodingSpec(**settings))
