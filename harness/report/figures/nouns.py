"""What stands around a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Value = str | int | float | None
MOST = 1_000  # rows of a table that a page shows: of ten thousand, a browser takes seconds


@dataclass(frozen=True)
class Table:
    """The numbers behind a figure."""

    headers: Sequence[str]
    rows: Sequence[Sequence[Value]]

    @property
    def first(self) -> Sequence[Sequence[Value]]:
        """The rows that a page shows."""
        return self.rows[:MOST]
