"""Files of predictions: what is read, what is refused in one line, what is written."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from harness.core import Example
from harness.data.predictions import read_predictions, write_predictions
from harness.errors import DataError, OptionError, StoreError
from harness.records import Answer

ROWS = tuple(Example(name, "問", "答") for name in ("a-1", "a-2", "7"))
GOOD = [{"id": "a-1", "output": "甲"}, {"id": "7", "output": ""}, {"id": "a-2", "output": "乙"}]


def put(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        path.write_text(text, encoding="utf-8")
    return path


def texts(found: tuple[Answer, ...]) -> list[tuple[str, str]]:
    return [(one.id, one.text) for one in found]


EXPECTED = [("a-1", "甲"), ("a-2", "乙"), ("7", "")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.json", GOOD),
        ("p.jsonl", "\n".join(map(json.dumps, GOOD))),
        ("p.csv", "id,output\r\na-1,甲\r\n7,\r\na-2,乙\r\n"),
        ("p.json", [{**row, "extra": [1]} for row in GOOD]),
        ("p.json", [{"id": row["id"], "prediction": row["output"]} for row in GOOD]),
        ("p.jsonl", "\n".join(json.dumps({"id": r["id"], "answer": r["output"]}) for r in GOOD)),
        ("p.csv", "n,text,id\n1,甲,a-1\n2,乙,a-2\n3,,7\n"),
        ("p.json", [*GOOD[::2], {"id": 7, "output": ""}]),
        ("predictions", "\n".join(map(json.dumps, GOOD))),
    ],
    ids=["array", "lines", "csv", "more", "prediction", "answer", "text", "number", "no suffix"],
)
def test_answers_come_in_the_order_of_the_rows(tmp_path: Path, name: str, content: object) -> None:
    found = read_predictions(put(tmp_path, name, content), ROWS)
    assert texts(found) == EXPECTED
    assert {one.ended for one in found} == {""}


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("p.json", b"", "the file is empty"),
        ("p.json", "[]", "3 of 3 test rows have no prediction, the first is 'a-1'"),
        ("p.json", GOOD[:2], "1 of 3 test rows have no prediction, the first is 'a-2'; an empty"),
        ("p.json", [*GOOD, {"id": "a-3", "output": ""}], "row 4: id 'a-3' is none of the 3 test rows (did you mean 'a-"),
        ("p.jsonl", "\n".join(map(json.dumps, [*GOOD, GOOD[1]])), "line 4: id '7' stood in line 2 already"),
        ("p.json", [{"id": " ", "output": "x"}], "row 1, field 'id': it is empty"),
        ("p.csv", "id,output\n,x\n", "line 2, field 'id': it is empty"),
        ("p.json", [{"output": "x"}], "row 1: no field 'id'; found 'output'"),
        ("p.json", [{"id": "a-1", "output": None}], "row 1, field 'output': expected a text, found null"),
        ("p.json", [{"id": "a-1", "output": 3}], "row 1, field 'output': expected a text, found a number"),
        ("p.json", [{"id": "a-1", "output": ["甲"]}], "row 1, field 'output': expected a text, found a"),
        ("p.json", [{"id": ["a-1"], "output": "x"}], "row 1, field 'id': expected a text, found a"),
        ("p.json", ["甲"], "row 1: expected an object with id and output, found a text"),
        ("p.json", [{"id": "a-1", "reply": "x"}], "row 1: no field 'output' (or 'prediction', 'answer' or 'text'); found 'id', 'reply'"),
        ("p.json", [{"id": "a-1", "output": "答", "prediction": "x"}], "row 1: fields 'output', 'prediction': which one is the answer? keep one"),
        ("p.json", '[{"id": "a-1", "output": "x", "output": "y"}]', "row 1, field 'output': stands twice"),
        ("p.json", {"a-1": "x"}, "line 1: no field 'output' (or 'prediction', 'answer' or 'text'); found 'a-1'"),
        ("p.json", '[{"id": "a-1", "output": "甲"', "line 1, column"),
        ("p.json", b'[{"id": "a-1", "output": "\xff"}]', "line 1: not UTF-8 (byte 0xff)"),
        ("p.json", '[{"id": "a-1", "output": "\\ud800"}]', "row 1, field 'output': a lone surrogate"),
        ("p.csv", "name,output\na-1,x\n", "line 1: column 'id' is not in the header"),
        ("p.csv", "id;output\na-1;x;y\n", "line 2: 3 fields, but the header has 2"),
        ("p.csv", 'id,output\na-1,"x\n', "line 2: not valid CSV"),
        ("p.csv", "id,output\na-1,x,y\n", "line 2: 3 fields, but the header has 2"),
    ],
)  # fmt: skip
def test_a_broken_file_is_one_line(tmp_path: Path, name: str, content: object, line: str) -> None:
    path = put(tmp_path, name, content)
    with pytest.raises(DataError) as caught:
        read_predictions(path, ROWS)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert line in message
    assert "\n" not in message


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json: no such file"):
        read_predictions(tmp_path / "none.json", ROWS)


ODD = ('a,"b"\r\nc\u2028d', "<script>\x01\t", "", "=1+1", "𠀀 é\n\n")
ANSWERS = [Answer(f"r{i}", (1,), text, "limit", "", (), 3) for i, text in enumerate(ODD)]


@pytest.mark.parametrize("name", ["p.json", "p.jsonl", "p.csv", "P.CSV"])
def test_what_is_written_is_read_again(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_predictions(path, ANSWERS)
    rows = [Example(one.id, "", "") for one in ANSWERS]
    assert texts(read_predictions(path, rows)) == [(one.id, one.text) for one in ANSWERS]


def test_the_csv_is_as_another_reader_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    write_predictions(path, ANSWERS)
    with path.open(encoding="utf-8", newline="") as file:
        assert [*csv.DictReader(file)] == [{"id": x.id, "output": x.text} for x in ANSWERS]


def test_nothing_is_written_that_could_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    write_predictions(path, ANSWERS)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"row 'n' has a NUL character.*\.json or \.jsonl"):
        write_predictions(path, [Answer("n", (), "a\0b", "limit", "", (), 1)])
    with pytest.raises(OptionError, match=r"p\.txt: predictions are written as \.json, \.jsonl"):
        write_predictions(tmp_path / "p.txt", ANSWERS)
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]
