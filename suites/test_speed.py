"""How fast rows are scored: by the fast scorer, by the reference, and by lm-eval.

pytest suites/test_speed.py --k=1,5,10 --limit=60
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness.errors import NotApplicableError
from harness.speed.contest import Trial


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
