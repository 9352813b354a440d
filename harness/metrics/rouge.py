"""ROUGE-L: the longest common subsequence of an answer and its reference (Lin 2004).

With L the length of the longest common subsequence of their units, P = L / units of the answer and
R = L / units of the reference, a row's value is 100·2PR / (P + R). Units are characters without
whitespace where most letters of the row's reference are Chinese, else words between whitespace, as
they are written. An empty answer has 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from harness.core import Example
from harness.messages import say
from harness.metrics.base import Aggregate, Metric
from harness.metrics.language import mostly_cjk
from harness.records import Answer


class Rouge(Metric):
    """The mean over rows of ROUGE-L's F1, 0 to 100."""

    name = "rouge"
    title = say("mean ROUGE-L")
    noun = "ROUGE-L"
    observes = "answer"
    better = "higher"
    span = 100.0
    limits = (0.0, 100.0)
    definition: ClassVar = {
        "rouge": say(
            "F1 of the longest common subsequence of answer and reference, of characters "
            "without whitespace where most letters of the reference are Chinese, else of words "
            "between whitespace; an empty answer has 0"
        ),
    }
    headline = Aggregate(
        "rouge", title, say("mean over rows of the {what}", what=definition["rouge"])
    )

    def row(self, seen: Answer, row: Example) -> float:
        split = _characters if mostly_cjk([row.output]) else str.split
        answer, reference = split(seen.text), split(row.output)
        # 2PR / (P + R) with P = L / |answer|, R = L / |reference|
        return 200 * common(answer, reference) / max(1, len(answer) + len(reference))


def _characters(text: str) -> list[str]:
    return [character for character in text if not character.isspace()]


def common(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence.

    Bit-parallel (Hyyrö 2004): bit i of ``row`` is 0 where the usual table rises at column i, so
    that a row of the table is a few operations on one integer.
    """
    places: dict[str, int] = {}
    for i, unit in enumerate(one):
        places[unit] = places.get(unit, 0) | 1 << i
    every = row = (1 << len(one)) - 1
    for unit in other:
        rises = row & places.get(unit, 0)
        row = (row + rises) | (row - rises)
    return (~row & every).bit_count()
