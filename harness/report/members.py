"""The measured cells of a report, by the groups that its tables have lines for."""

from __future__ import annotations

from dataclasses import dataclass

from harness.records import Measurement
from harness.report.nouns import Group
from harness.results.manifest import Entry


@dataclass(frozen=True)
class Row:
    """One measured cell of the report."""

    entry: Entry
    measurement: Measurement


@dataclass(frozen=True)
class Members:
    """A group and its cells, one for each seed."""

    group: Group
    rows: tuple[Row, ...]

    @property
    def observes(self) -> str:
        """What its cells hold of each row."""
        return self.rows[0].entry.observes
