"""A judge's score: the mean of what a judge says of answers, on the scale of its rubric.

An answer without a verdict is *unjudged*: it is counted and left out, never a number. Where that
could matter is shown beside the mean: what it would be if every such answer were the worst.
How far the judge can be believed stands beside its score (:mod:`harness.statistics.exams`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from harness.core import Example
from harness.messages import say
from harness.metrics.base import Aggregate, Metric
from harness.records import Preference, Rating

SCALE = "scale"  # the part of the definition that says which values there are
UNJUDGED = Aggregate("unjudged", say("unjudged"), say("share of answers without a verdict"), 3)
MASS = Aggregate(
    "menu_mass",
    say("menu mass"),
    say(
        "mean probability that a local judge gives to its menu at all; near 1 where it means to "
        "answer as it is asked to"
    ),
    3,
)


class Judge(Metric):
    """The mean score of a judge; more is better."""

    name = "judge"
    title = say("judge's score")
    noun = say("score")
    observes = "rating"
    better = "higher"
    span = 5.0
    partial = True
    definition: ClassVar = {
        "judge": say("mean over rows of the judge's score, on its rubric's scale")
    }
    headline = Aggregate("judge", title, definition["judge"])
    more = (
        UNJUDGED,
        Aggregate(
            "judge_worst",
            say("unjudged as worst"),
            say("the same, unjudged answers as the worst"),
        ),
        MASS,
    )
    columns = ("menu_mass",)

    def row(self, seen: Rating, row: Example) -> float:
        return math.nan if seen.value is None else seen.value

    def aggregates(self, seen: Sequence[Rating], rows: Sequence[Example]) -> Mapping[str, float]:
        worst = [one.worst if one.value is None else one.value for one in seen]
        return {
            "judge": mean(one.value for one in seen),
            "unjudged": sum(one.value is None for one in seen) / len(seen),
            "judge_worst": mean(worst),
            "menu_mass": mean(one.ruling.mass for one in seen),
        }

    def told(self, definition: Mapping[str, str]) -> Metric:
        least, found, most = definition.get(SCALE, "").partition(" to ")
        return on_scale(float(least), float(most)) if found else self


def on_scale(least: float, most: float) -> Judge:
    """The metric on a rubric's scale, of which the gate's tolerance is a share."""
    scale = f"{least:g} to {most:g}"
    fields = {
        "span": most - least,
        "limits": (least, most),
        "definition": {**Judge.definition, SCALE: scale},
    }
    made: Judge = type("Judge", (Judge,), fields)()
    return made


def mean(values: Any) -> float:
    """The mean of the values that are there; NaN without any."""
    known = [one for one in values if one is not None]
    return math.fsum(known) / len(known) if known else math.nan


def masses(seen: Sequence[Preference]) -> float:
    """The mean of what a local judge gives to its menu."""
    return mean(ruling.mass for one in seen for ruling in one.rulings)
