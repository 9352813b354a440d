"""What every cell's model writes for the rows of the task's public test set, by each decoding.

pytest suites/ --metrics=perplexity,chrf,bleu --decode=greedy,sample,beam
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.records import Measurement


@pytest.mark.observes("answer")
def test_answers(measure: Callable[[], Measurement]) -> None:
    found = measure()
    answered = {one.id for one in found.answers}
    assert len(answered) == found.cell.n, f"{len(answered)} of {found.cell.n} rows were answered"
