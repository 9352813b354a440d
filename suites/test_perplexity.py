"""Mean perplexity of every cell's reference answers on the task's public test set."""

from __future__ import annotations

from collections.abc import Callable

from harness.metrics.perplexity import nonfinite_rows
from harness.records import Measurement


def test_mean_perplexity(measure: Callable[[], Measurement]) -> None:
    rows = nonfinite_rows(measure().observations)
    assert not rows, f"{len(rows)} rows have no finite perplexity: {', '.join(rows[:5])}"
