"""The gate's nouns: what a run is held to, the word on each cell, and all of it together."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# In the order in which they are shown: the worst first.
STATUSES = ("FAIL", "MISSING", "WARN", "INCONCLUSIVE", "NEW", "IMPROVED", "OK")
FAILING = ("FAIL", "MISSING")
ALPHA = 0.05  # false alarms that a whole family may raise


def regressed(p: float, ratio: float, tolerance: float) -> bool:
    """Whether a cell fails: its rise is beyond chance and larger than the tolerance.

    Args:
        p: one-sided, adjusted for the family.
        ratio: of geometric means, after over before.
        tolerance: relative rise that is acceptable.
    """
    return not (p >= ALPHA or ratio <= 1 + tolerance)  # written so that a NaN fails


@dataclass(frozen=True)
class Verdict:
    """The gate's word on one cell.

    Attributes:
        cell: its id.
        status: one of :data:`STATUSES`.
        line: what happened and what to do, in one line.
        note: the part of it that is not in the other fields.
        fails: whether this cell fails the gate.
        ratio: of geometric means, after over before, with its paired 95 % interval.
        p: adjusted for the number of cells.
        mean_ratio: of arithmetic means, with a paired interval at a confidence of 1 − 0.05 / cells.
        detectable: the smallest relative rise of the geometric mean that this comparison finds in
            four of five runs.
        rows_needed: at which the tolerance would be detectable; None where it is, or never.
        drivers: (row id, its part of the relative change of the mean), the largest rises first.
        changed: what else is different, by name.
    """

    cell: str
    status: str
    line: str
    fails: bool = False
    ratio: tuple[float, float, float] | None = None
    p: float | None = None
    mean_ratio: tuple[float, float, float] | None = None
    detectable: float | None = None
    rows_needed: int | None = None
    drivers: tuple[tuple[str, float], ...] = ()
    changed: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Difference:
    """Something besides the numbers that is not as it was, and for how many cells.

    ``before`` and ``after`` are None where it differs from cell to cell.
    """

    what: str
    before: str | None
    after: str | None
    cells: int


@dataclass(frozen=True)
class Terms:
    """What a run is held to."""

    baseline: Path
    tolerance: float = 0.01
    strict: bool = False


@dataclass(frozen=True)
class Gate:
    """All verdicts, the worst first, and what stands beside them.

    ``problem`` is why nothing could be compared; it fails the gate.
    """

    baseline: str
    tolerance: float
    strict: bool
    compared: int = 0
    verdicts: tuple[Verdict, ...] = ()
    differences: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str | None = None

    @property
    def passed(self) -> bool:
        return self.problem is None and not self.failing

    @property
    def failing(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.fails]

    def content(self) -> dict[str, Any]:
        """Plain JSON values, for reports."""
        counts = Counter(verdict.status for verdict in self.verdicts)
        body = asdict(self) | {
            "passed": self.passed,
            "failing": len(self.failing),
            "baseline": Path(self.baseline).name,  # the same wherever it is called from
            "counts": {status: counts[status] for status in STATUSES if counts[status]},
        }
        # Tuples become lists; infinities, of comparisons on one row, have no word in JSON.
        plain: dict[str, Any] = json.loads(json.dumps(body), parse_constant=lambda text: None)
        return plain
