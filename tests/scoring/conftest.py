"""What several tests of scoring use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.scoring.queue import few_cores


@pytest.fixture
def two_cores() -> Iterator[None]:
    """Torch computes with two threads, whatever the tests are started with."""
    with few_cores(2):
        yield
