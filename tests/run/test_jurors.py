"""Which questions a local judge is asked together."""

from __future__ import annotations

from harness.run.jurors import ALIKE, CHUNK, _together


def test_questions_about_one_row_are_asked_together() -> None:
    rows = ["a", "b", "c"] * ALIKE + ["d"]
    found = _together(rows)
    assert [{rows[place] for place in places} for places in found] == [{"a"}, {"b"}, {"c"}, {"d"}]


def test_every_question_is_asked_once_and_the_log_is_written_now_and_then() -> None:
    rows = [f"r{i // 2}" for i in range(150)] + ["x"] * 130
    found = _together(rows)
    assert sorted(place for places in found for place in places) == list(range(280))
    assert max(map(len, found)) <= CHUNK
    assert _together([]) == []
