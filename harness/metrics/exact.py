"""Exact match: the share of answers that are their reference."""

from __future__ import annotations

import unicodedata
from typing import ClassVar

from harness.core import Example
from harness.messages import say
from harness.metrics.base import Aggregate, Metric
from harness.records import Answer


class Exact(Metric):
    """The share of answers that equal their reference once both are normalized."""

    name = "exact"
    title = say("exact match")
    noun = title
    observes = "answer"
    limits = (0.0, 1.0)
    better = "higher"
    definition: ClassVar = {
        "exact": say(
            "share of answers equal to their reference after Unicode NFKC and without "
            "whitespace at both ends; an empty answer is never equal"
        ),
    }
    headline = Aggregate("exact", title, definition["exact"], digits=3)

    def row(self, seen: Answer, row: Example) -> float:
        answer, reference = (
            unicodedata.normalize("NFKC", text).strip() for text in (seen.text, row.output)
        )
        return float(bool(answer) and answer == reference)
