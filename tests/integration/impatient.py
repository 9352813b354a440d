"""A pytest plugin for which every round of a run is worth a report."""

from __future__ import annotations

from harness.run import rounds

rounds.WORTH_A_REPORT = 0.0
