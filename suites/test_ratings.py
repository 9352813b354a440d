"""What a judge says of every cell's answers.

pytest suites/ --metrics=judge,chrf --judge=Qwen/Qwen3-4B --rubric=translation
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.records import Measurement


@pytest.mark.observes("rating")
def test_ratings(measure: Callable[[], Measurement]) -> None:
    assert measure().ratings  # a cell with too many answers without a verdict fails before
