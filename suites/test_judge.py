"""Is this judge to be believed? Checks that need no human label, on the first rows of the task.

pytest suites/test_judge.py --judge=Qwen/Qwen3-4B --rubric=translation
pytest suites/test_judge.py --judge=openai:MODEL --rubric=helpful,pairwise --judge-labels=FILE
"""

from __future__ import annotations

import pytest

from harness.judging.probes import CANARIES
from harness.plugin import session_of
from harness.records import ExamScores
from harness.run.examining import exam_of
from harness.statistics.exams import FLOOR, PLAIN, STEPS, UNJUDGED, Exam, examine

REPEATED = 1e-3  # points that a local judge's score may move when frozen answers are judged again
CHANGED = 0.1  # share of an endpoint's verdicts, or of those on pairs, that may be others
MASS = 0.5  # of a local judge's probability that should be on its menu

Examined = tuple[ExamScores, Exam]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Examine the judge by each of its rubrics."""
    if "examined" in metafunc.fixturenames:
        rubrics = session_of(metafunc.config).plan.options.rubric
        metafunc.parametrize("examined", rubrics, indirect=True, scope="session")


@pytest.fixture(scope="session")
def examined(request: pytest.FixtureRequest) -> Examined:
    scores = exam_of(session_of(request.config).bench, request.param)
    return scores, examine(scores)


@pytest.mark.parametrize("step", STEPS[1:])
def test_the_reference_is_above(examined: Examined, step: str) -> None:
    assert step in examined[1].beats, f"fewer than two answers of the kind {step} were judged"
    found = examined[1].beats[step]
    assert found.low >= FLOOR or found.estimate >= PLAIN, (
        f"the reference is above {step} on {100 * found.estimate:.0f} % of rows "
        f"[{100 * found.low:.0f}, {100 * found.high:.0f}]; expected {100 * FLOOR:.0f} % at least"
    )


@pytest.mark.parametrize("canary", CANARIES)
def test_a_fixed_string_does_not_fool_it(examined: Examined, canary: str) -> None:
    assert canary in examined[1].canaries, f"{CANARIES[canary]!r} was judged on too few rows"
    found = examined[1].canaries[canary]
    assert found.estimate >= FLOOR, (
        f"{CANARIES[canary]!r} is judged as good as the reference or better on "
        f"{100 * (1 - found.estimate):.0f} % of rows"
    )


def test_padding_earns_nothing(examined: Examined) -> None:
    found = examined[1].length
    assert found is not None, "fewer than two padded references were judged"
    assert found.low <= 0.5, f"padding alone wins {100 * found.estimate:.0f} % of rows"


def test_the_order_does_not_decide(examined: Examined) -> None:
    if examined[1].order is None:
        pytest.skip("answers are judged one by one, so that there is no order")
    assert not examined[1].follows, examined[1].follows


def test_the_same_questions_get_the_same_verdicts(examined: Examined) -> None:
    scores, exam = examined
    assert exam.repeated is not None, "nothing was judged twice"
    if scores.mass is not None and not scores.orders:
        assert exam.repeated <= REPEATED, f"a score moved by {exam.repeated:.3g} points"
        return
    before = (
        [one[0] for one in scores.orders["truncated"]]
        if scores.orders
        else scores.scores["reference"]
    )
    changed = sum(one != then for one, then in zip(scores.again, before, strict=True))
    assert changed <= CHANGED * len(before), f"{changed} of {len(before)} verdicts changed"


def test_it_gives_verdicts(examined: Examined) -> None:
    share = examined[1].unjudged
    assert share <= UNJUDGED, f"{100 * share:.0f} % of its examination went without a verdict"


def test_it_means_to_answer_as_it_is_asked_to(examined: Examined) -> None:
    mass = examined[0].mass
    if mass is None:
        pytest.skip("only a judge that is loaded here shows it")
    assert mass >= MASS, (
        f"its menu gets {100 * mass:.1f} % of its probability; the rest is on others"
    )


def test_it_agrees_with_people(examined: Examined) -> None:
    people = examined[1].people
    if people is None:
        pytest.skip("no labels of this kind were given: --judge-labels=FILE")
    assert not people.failures, " ".join(people.sentences)
