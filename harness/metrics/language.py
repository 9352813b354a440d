"""What language metrics have to know of a text: whether it is written in Chinese characters."""

from __future__ import annotations

from collections.abc import Iterable

# CJK unified ideographs with extension A, compatibility ideographs, extensions B and later; kana.
_RANGES = ((0x3400, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF), (0x3040, 0x30FF))


def is_cjk(character: str) -> bool:
    """Whether it is a Chinese character, or kana: what is written without spaces."""
    code = ord(character)
    return any(low <= code <= high for low, high in _RANGES)


def mostly_cjk(texts: Iterable[str]) -> bool:
    """Whether more than half of the letters of all texts together are Chinese characters."""
    letters = [character for text in texts for character in text if character.isalpha()]
    return 2 * sum(map(is_cjk, letters)) > len(letters)
