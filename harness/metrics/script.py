"""Which script a text is in: Simplified or Traditional Chinese, Latin, and so on.

Which characters belong to one way of writing Chinese only is told by what the two ways were
encoded in: a character of GB 2312 that Big5 lacks is Simplified, one of Big5's frequently used
(its first level) that GB 2312 lacks is Traditional. Most characters are in both and say nothing.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache

OTHER_LETTERS = 0.1  # more of an answer's letters than this in a script that is not the reference's
OTHER_FORMS = 0.25  # the same of the characters that are Simplified or Traditional only

_GB = (range(0xB0, 0xF8), (range(0xA1, 0xFF),))  # lead and trail bytes of GB 2312's characters
_BIG5 = (range(0xA4, 0xC7), (range(0x40, 0x7F), range(0xA1, 0xFF)))  # of Big5's first level


@lru_cache(maxsize=1)
def forms() -> tuple[frozenset[str], frozenset[str]]:
    """The characters that are Simplified only, and those that are Traditional only."""
    simplified = frozenset(c for c in _characters("gb2312", *_GB) if not _is_in("big5", c))
    traditional = frozenset(c for c in _characters("big5", *_BIG5) if not _is_in("gb2312", c))
    return simplified, traditional


def _characters(codec: str, leads: range, trails: Iterable[range]) -> Iterator[str]:
    for lead in leads:
        for trail in (trail for block in trails for trail in block):
            found = bytes([lead, trail]).decode(codec, "ignore")
            if unicodedata.name(found or " ").startswith("CJK UNIFIED"):
                yield found


def _is_in(codec: str, character: str) -> bool:
    return bool(character.encode(codec, "ignore"))


def is_other_script(answer: str, reference: str) -> bool:
    """Whether an answer is in a script that its reference is not in.

    It is where more than a tenth of its letters belong to scripts without a letter in the
    reference; or, against a reference in Traditional characters, where more than a quarter of the
    characters that are Simplified or Traditional only are Simplified, and the other way round.
    Characters that stand in the reference are never counted against an answer.
    """
    letters = [c for c in answer if c.isalpha()]
    known = {_script(c) for c in reference if c.isalpha()}
    strange = sum(_script(c) not in known for c in letters)
    if known and strange > OTHER_LETTERS * len(letters):
        return True
    one, other = (_count(reference, characters) for characters in forms())
    if one == other:  # a reference that says nothing, or both
        return False
    own, wrong = forms() if one > other else forms()[::-1]
    against = _count(answer, wrong - frozenset(reference))
    return against > OTHER_FORMS * (against + _count(answer, own))


def _count(text: str, characters: frozenset[str]) -> int:
    return sum(c in characters for c in text)


@lru_cache(maxsize=1 << 15)
def _script(letter: str) -> str:
    """The first word of its Unicode name: LATIN, CJK, HANGUL, say."""
    return unicodedata.name(letter, "").partition(" ")[0].partition("-")[0]
