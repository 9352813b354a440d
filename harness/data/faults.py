"""Faults of a file's rows: listed together, or left out and counted.

A fault belongs to one row: the rest of the file can be read. What is wrong with the file as a
whole (not JSON, no layout, no usable row) is raised where it is seen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import DataError

LISTED = 20  # faults that an error names
EXAMPLES = 3  # places that a warning names of each reason
REASONS = 5  # reasons that a warning names


class LayoutError(DataError):
    """A row in none of the layouts that are read."""


@dataclass(frozen=True)
class Fault:
    """One row that cannot be used.

    Attributes:
        place: the row, with its id where it has one: "row 3 (id 'a')".
        says: what follows the place in a line: ", field 'output': the answer is empty".
        reason: what faults of one kind share, for counting.
        of_layout: whether the row is in none of the layouts that are read.
    """

    place: str
    says: str
    reason: str
    of_layout: bool = False

    @property
    def line(self) -> str:
        """The fault as a line, without the file's name."""
        return self.place + self.says


def fault_of(path: Path, place: str, named: str, error: DataError) -> Fault:
    """Return the fault that an error says of a row.

    Args:
        path: the file, and ``place``, the row, with which the error's line begins.
        place: "row 3".
        named: " (id 'a')", which may follow; empty where the row has no id.
        error: what was raised.
    """
    says = str(error).removeprefix(f"{path}, {place}")
    if named and says.startswith(named):
        place, says = place + named, says.removeprefix(named)
    return Fault(place, says, _reason(says), isinstance(error, LayoutError))


def _reason(says: str) -> str:
    said = says.lstrip(",: ").partition(";")[0]
    said = re.sub(r"'.*' also stands in .*", "also stands in another row", said, flags=re.DOTALL)
    return re.sub(r"\bturn \d+", "a turn", re.sub(r"\d{2,}|(?<!turn )\b\d\b", "…", said))[:120]


def refuse(path: Path, faults: Sequence[Fault], total: int, skipping: bool = False) -> DataError:
    """Return the error that lists the faults of a file: the first of them, and a count.

    Args:
        path: the file.
        faults: at least one, in the order of the file.
        total: rows of the file, usable or not.
        skipping: whether such rows were to be left out, and no other is there.
    """
    first = faults[0]
    alike = all(fault.of_layout and fault.reason == first.reason for fault in faults)
    if alike and len(faults) == total > 1:
        return DataError(f"{path}, {first.line}; so in all {total} rows")
    if len(faults) == 1 and not skipping:
        return DataError(f"{path}, {first.line}")
    which = f"the first {LISTED}" if len(faults) > LISTED else "they are"
    hint = "no usable row is left" if skipping else "--skip-bad-rows leaves them out"
    head = f"{path}: {len(faults)} of {total} rows are unusable ({hint}); {which}:"
    more = len(faults) - LISTED
    rest = [f"… and {more} more"] if more > 0 else []
    return DataError("\n".join([head, *(fault.line for fault in faults[:LISTED]), *rest]))


def left_out(path: Path, faults: Sequence[Fault], total: int) -> str:
    """Return the line that says which rows were left out, and why."""
    reasons: dict[str, list[str]] = {}
    for fault in faults:
        reasons.setdefault(fault.reason, []).append(fault.place)
    ranked = sorted(reasons.items(), key=lambda item: -len(item[1]))
    parts = [f"{len(places)} × {reason} ({_some(places)})" for reason, places in ranked[:REASONS]]
    if len(ranked) > REASONS:
        others = sum(len(places) for _, places in ranked[REASONS:])
        parts.append(f"{others} for other reasons")
    return f"{path}: {len(faults)} of {total} rows left out (--skip-bad-rows): {'; '.join(parts)}"


def _some(places: Sequence[str]) -> str:
    return ", ".join(places[:EXAMPLES]) + (", …" if len(places) > EXAMPLES else "")
