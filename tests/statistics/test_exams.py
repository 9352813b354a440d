"""Judges whose faults are known, and what the examination says of each."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.core import Example
from harness.judging.probes import CANARIES, probes
from harness.statistics.exams import STEPS, Exam, examine
from tests.builders.answers import rows

ROWS = rows(40)
Judge = Callable[[Example, str], float]


def exam(judge: Judge) -> Exam:
    made = probes(ROWS)
    scores = {
        kind: [judge(row, text) for row, text in zip(ROWS, texts, strict=True)]
        for kind, texts in made.items()
    }
    return examine(scores, scores["reference"])


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


def test_a_judge_that_is_right_is_trusted() -> None:
    found = exam(right)
    assert found.trusted
    assert found.failures == []
    assert "No fixed string fools it." in found.sentences
    assert not any("prefers length" in one for one in found.sentences)
    assert all(found.beats[step].estimate > 0.9 for step in STEPS[1:])


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


def test_a_judge_that_changes_its_mind_is_told() -> None:
    made = probes(ROWS)
    scores = {kind: [3.0] * len(ROWS) for kind in made}
    assert examine(scores, [3.25] * len(ROWS)).repeated == pytest.approx(0.25)
