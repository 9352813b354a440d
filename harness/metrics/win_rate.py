"""How often a judge prefers one system's answers to another's, each pair asked in both orders.

An answer wins a row where the judge prefers it in both orders, and loses it where it prefers the
other in both. Where neither is better, or the order decides, it is half a win. A pair that was not
judged in both orders is *unjudged*: counted and left out, never a number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

from harness.core import Example
from harness.messages import say
from harness.metrics.base import Aggregate, Metric
from harness.metrics.judged import MASS, UNJUDGED, masses, mean
from harness.records import Preference


class WinRate(Metric):
    """The share of rows that a system wins; more is better, ½ is no difference."""

    name = "win_rate"
    title = say("win rate")
    noun = title
    observes = "preference"
    better = "higher"
    limits = (0.0, 1.0)
    partial = True
    null = 0.5
    pictured = False
    definition: ClassVar = {
        "win_rate": say(
            "mean over rows: 1 where the judge prefers the answer in both orders, 0 where "
            "it prefers the other in both, ½ otherwise"
        )
    }
    headline = Aggregate("win_rate", title, definition["win_rate"], 3)
    more = (
        Aggregate("wins", say("wins"), say("share of rows that are won in both orders"), 3),
        Aggregate("losses", say("losses"), say("share of rows that are lost in both orders"), 3),
        Aggregate(
            "flips", say("flips"), say("share of rows whose verdict changes with the order"), 3
        ),
        Aggregate(
            "first_slot",
            say("first slot"),
            say("share of verdicts for the answer that stands first; ½ of a judge that reads"),
            3,
        ),
        UNJUDGED,
        Aggregate(
            "win_rate_worst", say("unjudged as lost"), say("the same, unjudged rows as lost"), 3
        ),
        MASS,
    )
    columns = ("wins", "losses", "flips")

    def row(self, seen: Preference, row: Example) -> float:
        return math.nan if seen.value is None else seen.value

    def aggregates(
        self, seen: Sequence[Preference], rows: Sequence[Example]
    ) -> Mapping[str, float]:
        known = [one for one in seen if one.value is not None]
        slots = (one.value for pair in known for one in pair.rulings)
        return {
            "win_rate": mean(one.value for one in seen),
            "wins": mean(float(one.value == 1) for one in known),
            "losses": mean(float(one.value == 0) for one in known),
            "flips": mean(float(one.orders[0] != one.orders[1]) for one in known),
            "first_slot": mean(slots),
            "unjudged": 1 - len(known) / len(seen),
            "win_rate_worst": mean(0.0 if one.value is None else one.value for one in seen),
            "menu_mass": masses(seen),
        }
