"""A judge's score: the mean of what a judge says of answers, on the scale of its rubric.

An answer without a verdict is not finite: it makes the cell fail, and is never a number. How far
the judge can be believed stands beside its score (:mod:`harness.statistics.exams`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from harness.core import Example
from harness.metrics.base import Aggregate, Metric
from harness.records import Rating


class Judge(Metric):
    """The mean score of a judge; more is better."""

    name = "judge"
    title = "judge's score"
    noun = "score"
    observes = "rating"
    better = "higher"
    span = 5.0
    definition: ClassVar = {"judge": "mean over rows of the judge's score, on its rubric's scale"}
    headline = Aggregate("judge", "judge's score", definition["judge"])
    more = (
        Aggregate("unjudged", "unjudged", "share of answers without a verdict", 3),
        Aggregate(
            "menu_mass",
            "menu mass",
            "mean probability that a local judge gives to its menu at all; near 1 where it means "
            "to answer as it is asked to",
            3,
        ),
    )
    columns = ("menu_mass",)

    def row(self, seen: Rating, row: Example) -> float:
        return math.nan if seen.value is None else seen.value

    def aggregates(self, seen: Sequence[Any], rows: Sequence[Example]) -> Mapping[str, float]:
        values = [self.row(one, row) for one, row in zip(seen, rows, strict=True)]
        masses = [one.mass for one in seen if one.mass is not None]
        return {
            "judge": math.fsum(values) / len(values),
            "unjudged": sum(one.value is None for one in seen) / len(seen),
            "menu_mass": math.fsum(masses) / len(masses) if masses else math.nan,
        }
