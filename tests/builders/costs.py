"""What a piece of work costs, counted rather than timed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def lines_during(work: Callable[[], object]) -> int:
    """How many lines of Python are executed, each turn of a loop anew."""
    lines = 0

    def count(frame: object, event: str, argument: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        work()
    finally:
        sys.settrace(before)
    return lines
