"""How far an answer's length is from its reference's.

Neither long nor short is better, so what is compared is the distance from a ratio of 1: with a and
r the characters of answer and reference (whitespace at both ends left out),

    value of a row   |ln((a + 1) / (r + 1))|, shown as a factor: 1 is as long, 2 twice or half

One is added so that an empty answer has a number too. The plain ratio, all characters of the
answers by all of the references, stands beside it and says which way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

from harness.core import Example
from harness.messages import say
from harness.metrics.base import Aggregate, Metric
from harness.records import Answer


class LengthRatio(Metric):
    """The mean factor by which answers are longer or shorter than their references."""

    name = "length_ratio"
    title = say("mean length factor")
    noun = say("length factor")
    observes = "answer"
    better = "lower"
    scale = "log"
    definition: ClassVar = {
        "length_ratio": "|ln((a + 1) / (r + 1))| of a row, with a and r the characters of answer "
        "and reference without whitespace at both ends",
    }
    headline = Aggregate(
        "length_factor",
        title,
        say(
            "mean over rows of how many times longer or shorter an answer is than its reference; "
            "1 is as long"
        ),
    )
    more = (
        Aggregate(
            "geometric_length_factor",
            say("geometric"),
            say("exp of the mean of |ln((a + 1) / (r + 1))|"),
        ),
        Aggregate(
            "length_ratio",
            say("answers/references"),
            say("characters of all answers / characters of all references"),
        ),
    )
    columns = ("length_ratio",)
    center = "geometric_length_factor"

    def row(self, seen: Answer, row: Example) -> float:
        return abs(math.log((_size(seen.text) + 1) / (_size(row.output) + 1)))

    def aggregates(self, seen: Sequence[Answer], rows: Sequence[Example]) -> Mapping[str, float]:
        logs = [self.row(one, row) for one, row in zip(seen, rows, strict=True)]
        answers, references = sum(_size(x.text) for x in seen), sum(_size(x.output) for x in rows)
        return {
            "length_factor": math.fsum(map(self.shown, logs)) / len(logs),
            "geometric_length_factor": self.shown(math.fsum(logs) / len(logs)),
            "length_ratio": answers / references if references else math.inf,
        }


def _size(text: str) -> int:
    return len(text.strip())
