"""What is shown of a token's surprisal, on spans that tokenizers really give."""

from __future__ import annotations

import math

import pytest

from harness.results.surprisal import ALPHABET, STEP, decode, encode


def levels(text: str) -> list[int]:
    return [ALPHABET.index(character) for character in text]


def test_one_token_a_character() -> None:
    text = encode([1.0, 2.0, 0.0, 0.5], [(0, 1), (1, 2), (2, 3)], 3)
    assert decode(text) == pytest.approx([1.0, 2.0, 0.0, 0.4], abs=STEP / 2)
    assert len(text) == 4


def test_tokens_that_share_a_character_are_one_unit() -> None:
    # a byte-level tokenizer: two tokens for the first character, three for the second
    text = encode([1.0, 2.0, 0.2, 0.2, 0.2, 4.0], [(0, 1), (0, 1), (1, 2), (1, 2), (1, 2)], 2)
    assert levels(text) == [15, 3, 20]


def test_a_token_of_several_characters_and_one_across_a_border() -> None:
    assert levels(encode([1.0, 2.0, 0.0], [(0, 3), (3, 4)], 4)) == [5, 5, 5, 10, 0]
    assert levels(encode([1.0, 2.0, 0.0], [(0, 2), (1, 4)], 4)) == [15, 15, 15, 15, 0]


def test_empty_tokens_and_gaps() -> None:
    # a token without text belongs to the one before it; characters of no token are at 0
    assert levels(encode([1.0, 2.0, 1.0, 0.0], [(0, 1), (1, 1), (2, 3)], 4)) == [15, 0, 5, 0, 0]
    assert levels(encode([1.0, 2.0, 0.0], [(0, 0), (0, 1)], 1)) == [15, 0]


@pytest.mark.parametrize("huge", [13.0, 1e9, math.inf, math.nan])
def test_what_is_too_large_is_the_highest_level(huge: float) -> None:
    assert encode([huge, 0.0], [(0, 1)], 1) == "/A"
