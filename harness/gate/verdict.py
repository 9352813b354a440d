"""The gate's nouns: what a run is held to, the word on each cell, and all of it together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.metrics.base import Effect
from harness.results.snapshot import Difference
from harness.statistics.paired import ALPHA

# In the order in which they are shown: the worst first.
STATUSES = ("FAIL", "MISSING", "WARN", "INCONCLUSIVE", "NEW", "IMPROVED", "OK")
FAILING = ("FAIL", "MISSING")


def regressed(p: float, worsening: float, allowed: float) -> bool:
    """Whether a cell fails: it got worse beyond chance, and by more than is allowed.

    Args:
        p: one-sided, adjusted for the family.
        worsening: of the mean tested value; above 0 is worse.
        allowed: how much of it is acceptable, in the same unit.
    """
    return not (p >= ALPHA or worsening <= allowed)  # written so that a NaN fails


@dataclass(frozen=True)
class Verdict:
    """The gate's word on one cell under one metric.

    Attributes:
        cell: its id.
        status: one of :data:`STATUSES`.
        line: what happened and what to do, in one line.
        metric: the metric's name; empty where the whole cell is meant.
        note: the part of the line that is not in the other fields.
        fails: whether this cell fails the gate.
        effect: of the mean tested values, after against before, with its paired 95 % interval.
        p: adjusted for the number of comparisons.
        mean_effect: of the means of what is shown, with a paired interval at a confidence of
            1 − 0.05 / comparisons.
        detectable: the smallest worsening that this comparison finds in four of five runs.
        rows_needed: at which the tolerance would be detectable; None where it is, or never.
        drivers: (row id, its part of the change of the mean for the worse), the largest first.
        changed: what else is different, by name.
    """

    cell: str
    status: str
    line: str
    fails: bool = False
    metric: str = ""
    effect: Effect | None = None
    p: float | None = None
    mean_effect: Effect | None = None
    detectable: float | None = None
    rows_needed: int | None = None
    drivers: tuple[tuple[str, float], ...] = ()
    changed: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Terms:
    """What a run is held to."""

    baseline: Path
    tolerance: float = 0.01
    strict: bool = False


@dataclass(frozen=True)
class Gate:
    """All verdicts, the worst first, and what stands beside them.

    ``problem`` is why nothing could be compared; it fails the gate. ``titles`` are the metrics
    that were compared: name → what the mean tested value is called (``geometric mean``).
    """

    baseline: str
    tolerance: float
    strict: bool
    compared: int = 0
    verdicts: tuple[Verdict, ...] = ()
    differences: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str | None = None
    titles: tuple[tuple[str, str], ...] = ()

    @property
    def passed(self) -> bool:
        return self.problem is None and not self.failing

    @property
    def failing(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.fails]

    @property
    def counts(self) -> Mapping[str, int]:
        """Status → number of verdicts, the worst first; none that is 0."""
        found = Counter(verdict.status for verdict in self.verdicts)
        return {status: found[status] for status in STATUSES if found[status]}

    @property
    def several(self) -> bool:
        """Whether more than one metric was compared, so that a verdict has to name its own."""
        return len(self.titles) > 1

    @property
    def file(self) -> str:
        """The baseline's name: the same wherever the gate is called from."""
        return Path(self.baseline).name

    def name_of(self, verdict: Verdict) -> str:
        """The cell's id, and the metric where there are several."""
        named = self.several and verdict.metric
        return f"{verdict.cell} [{verdict.metric}]" if named else verdict.cell
