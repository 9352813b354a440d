"""How fast rows are scored: by the fast scorer, by the reference, and by lm-eval.

pytest suites/test_speed.py --k=1,5,10 --limit=60
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness.errors import NotApplicableError
from harness.plugin import session_of
from harness.speed import table
from harness.speed.contest import Contest, Trial, entrant_id, entrants


class SpeedTable:
    """Shows the table when the run is over."""

    def __init__(self, contest: Contest) -> None:
        self.contest = contest

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.contest.results:
            terminalreporter.ensure_newline()
            table.show(terminalreporter, self.contest)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    found = entrants(session_of(metafunc.config).plan.options)
    ids = [entrant_id(*one) for one in found]
    metafunc.parametrize("trial", found, ids=ids, indirect=True)


@pytest.fixture(scope="session")
def contest(request: pytest.FixtureRequest) -> Contest:
    made = Contest(session_of(request.config).bench)
    request.config.pluginmanager.register(SpeedTable(made), "adaptbench-speed")
    return made


@pytest.fixture
def trial(request: pytest.FixtureRequest, contest: Contest) -> Trial:
    return Trial(contest, *request.param)


def test_speed(trial: Trial, benchmark: BenchmarkFixture) -> None:
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
