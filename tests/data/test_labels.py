"""Files of what people said: both kinds, in every format, and a line for each mistake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.core import Example
from harness.data.labels import read_labels
from harness.errors import DataError
from harness.records import Label

ROWS = (Example("r1", "問", "答"), Example("r2", "問二", "答二"))


def write(path: Path, rows: Any) -> Path:
    path.write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
    return path


def test_scores_and_verdicts(tmp_path: Path) -> None:
    scores = [{"id": "r1", "answer": "甲", "score": 4, "who": "x"}]
    scores += [{"id": "r1", "answer": "乙", "score": 2.5}, {"id": "r2", "answer": "", "score": 0}]
    assert read_labels(write(tmp_path / "scores.json", scores), ROWS) == (
        Label("r1", ("甲",), 4.0),
        Label("r1", ("乙",), 2.5),
        Label("r2", ("",), 0.0),
    )
    pairs = [{"id": "r1", "answer": "甲", "other": "乙", "verdict": word} for word in "A"]
    pairs += [{"id": "r2", "answer": "甲", "other": "乙", "verdict": "c"}]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in pairs), "utf-8")
    assert [one.score for one in read_labels(path, ROWS)] == [1.0, 0.5]
    table = tmp_path / "scores.csv"
    table.write_text('id,answer,score\nr2,"a, b",3\n', "utf-8")
    assert read_labels(table, ROWS) == (Label("r2", ("a, b",), 3.0),)


GOOD = {"id": "r1", "answer": "甲", "score": 4}


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ([{**GOOD, "id": "r3"}], "id 'r3' is none of the 2 test rows"),
        ([{**GOOD, "score": "good"}], "field 'score': expected a number, found 'good'"),
        ([{**GOOD, "score": True}], "field 'score': expected a number, found True"),
        ([{**GOOD, "score": "nan"}], "field 'score': expected a number, found 'nan'"),
        ([{"id": "r1", "answer": "甲"}], "no field 'score'; expected id and score of an answer"),
        ([{"id": "r1", "score": 1}], "no field 'answer'"),
        ([{"id": "r1", "answer": "a", "verdict": "A"}], "no field 'other'"),
        ([{"id": "r1", "answer": "a", "other": "b", "verdict": "tie"}], "expected A, B or C"),
        ([GOOD, GOOD], "this answer to 'r1' was labelled in"),
        (
            [GOOD, {"id": "r1", "answer": "a", "other": "b", "verdict": "A"}],
            "scores and verdicts stand in one file",
        ),
        ([], "holds no rows"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, rows: Any, line: str) -> None:
    path = write(tmp_path / "labels.json", rows)
    with pytest.raises(DataError) as caught:
        read_labels(path, ROWS)
    assert line in str(caught.value)
    assert str(path) in str(caught.value)
