"""What stands around a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Value = str | int | float | None


@dataclass(frozen=True)
class Table:
    """The numbers behind a figure."""

    headers: Sequence[str]
    rows: Sequence[Sequence[Value]]
