"""What a judge says of every cell's answers.

pytest suites/ --metrics=judge,chrf --judge=Qwen/Qwen3-4B --rubric=translation
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.records import Measurement


@pytest.mark.observes("rating")
def test_ratings(measure: Callable[[], Measurement]) -> None:
    unjudged = [one for one in measure().ratings if one.value is None]
    assert not unjudged, f"{len(unjudged)} answers are unjudged, the first: {unjudged[0].reason}"
