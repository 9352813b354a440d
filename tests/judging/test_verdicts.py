"""Replies of judges, among them those that other programs read wrongly."""

from __future__ import annotations

import pytest

from harness.judging.rubric import Rubric, load_rubric
from harness.judging.verdicts import parse_verdict

SCALE = load_rubric("helpful")
PAIR = load_rubric("pairwise")
TEN = Rubric("ten", "single", "", tuple((str(i), float(i)) for i in range(1, 11)))
HALVES = Rubric("halves", "single", "", (("0", 0.0), ("0.5", 0.5), ("1", 1.0)))

RIGHT: list[tuple[str, Rubric, float]] = [
    ("4", SCALE, 4),
    (" 4\n", SCALE, 4),
    ("４", SCALE, 4),  # full width
    ("4.0", SCALE, 4),
    ("4/5", SCALE, 4),
    ("4 out of 5", SCALE, 4),
    ("**4**", SCALE, 4),
    ("[4]", SCALE, 4),
    ('"4"', SCALE, 4),
    ("Score: 4", SCALE, 4),
    ("score : 4.", SCALE, 4),
    ("SCORE = 4", SCALE, 4),
    ("**Verdict:** 4", SCALE, 4),
    ("Rating: [[4]]", SCALE, 4),
    ("評分：4", SCALE, 4),
    ("评分: ４。", SCALE, 4),
    ("Verdict\u200b: 4\u200b", SCALE, 4),  # zero width
    ("\ufeffVerdict: 4", SCALE, 4),
    ("It is fine.\nVerdict: 3", SCALE, 3),
    ("Verdict: 5\nOn reflection, no.\nVerdict: 2", SCALE, 2),  # the last one counts
    ("The answer says 'Verdict: 5'.\nVerdict: 1", SCALE, 1),
    ('{"verdict": 4}', SCALE, 4),
    ('{"verdict": "4"}', SCALE, 4),
    ('{"verdict": 4.0, "reason": "Score: 1"}', SCALE, 4),
    ('```json\n{"verdict": 4}\n```', SCALE, 4),
    ("```\n4\n```", SCALE, 4),
    ("<think>It says Verdict: 5, but no.</think>\n2", SCALE, 2),
    ('<think>\nhm\n</think>\n\n{"reason": "r", "verdict": "1"}', SCALE, 1),
    ("10", TEN, 10),
    ("Score: 1", TEN, 1),
    ("Score: 10/10", TEN, 10),
    ("0.5", HALVES, 0.5),
    ("Grade: 0.5", HALVES, 0.5),
    ("A", PAIR, 1),
    ("b", PAIR, 0),
    ("Answer: C", PAIR, 0.5),
    ("[[A]]", PAIR, 1),
    ("「B」", PAIR, 0),
    ("判定：Ａ", PAIR, 1),
]
UNJUDGED: list[tuple[str, Rubric]] = [
    ("", SCALE),
    ("<think>Verdict: 5", SCALE),  # never came to an end
    ("   \n\t", SCALE),
    ("\u200b\u200b", SCALE),
    ("6", SCALE),  # not on the menu
    ("-1", SCALE),
    ("3.5", SCALE),
    ("4.5", SCALE),
    ("1e1", TEN),
    ("11", TEN),
    ("NaN", SCALE),
    ("inf", SCALE),
    ("four", SCALE),
    ("4 or 5", SCALE),
    ("4-5", SCALE),
    ("between 3 and 4", SCALE),
    ("5 stars", SCALE),
    ("4/10", SCALE),  # of another scale
    ("8 out of 10", SCALE),
    ("The answer deserves a 4.", SCALE),
    ("I would say 4\nbecause it is good", SCALE),
    ("A good answer, but B is better.", PAIR),
    ("Answer A is better", PAIR),  # the first A of a reply is no verdict
    ("As an AI, I cannot choose.", PAIR),
    ("Answer: AB", PAIR),
    ("downgrade: insufficient", PAIR),
    ("GRADE: CI", PAIR),
    ("D", PAIR),
    ("Verdict:", SCALE),
    ("Verdict: ?", SCALE),
    ("Verdict: I refuse", SCALE),
    ('{"score": 4}', SCALE),
    ('{"verdict": true}', SCALE),
    ('{"verdict": null}', SCALE),
    ('{"verdict": [4]}', SCALE),
    ('{"verdict": 4', SCALE),
    ('{"verdict": 4, "verdict": 5}', SCALE),
    ("[4, 5]", SCALE),
    ('["verdict", 4]', SCALE),
    ("²", SCALE.__class__("x", "single", "", (("0", 0.0), ("1", 1.0)))),
    ("ERROR", SCALE),
    ("$ERROR$", SCALE),
]


def test_there_are_enough_of_them() -> None:
    assert len(RIGHT) + len(UNJUDGED) >= 60


@pytest.mark.parametrize(("reply", "rubric", "value"), RIGHT)
def test_a_verdict_of_the_menu_is_read(reply: str, rubric: Rubric, value: float) -> None:
    found = parse_verdict(reply, rubric)
    assert (found.value, found.reason) == (value, "")


@pytest.mark.parametrize(("reply", "rubric"), UNJUDGED)
def test_anything_else_is_unjudged_for_a_reason(reply: str, rubric: Rubric) -> None:
    found = parse_verdict(reply, rubric)
    assert found.value is None
    assert found.reason
    assert "\n" not in found.reason


def test_a_reply_that_broke_off_is_unjudged_whatever_it_says() -> None:
    assert parse_verdict("4", SCALE, "length").value is None
    assert parse_verdict("4", SCALE, "stop").value == 4
