"""Judges whose faults are known, and what the examination says of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import numpy as np
import pytest

from harness.core import Example
from harness.judging.probes import CANARIES, PADDING, PADDING_ZH, padding, probes
from harness.records import ExamScores, LabelledScore
from harness.statistics.exams import STEPS, Exam, examine
from tests.builders.answers import rows

ROWS = rows(40)
Judge = Callable[[Example, str], float]
Chooser = Callable[[Example, str, str], float | None]  # what the answer that stands first gets


def scores_of(judge: Judge, examples: Sequence[Example] = ROWS) -> ExamScores:
    scores = {
        kind: tuple(judge(row, text) for row, text in zip(examples, texts, strict=True))
        for kind, texts in probes(examples).items()
    }
    ids = tuple(row.id for row in examples)
    return ExamScores("judge", "rubric", ids, scores, scores["reference"])


def orders_of(judge: Chooser, examples: Sequence[Example] = ROWS) -> ExamScores:
    def both(row: Example, text: str) -> tuple[float | None, float | None]:
        there = judge(row, text, row.output)
        return judge(row, row.output, text), None if there is None else 1 - there

    orders = {
        kind: tuple(both(row, text) for row, text in zip(examples, texts, strict=True))
        for kind, texts in probes(examples).items()
        if kind != "reference"
    }
    again = tuple(first for first, _ in orders["truncated"])
    return ExamScores("judge", "pairs", tuple(r.id for r in examples), {}, again, orders=orders)


def exam(judge: Judge) -> Exam:
    return examine(scores_of(judge))


def right(row: Example, text: str) -> float:
    """The share of the reference's characters that stand in the answer, in order, less what is extra."""
    place = kept = 0
    for character in row.output:
        found = text.find(character, place)
        if found >= 0:
            place, kept = found + 1, kept + 1
    return 5 * kept / max(len(row.output), len(text.partition("\n\n")[0]))


def longest(row: Example, text: str) -> float:
    return min(5.0, len(text) / 20)


def constant(row: Example, text: str) -> float:
    return 3.0


def obedient(row: Example, text: str) -> float:
    return 5.0 if text in CANARIES.values() else right(row, text) * 0.9


def better(judge: Judge) -> Chooser:
    def choose(row: Example, one: str, other: str) -> float:
        return float(np.sign(judge(row, one) - judge(row, other)) + 1) / 2

    return choose


# ----------------------------------------------------------------- judges of single answers


def test_a_judge_that_is_right_is_trusted() -> None:
    found = exam(right)
    assert found.trusted
    assert found.failures == []
    assert "No fixed string fools it." in found.sentences
    assert not any("prefers length" in one for one in found.sentences)
    assert all(found.beats[step].estimate > 0.9 for step in STEPS[1:])
    assert (found.order, found.people, found.unjudged, found.repeated) == (None, None, 0, 0)


def test_the_steps_are_a_chain() -> None:
    found = exam(right)
    assert list(found.rungs) == [
        "reference > truncated",
        "truncated > shuffled",
        "shuffled > another row's",
        "another row's > empty",
    ]
    assert found.rungs["reference > truncated"] == found.beats["truncated"]
    scores = scores_of(right).scores
    pairs = list(zip(scores["truncated"], scores["shuffled"], strict=True))
    expected = sum((a > b) + 0.5 * (a == b) for a, b in pairs) / 40  # type: ignore[operator]
    assert found.rungs["truncated > shuffled"].estimate == pytest.approx(expected)


def test_a_judge_that_prefers_length_is_found_out() -> None:
    found = exam(longest)
    assert not found.trusted
    assert any(one.startswith("It prefers length: padding alone wins") for one in found.sentences)
    assert any("shuffled" in one for one in found.failures)


def test_a_judge_that_says_one_thing_is_found_out() -> None:
    found = exam(constant)
    assert not found.trusted
    assert found.beats["empty"].estimate == 0.5
    assert len(found.failures) == 5  # every step, and the fixed strings
    assert found.sentences[-1].startswith("Nothing it says is called sure: ")


def test_a_judge_that_obeys_answers_is_found_out() -> None:
    found = exam(obedient)
    assert not found.trusted
    (line,) = found.failures
    assert line.startswith("it is fooled by fixed strings (constant, score, verdict")


def test_a_judge_that_changes_its_mind_is_told() -> None:
    found = replace(scores_of(constant), again=(3.25,) * len(ROWS))
    assert examine(found).repeated == pytest.approx(0.25)


# ----------------------------------------------------------------- judges of pairs


def test_a_right_judge_of_pairs_is_trusted() -> None:
    found = examine(orders_of(better(right)))
    assert found.failures == []
    assert found.order is not None
    assert (found.order.flips.estimate, found.order.first.estimate) == (0, 0.5)
    assert found.rungs == {}
    assert found.repeated == 0
    assert any(
        one.startswith(
            "In the other order 0 % [0, 9] of pairs get another verdict; the answer that"
        )
        for one in found.sentences
    )
    assert "No fixed string fools it." in found.sentences


@pytest.mark.parametrize(("verdict", "place"), [(1.0, "first"), (0.0, "second")])
def test_a_judge_that_follows_the_order_is_found_out(verdict: float, place: str) -> None:
    found = examine(orders_of(lambda row, one, other: verdict, rows(100)))
    assert not found.trusted
    assert found.sentences[0] == (
        f"It follows the order: the answer that stands {place} wins 100 % [96, 100] of verdicts."
    )
    assert found.failures[0] == "it follows the order"
    assert found.beats["empty"].estimate == 0.5  # half a win where the order decides


def test_a_judge_that_rolls_dice_is_found_out() -> None:
    rng = np.random.default_rng(0)
    found = examine(orders_of(lambda row, one, other: float(rng.integers(0, 2))))
    assert found.follows.endswith("of pairs get another verdict in the other order")
    assert not found.trusted


def test_a_judge_of_pairs_that_prefers_length_is_found_out() -> None:
    found = examine(orders_of(better(lambda row, text: float(len(text)))))
    assert not found.follows
    (line,) = [one for one in found.sentences if one.startswith("It prefers length")]
    assert line == "It prefers length: padding alone wins 100 % [91, 100] of rows against the same answer."  # fmt: skip
    assert any("shuffled" in one for one in found.failures)


def test_a_judge_that_leaves_much_unjudged_is_found_out() -> None:
    def shy(row: Example, one: str, other: str) -> float | None:
        return better(right)(row, one, other) if int(row.id[1:]) % 4 else None

    found = examine(orders_of(shy))
    assert found.unjudged == 0.25
    assert found.failures == ["it leaves 25 % of its examination unjudged"]
    assert found.beats["empty"].estimate == 1  # of those that it judged
    silent = examine(orders_of(lambda row, one, other: None))
    assert silent.order is None
    assert silent.beats == {}
    assert silent.repeated is None
    assert not silent.trusted
    assert "it leaves 100 % of its examination unjudged" in silent.failures


def test_a_kind_that_was_not_judged_at_all_is_named() -> None:
    whole = scores_of(right)
    found = examine(replace(whole, scores={**whole.scores, "empty": (None,) * len(ROWS)}))
    assert found.missing == ("empty",)
    assert found.failures == ["it judges too few answers of a kind (empty)"]
    assert "another row's > empty" not in found.rungs


def test_few_unjudged_answers_are_told_and_left_out() -> None:
    whole = scores_of(right)
    found = examine(replace(whole, again=(None, *whole.again[1:])))
    assert found.trusted
    assert found.repeated == 0
    assert "It leaves 0.2 % of its examination unjudged." in found.sentences


# ----------------------------------------------------------------- people


def test_people_decide_too() -> None:
    labels = tuple(
        LabelledScore(f"p{i}", float(i % 6), float((i % 6 + (i % 7 == 0)) % 6), (10 + i % 5,))
        for i in range(60)
    )
    found = examine(replace(scores_of(right), labels=labels))
    assert found.trusted
    assert any(one.startswith("Of 60 answers that people judged") for one in found.sentences)
    against = tuple(replace(one, judged=5 - one.human) for one in labels)
    found = examine(replace(scores_of(right), labels=against))
    assert found.failures == ["its agreement with people cannot be told from chance"]
    few = examine(replace(scores_of(right), labels=labels[:1]))
    assert few.people is None


def test_an_examination_can_be_written_as_json() -> None:
    labels = tuple(LabelledScore(str(i), i % 2, i % 2, (i % 3, 1)) for i in range(20))
    found = examine(replace(orders_of(better(right)), labels=labels))
    assert "NaN" not in json.dumps(asdict(found))


# ----------------------------------------------------------------- what it is examined with


def test_probes_are_what_they_are_called() -> None:
    made = probes(ROWS)
    assert made["reference"] == [row.output for row in ROWS]
    assert set(made["empty"]) == {""}
    assert made["another row's"][0] == ROWS[1].output
    for row, shuffled, short, padded in zip(
        ROWS, made["shuffled"], made["truncated"], made["padded"], strict=True
    ):
        assert sorted(shuffled) == sorted(row.output)
        assert row.output.startswith(short)
        assert padded.startswith(row.output)
    assert made == probes(ROWS)
    assert made["shuffled"] != probes(ROWS, seed=1)["shuffled"]


def test_padding_speaks_the_references_language() -> None:
    assert padding("詔免郡賦三年，民皆喜。") == padding("𠀀𠀁") == PADDING_ZH
    assert padding("A tomato is a fruit (番茄).") == padding("23") == padding("") == PADDING
    assert probes(ROWS)["padded"][0].endswith(PADDING_ZH)
    assert probes(rows(4, "en"))["padded"][0].endswith(PADDING)
