"""Rows that cannot be used: all of them named at once, or left out and counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.data.rows import Reading, inspect_rows, load_rows
from harness.data.task import load_task
from harness.errors import DataError

SKIP = Reading(skip_bad_rows=True)
GOOD = {"instruction": "問", "output": "答"}


def write(path: Path, *rows: object) -> Path:
    texts = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(texts), "utf-8")
    return path


def test_all_faults_are_listed_at_once(tmp_path: Path) -> None:
    bad = {**GOOD, "output": ""}
    file = write(tmp_path / "a.jsonl", GOOD, bad, "{oops", {**GOOD, "input": 3}, [1])
    with pytest.raises(DataError) as caught:
        load_rows(file)
    assert str(caught.value).splitlines() == [
        f"{file}: 4 of 5 rows are unusable (--skip-bad-rows leaves them out); they are:",
        "line 2, field 'output': the answer is empty",
        "line 3: not valid JSON: Expecting property name enclosed in double quotes",
        "line 4, field 'input': expected a text, found a number",
        "line 5: expected an object with fields, found an array",
    ]


def test_of_many_faults_the_first_twenty_are_listed(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", GOOD, *({**GOOD, "output": ""} for _ in range(27)))
    with pytest.raises(DataError) as caught:
        load_rows(file)
    head, *lines, last = str(caught.value).splitlines()
    assert "27 of 28 rows are unusable" in head
    assert head.endswith("the first 20:")
    assert [line.partition(",")[0] for line in lines] == [f"line {n}" for n in range(2, 22)]
    assert last == "… and 7 more"


def test_bad_rows_are_left_out_and_counted_in_both_files(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "問"}]
    open_end = {"id": "x", "conversations": turns}
    closed = {"id": "y", "conversations": [*turns, {"from": "gpt", "value": "答"}]}
    test = write(tmp_path / "test.json", closed, open_end)
    bad = {"instruction": "天", "output": " "}
    train = write(
        tmp_path / "train.json",
        bad,
        {**bad, "output": "地"},
        bad,
        bad,
        bad,
        {"instruction": 1, "output": "x"},
    )
    task = load_task(test, train, how=SKIP)
    assert [row.id for row in task.examples] == ["y"]
    assert [row.output for row in task.pool] == ["地"]
    assert task.warnings == (
        f"{test}: 1 of 2 rows left out (--skip-bad-rows): 1 × a turn: the last turn is the user's "
        f"(line 2 (id 'x'))",
        f"{train}: 5 of 6 rows left out (--skip-bad-rows): 4 × field 'output': the answer is empty "
        f"(line 1, line 3, line 4, …); 1 × field 'instruction': expected a text, found a number "
        f"(line 6)",
    )


def test_the_rows_that_stay_are_those_of_a_clean_file(tmp_path: Path) -> None:
    """Ids, which decide every draw, do not depend on what was left out."""
    rows = [{"instruction": f"問{i}", "output": f"答{i}"} for i in range(4)]
    clean = load_rows(write(tmp_path / "a.jsonl", *rows))
    dirty = write(tmp_path / "b.jsonl", {**GOOD, "output": ""}, *rows[:2], "{", *rows[2:])
    assert load_rows(dirty, SKIP) == clean


def test_of_rows_with_one_id_the_first_usable_one_stays(tmp_path: Path) -> None:
    rows = [
        {**GOOD, "id": "a", "output": ""},
        {**GOOD, "id": "a"},
        {**GOOD, "id": "a", "output": "又"},
    ]
    file = write(tmp_path / "a.jsonl", *rows)
    (row,) = load_rows(file, SKIP)
    assert row.output == "答"
    assert [fault.line for fault in inspect_rows(file).faults] == [
        "line 1 (id 'a'), field 'output': the answer is empty",
        "line 3, field 'id': 'a' also stands in line 2; ids must be unique",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[{]", "not valid JSON"),
        ("oops", "not valid JSON"),
        ("[]", "no rows"),
        (
            '[{"instruction": "x", "output": ""}]',
            "1 of 1 rows are unusable (no usable row is left)",
        ),
        ('[{"a": "x"}, {"a": "y"}]', "in no layout that is read"),
        ('{"data": []}', "expected a JSON array of rows"),
    ],
)
def test_a_fault_of_the_whole_file_is_never_left_out(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(DataError) as caught:
        load_rows(write(tmp_path / "a.json", text), SKIP)
    assert says in str(caught.value)


def test_fields_of_csv_that_are_too_few_are_a_fault_of_their_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("instruction,output\n問,答\n甲\n乙,丙,丁\n", "utf-8")
    (row,) = load_rows(tmp_path / "a.csv", SKIP)
    assert row.output == "答"
    lines = [fault.line for fault in inspect_rows(tmp_path / "a.csv").faults]
    assert [line.partition(";")[0] for line in lines] == [
        "line 3: 1 fields, but the header has 2",
        "line 4: 3 fields, but the header has 2",
    ]
