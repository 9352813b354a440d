"""The seam between a case and its measurement: something else than this process may compute it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from harness.core import Cell
from harness.records import Measurement
from harness.run.case import Case

if TYPE_CHECKING:
    from harness.run.bench import Bench

Progress = Callable[[str, int, int, str], None]


class Engine(Protocol):
    """Computes cells somewhere else, and puts what it computed into the store."""

    def expects(self, cell: Cell) -> bool:
        """Whether it was told that this run computes the cell."""

    def measure(self, bench: Bench, case: Case, cell: Cell, progress: Progress) -> Measurement:
        """Wait for a cell, which is begun if it was not.

        Raises:
            AdaptbenchError: it cannot be computed, in one line.
        """
