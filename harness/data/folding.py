"""One spelling for characters that differ in form only, so that copies can be compared.

* Width, ligatures and compatibility ideographs: Unicode's NFKC.
* Letter case: lower.
* Characters that show nothing (zero-width spaces and joiners, variation selectors, soft hyphens,
  marks of direction): left out.
* Simplified, Traditional (OpenCC's standard, Taiwan's, Hong Kong's) and Japanese forms of a
  Chinese character: the tables of OpenCC. All characters that they connect are one class, and
  each stands for its class: 发, 發, 髮 and 発 are equal. This is for comparing, not for reading.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from functools import cache

# To OpenCC's standard from Simplified's opposite, Taiwan's, Hong Kong's and Japan's forms.
_TABLES = ("t2s", "tw2t", "hk2t", "jp2t")
_IDEOGRAPHS = (range(0x3400, 0x4DC0), range(0x4E00, 0xA000))
_SHOWS_NOTHING = (
    *(0x00AD, 0x034F, 0x061C, 0x115F, 0x1160, 0xFEFF),
    *range(0x180B, 0x1810),
    *range(0x200B, 0x2010),
    *range(0x202A, 0x202F),
    *range(0x2060, 0x2070),
    *range(0xFE00, 0xFE10),
    *range(0xE0000, 0xE1000),
)


def fold(text: str) -> str:
    """Return the text with one spelling for what differs in form only."""
    return unicodedata.normalize("NFKC", text).lower().translate(_classes())


@cache
def _classes() -> Mapping[int, str | None]:
    """What stands for a character: one of its class, or nothing."""
    from opencc import OpenCC

    # One character a line, so that no word of the tables is seen.
    characters = [chr(code) for block in _IDEOGRAPHS for code in block]
    lines = "\n".join(characters)
    leader: dict[str, str] = {}

    def leading(character: str) -> str:
        while character in leader:
            character = leader[character]
        return character

    for table in _TABLES:
        converted = OpenCC(table).convert(lines).split("\n")
        for pair in zip(characters, converted, strict=True):
            one, other = map(leading, pair)
            if one != other:
                leader[max(one, other)] = min(one, other)
    folded: dict[int, str | None] = {ord(character): leading(character) for character in leader}
    return folded | dict.fromkeys(_SHOWS_NOTHING)
