"""What every table of answers is read against: the floor "copy the source", the ceiling.

Both are answers that no model wrote, so that they go through the same metrics.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.core import Example
from harness.records import STOP_TOKEN, Answer

COLONS = (":", "：")


def source_of(instruction: str) -> str:
    """The part of a request that it is about: the text to be translated, say.

    A request is the source and lines that say what to do with it. Lines that end with a colon are
    of the latter kind. If the first line does, all other lines are the source; else the longest of
    them. A request of one line is its own source from its first colon on, or whole.
    """
    lines = [line.strip() for line in instruction.splitlines() if line.strip()]
    if len(lines) < 2:
        places = [instruction.find(colon) for colon in COLONS if colon in instruction]
        rest = instruction[min(places) + 1 :].strip() if places else ""
        return rest or instruction.strip()
    others = [line for line in lines if not line.endswith(COLONS)]
    if others and lines[0].endswith(COLONS):
        return "\n".join(others)
    return max(others or lines, key=len)


def copy_source(rows: Sequence[Example]) -> tuple[Answer, ...]:
    """The floor: every answer is the source of its row."""
    return tuple(_answer(row, source_of(row.instruction)) for row in rows)


def reference(rows: Sequence[Example]) -> tuple[Answer, ...]:
    """The ceiling: every answer is the reference of its row."""
    return tuple(_answer(row, row.output) for row in rows)


def _answer(row: Example, text: str) -> Answer:
    return Answer(
        id=row.id, tokens=(), text=text, ended=STOP_TOKEN, stop="", logprobs=(), n_context=0
    )
