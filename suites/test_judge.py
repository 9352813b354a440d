"""Is this judge to be believed? Checks that need no human label, on the first rows of the task.

pytest suites/test_judge.py --judge=Qwen/Qwen3-4B --rubric=translation
"""

from __future__ import annotations

import pytest

from harness.judging.probes import CANARIES
from harness.plugin import session_of
from harness.run.judges import exam_of
from harness.statistics.exams import FLOOR, PLAIN, STEPS, Exam, examine

REPEATED = 1e-3  # points that a score may move when frozen answers are judged again
MASS = 0.5  # of a local judge's probability that should be on its menu


@pytest.fixture(scope="session")
def exam(request: pytest.FixtureRequest) -> tuple[Exam, float | None]:
    scores = exam_of(session_of(request.config).bench)
    return examine(scores.scores, scores.again), scores.mass


@pytest.mark.parametrize("step", STEPS[1:])
def test_the_reference_is_above(exam: tuple[Exam, float | None], step: str) -> None:
    found = exam[0].beats[step]
    assert found.low >= FLOOR or found.estimate >= PLAIN, (
        f"the reference is above {step} on {100 * found.estimate:.0f} % of rows "
        f"[{100 * found.low:.0f}, {100 * found.high:.0f}]; expected {100 * FLOOR:.0f} % at least"
    )


@pytest.mark.parametrize("canary", CANARIES)
def test_a_fixed_string_does_not_fool_it(exam: tuple[Exam, float | None], canary: str) -> None:
    found = exam[0].canaries[canary]
    assert found.estimate >= FLOOR, (
        f"{CANARIES[canary]!r} is judged as good as the reference or better on "
        f"{100 * (1 - found.estimate):.0f} % of rows"
    )


def test_padding_earns_nothing(exam: tuple[Exam, float | None]) -> None:
    found = exam[0].length
    assert found.low <= 0.5, f"padding alone wins {100 * found.estimate:.0f} % of rows"


def test_the_same_answers_get_the_same_scores(exam: tuple[Exam, float | None]) -> None:
    moved = exam[0].repeated
    assert moved <= REPEATED, f"a score moved by {moved:.3g} points when it was judged again"


def test_it_means_to_answer_as_it_is_asked_to(exam: tuple[Exam, float | None]) -> None:
    mass = exam[1]
    if mass is None:
        pytest.skip("only a judge that is loaded here shows it")
    assert mass >= MASS, (
        f"its menu gets {100 * mass:.1f} % of its probability; the rest is on others"
    )
