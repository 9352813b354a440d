"""Which of two strategies' answers a judge prefers, each pair asked in both orders.

pytest suites/ --metrics=win_rate --judge=Qwen/Qwen3-4B --decode=greedy
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.records import Measurement


@pytest.mark.observes("preference")
def test_preferences(measure: Callable[[], Measurement]) -> None:
    assert measure().preferences
