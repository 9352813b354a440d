"""One row, one number and one answer, however computed: on a tiny model of every family, or yours.

pytest suites/test_conformance.py --model=Qwen/Qwen3-0.6B
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.conformance.generation_rules import GENERATION_CHECKS
from harness.conformance.model_under_test import ModelUnderTest, models_under_test
from harness.conformance.rules import CHECKS
from harness.errors import NotApplicableError
from harness.plugin import session_of


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    names = list(models_under_test(session_of(metafunc.config).bench))
    metafunc.parametrize("model", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ModelUnderTest]:
    make = models_under_test(session_of(request.config).bench)[request.param]
    made = make(tmp_path_factory.mktemp("model"))
    yield made
    made.close()


@pytest.mark.parametrize("check", CHECKS)
def test_conformance(model: ModelUnderTest, check: str) -> None:
    try:
        CHECKS[check](model)
    except NotApplicableError as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("check", GENERATION_CHECKS)
def test_conformance_of_answers(model: ModelUnderTest, check: str) -> None:
    try:
        GENERATION_CHECKS[check](model)
    except NotApplicableError as reason:
        pytest.skip(str(reason))
