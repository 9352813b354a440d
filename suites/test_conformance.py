"""One row, one number, however it is computed: on a tiny model of every family, or on yours.

pytest suites/test_conformance.py --model=Qwen/Qwen3-0.6B
"""

from __future__ import annotations

import pytest

from harness.conformance.model_under_test import Subject
from harness.conformance.rules import CHECKS
from harness.errors import NotApplicableError


@pytest.mark.parametrize("check", CHECKS)
def test_conformance(subject: Subject, check: str) -> None:
    try:
        CHECKS[check](subject)
    except NotApplicableError as reason:
        pytest.skip(str(reason))
