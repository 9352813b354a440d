"""Is this judge to be believed? Checks that need no human label, on the first rows of the task.

pytest suites/test_judge.py --judge=Qwen/Qwen3-4B --rubric=translation
"""

from __future__ import annotations

import pytest

from harness.judging.probes import CANARIES
from harness.plugin import session_of
from harness.run.judges import exam_of
from harness.statistics.exams import FLOOR, PLAIN, STEPS, UNJUDGED, Exam, examine

REPEATED = 1e-3  # points that a score may move when frozen answers are judged again
MASS = 0.5  # of a local judge's probability that should be on its menu


@pytest.fixture(scope="session")
def exam(request: pytest.FixtureRequest) -> tuple[Exam, float | None]:
    scores = exam_of(session_of(request.config).bench)
    return examine(scores), scores.mass


@pytest.mark.parametrize("step", STEPS[1:])
def test_the_reference_is_above(exam: tuple[Exam, float | None], step: str) -> None:
    assert step in exam[0].beats, f"fewer than two answers of the kind {step} were judged"
    found = exam[0].beats[step]
    assert found.low >= FLOOR or found.estimate >= PLAIN, (
        f"the reference is above {step} on {100 * found.estimate:.0f} % of rows "
        f"[{100 * found.low:.0f}, {100 * found.high:.0f}]; expected {100 * FLOOR:.0f} % at least"
    )


@pytest.mark.parametrize("canary", CANARIES)
def test_a_fixed_string_does_not_fool_it(exam: tuple[Exam, float | None], canary: str) -> None:
    assert canary in exam[0].canaries, f"{CANARIES[canary]!r} was judged on fewer than two rows"
    found = exam[0].canaries[canary]
    assert found.estimate >= FLOOR, (
        f"{CANARIES[canary]!r} is judged as good as the reference or better on "
        f"{100 * (1 - found.estimate):.0f} % of rows"
    )


def test_padding_earns_nothing(exam: tuple[Exam, float | None]) -> None:
    found = exam[0].length
    assert found is not None, "fewer than two padded references were judged"
    assert found.low <= 0.5, f"padding alone wins {100 * found.estimate:.0f} % of rows"


def test_it_does_not_follow_the_order(exam: tuple[Exam, float | None]) -> None:
    if exam[0].order is None:
        pytest.skip("only a judge of pairs sees an order")
    assert not exam[0].follows, exam[0].follows


def test_it_judges_what_it_is_asked(exam: tuple[Exam, float | None]) -> None:
    unjudged = exam[0].unjudged
    assert unjudged <= UNJUDGED, f"{100 * unjudged:.0f} % of its examination is unjudged"


def test_people_agree_with_it(exam: tuple[Exam, float | None]) -> None:
    people = exam[0].people
    if people is None:
        pytest.skip("nobody judged answers of this task")
    assert not people.failures, " ".join(people.sentences)


def test_the_same_answers_get_the_same_scores(exam: tuple[Exam, float | None]) -> None:
    moved = exam[0].repeated
    assert moved is not None, "nothing was judged twice"
    assert moved <= REPEATED, f"a score moved by {moved:.3g} points when it was judged again"


def test_it_means_to_answer_as_it_is_asked_to(exam: tuple[Exam, float | None]) -> None:
    mass = exam[1]
    if mass is None:
        pytest.skip("only a judge that is loaded here shows it")
    assert mass >= MASS, (
        f"its menu gets {100 * mass:.1f} % of its probability; the rest is on others"
    )
