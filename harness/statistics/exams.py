"""What an examination says of a judge, before the judge is believed.

A judge scores each row's reference, and answers that are worse than it step by step, longer without
being better, or made to please. A judge that does not put the reference first, or that a fixed
string fools, is not believed: nothing that it says is called sure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.statistics.agreement import paired_auc
from harness.statistics.intervals import Interval

REFERENCE, PADDED = "reference", "padded"
STEPS = (REFERENCE, "truncated", "shuffled", "another row's", "empty")
FLOOR = 0.65  # the least share of rows on which the reference beats what is plainly worse
PLAIN = 0.9  # a share that is enough, however few rows there are


@dataclass(frozen=True)
class Exam:
    """What an examination found.

    Attributes:
        beats: what is worse than the reference → the share of rows on which the judge sees it.
        length: the share of rows on which a padded reference beats the plain one; ½ is right.
        canaries: a string → the share of rows on which the reference beats it.
        repeated: the largest difference when frozen answers are judged again.
    """

    beats: Mapping[str, Interval]
    length: Interval
    canaries: Mapping[str, Interval]
    repeated: float

    @property
    def failures(self) -> list[str]:
        """What is wrong with the judge, in sentences; nothing if it may be believed."""
        found = [
            f"it puts the reference above {_article(step)} answer on {_percent(one)} of rows only"
            for step, one in self.beats.items()
            if one.low < FLOOR and one.estimate < PLAIN
        ]
        fooled = [name for name, one in self.canaries.items() if one.estimate < FLOOR]
        if fooled:
            found.append(f"it is fooled by fixed strings ({', '.join(fooled)})")
        return found

    @property
    def trusted(self) -> bool:
        """Whether what the judge says may be called sure."""
        return not self.failures

    @property
    def sentences(self) -> list[str]:
        """What the examination says of the judge."""
        worst = min(self.beats.items(), key=lambda pair: pair[1].estimate)
        lines = [
            f"The judge puts the reference above {_article(worst[0])} answer on "
            f"{_percent(worst[1])} of rows, the least of {len(self.beats)} such checks."
        ]
        if self.length.low > 0.5:
            lines.append(
                f"It prefers length: padding alone wins {_percent(self.length)} of rows against "
                f"the same answer."
            )
        if self.trusted:
            lines.append("No fixed string fools it.")
        else:
            lines.append(f"Nothing it says is called sure: {'; '.join(self.failures)}.")
        return lines


def _article(step: str) -> str:
    return {"empty": "an empty", "another row's": "another row's"}.get(step, f"a {step}")


def _percent(one: Interval) -> str:
    return f"{100 * one.estimate:.0f} % [{100 * one.low:.0f}, {100 * one.high:.0f}]"


def examine(scores: Mapping[str, Sequence[float]], again: Sequence[float]) -> Exam:
    """Read an examination from a judge's scores.

    Args:
        scores: kind of answer → the score of every row, on one scale, more is better: those of
            :data:`STEPS`, ``padded``, and any number of strings that are made to please.
        again: the references judged once more.
    """
    found = {kind: np.array(values, dtype=np.float64) for kind, values in scores.items()}
    reference = found[REFERENCE]
    canaries = [kind for kind in found if kind not in (*STEPS, PADDED)]
    return Exam(
        beats={step: paired_auc(reference, found[step]) for step in STEPS[1:]},
        length=paired_auc(found[PADDED], reference),
        canaries={kind: paired_auc(reference, found[kind]) for kind in canaries},
        repeated=float(np.nanmax(np.abs(np.array(again) - reference))),
    )
