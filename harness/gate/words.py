"""The gate's words for a metric: effects in percent on a log scale, else in the metric's unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.messages import listed, say
from harness.metrics.base import Effect, Metric
from harness.metrics.corpus import CorpusMetric
from harness.statistics.family import Change

NEVER = say("no number of rows would show one within the tolerance")


@dataclass(frozen=True)
class Words:
    """The gate's vocabulary for one metric."""

    metric: Metric

    @property
    def relative(self) -> bool:
        """Whether effects are relative changes."""
        return self.metric.scale == "log"

    @property
    def tested(self) -> str:
        """What the mean of the tested values is called."""
        if isinstance(self.metric, CorpusMetric):
            return say("corpus value")
        return say("geometric mean") if self.relative else say("mean")

    @property
    def what(self) -> str:
        """What is compared, in words."""
        if isinstance(self.metric, CorpusMetric):
            return say("corpus {noun}", noun=self.metric.noun)
        return say("{mean} {noun}", mean=self.tested, noun=self.metric.noun)

    @property
    def mean(self) -> str:
        """What the mean of what is shown is called."""
        return say("arithmetic mean") if self.relative else self.tested

    @property
    def worse(self) -> str:
        """What a change for the worse is called."""
        return say("rise") if self.metric.better == "lower" else say("fall")

    def effect(self, effect: Effect) -> str:
        """``+1.20 % [+0.30, +2.11]``."""
        if self.relative:
            estimate, low, high = (100 * x for x in (effect.estimate, effect.low, effect.high))
            return f"{estimate:+.2f} % [{low:+.2f}, {high:+.2f}]".replace("-", "−")
        estimate, low, high = effect.estimate, effect.low, effect.high
        return f"{estimate:+.4g} [{low:+.4g}, {high:+.4g}]".replace("-", "−")

    def size(self, effect: float) -> str:
        """The size of an effect, with three digits that count."""
        return f"{100 * effect:.3g} %" if self.relative else f"{effect:.3g}"

    def allowed(self, tolerance: float) -> float:
        """The size of the effect that a tolerance accepts."""
        return tolerance if self.relative else tolerance * self.metric.span

    def tolerance(self, tolerance: float) -> str:
        """The tolerance as the user gave it, and what it is in the metric's unit."""
        share = f"{100 * tolerance:g} %"
        if self.relative:
            return share
        return say("{share} of {span}", share=share, span=f"{self.metric.span:g}")

    def drivers(self, drivers: Sequence[tuple[str, float]]) -> list[str]:
        """The rows that moved the mean most for the worse, as one note; none if there is none."""
        parts = [(name, part) for name, part in drivers if part > 0]
        if not parts:
            return []
        sign = self.metric.worsening
        shown = ", ".join(
            f"{name!r} "
            + (f"{100 * sign * part:+.1f} %" if self.relative else f"{sign * part:+.3g}")
            for name, part in parts
        )
        whole = self.tested if isinstance(self.metric, CorpusMetric) else say("mean")
        return [say("most in the {mean}: {rows}", mean=whole, rows=shown.replace(" -", " −"))]

    def unseen(self, detectable: float, needed: int | None, tolerance: float) -> str:
        """What could have gone unseen, and how many rows would show it."""
        rest = NEVER
        if needed:
            size = self.tolerance(tolerance)
            rest = say("{n} rows would show one of {size}", n=needed, size=size)
        return say(
            "a {change} of less than {size} could have gone unseen; {rest}",
            change=self.worse,
            size=self.size(detectable),
            rest=rest,
        )

    def line(self, change: Change, status: str, p: float) -> str:
        """What was found, for a verdict of this status."""
        line = say(
            "{mean} {effect}, adjusted p {p}",
            mean=self.tested,
            effect=self.effect(change.effect),
            p=self.p(p),
        )
        if status == "WARN" and self.relative:
            moved = listed((self.mean, self.effect(change.mean_effect)), " ")
            line = listed((moved, line), "; ")
        return line

    def why(self, change: Change, status: str, tolerance: float, blind: bool) -> list[str]:
        """What else there is to know of a verdict; ``blind`` is whether much could go unseen."""
        notes: list[str] = []
        if status == "FAIL":
            notes.append(say("tolerance {tolerance}", tolerance=self.tolerance(tolerance)))
        if status in ("FAIL", "WARN"):
            notes += self.drivers(change.drivers)
        elif status == "INCONCLUSIVE":
            heavy = self.allowed(tolerance)
            notes += self.drivers([part for part in change.drivers if part[1] > heavy])
        if blind and status != "FAIL":
            notes.append(self.unseen(change.detectable, change.rows_needed, tolerance))
        return notes

    @staticmethod
    def p(value: float) -> str:
        """A p-value with two digits, or its power of ten."""
        return f"{value:.2g}" if value >= 0.001 else f"{value:.0e}"
