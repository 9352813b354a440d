"""How fast rows are scored and answered: by adaptbench, transformers and lm-eval.

pytest suites/test_speed.py --k=1,5,10 --limit=60
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness.errors import NotApplicableError
from harness.plugin import session_of
from harness.speed import table
from harness.speed.contest import Contest, Trial, entrant_id, entrants
from harness.speed.writing import WritingTrial, Written, writers


class SpeedTable:
    """Shows the table when the run is over."""

    def __init__(self, contest: Contest) -> None:
        self.contest = contest
        self.written: dict[tuple[int, str], Written] = {}
        self.texts: dict[tuple[int, str], list[str]] = {}

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.contest.results or self.written:
            terminalreporter.ensure_newline()
            table.show(terminalreporter, self.contest, list(self.written.values()))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    found = entrants(session_of(metafunc.config).plan.options)
    if "writing" in metafunc.fixturenames:
        found = writers([k for k, _ in found if k])
    name = "writing" if "writing" in metafunc.fixturenames else "trial"
    ids = [entrant_id(*one) for one in found]
    metafunc.parametrize(name, found, ids=ids, indirect=True)


@pytest.fixture(scope="session")
def shown(request: pytest.FixtureRequest) -> SpeedTable:
    made = SpeedTable(Contest(session_of(request.config).bench))
    request.config.pluginmanager.register(made, "adaptbench-speed")
    return made


@pytest.fixture
def trial(request: pytest.FixtureRequest, shown: SpeedTable) -> Trial:
    return Trial(shown.contest, *request.param)


@pytest.fixture
def writing(request: pytest.FixtureRequest, shown: SpeedTable) -> WritingTrial:
    k, writer = request.param
    return WritingTrial(shown.contest, k, writer, shown.written, shown.texts)


def test_speed(trial: Trial, benchmark: BenchmarkFixture) -> None:
    timed(trial, benchmark)


def test_speed_of_answers(writing: WritingTrial, benchmark: BenchmarkFixture) -> None:
    timed(writing, benchmark)


def timed(trial: Trial | WritingTrial, benchmark: BenchmarkFixture) -> None:
    """Time one contender, and compare what it found."""
    benchmark.group = trial.group
    if benchmark.disabled:
        pytest.skip("nothing is timed under -n or --benchmark-disable")
    try:
        trial.prepare()
    except NotApplicableError as reason:
        pytest.skip(str(reason))
    benchmark.pedantic(trial.run, setup=trial.reset, rounds=trial.rounds)  # type: ignore[no-untyped-call]
    assert benchmark.stats is not None
    benchmark.extra_info.update(trial.facts(benchmark.stats.stats.median))
    trial.check()
