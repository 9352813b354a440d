"""Formats: what every kind of file is read as, and the line that every mistake in one gets."""

from __future__ import annotations

import csv
import hashlib
import json
import random
from pathlib import Path

import pytest

from harness.core import Example
from harness.data.readers import FORMATS
from harness.data.rows import Reading, load_rows
from harness.data.task import load_task
from harness.errors import DataError, OptionError
from tests.builders.tasks import write_rows

ROW = '{"id": "a", "instruction": "問", "output": "答"}'
EXPECTED = Example("a", "問", "答")
TURNS = [{"from": "human", "value": "問"}, {"from": "gpt", "value": "答"}]


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode("utf-8"))
    return path


AUTO = {
    "array": ("a.json", f" \n[{ROW}]"),
    "lines": ("a.jsonl", f"\n{ROW}\n"),
    "csv": ("a.csv", "id,instruction,output\na,問,答\n"),
    "upper case": ("A.CSV", "[text],id,instruction,output\nx,a,問,答\n"),
    "array by its first character": ("a.txt", f"\n [{ROW}]"),
    "lines by their first character": ("a", f"{ROW}\n"),
    "csv by its first character": ("a.data", "id,instruction,output\na,問,答\n"),
}


@pytest.mark.parametrize(("name", "text"), AUTO.values(), ids=AUTO.keys())
def test_auto_goes_by_suffix_and_then_by_the_first_character(
    tmp_path: Path, name: str, text: str
) -> None:
    assert load_rows(write(tmp_path / name, text)) == [EXPECTED]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.txt"])
def test_csv_by_flag_reads_any_suffix(tmp_path: Path, name: str) -> None:
    file = write(tmp_path / name, "id,instruction,output\na,問,答\n")
    assert load_rows(file, Reading("csv")) == [EXPECTED]


@pytest.mark.parametrize("name", ["a.json", "a.csv"])
def test_instruction_by_flag_reads_json_of_any_suffix(tmp_path: Path, name: str) -> None:
    assert load_rows(write(tmp_path / name, f"[{ROW}]"), Reading("instruction")) == [EXPECTED]


def test_both_files_of_a_task_are_read_in_the_format(tmp_path: Path) -> None:
    test = write(tmp_path / "test.json", "instruction,output\n甲,乙\n")
    train = write(tmp_path / "train.json", "instruction,output\n丙,丁\n")
    task = load_task(test, train, how=Reading("csv"))
    assert (task.examples[0].output, task.pool[0].output) == ("乙", "丁")


def test_an_unknown_format_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(OptionError) as caught:
        load_rows(write(tmp_path / "a.json", f"[{ROW}]"), Reading("conversation"))
    assert "--format=conversation: no such format (did you mean 'conversations'?)" in str(
        caught.value
    )
    assert str(caught.value).endswith(", ".join(FORMATS))


BOTH = json.dumps([{"instruction": "一", "output": "二", "conversations": TURNS}])
MISTAKEN = {
    "both kinds in a row": (
        "auto",
        BOTH,
        "row 1: has both 'conversations' and 'instruction'; say which to read with "
        "--format=conversations or --format=instruction",
    ),
    "a conversation read as instruction": (
        "instruction",
        json.dumps([{"conversations": TURNS}]),
        "row 1: no field 'instruction', which --format=instruction reads, but 'conversations'",
    ),
    "an instruction read as conversation": (
        "conversations",
        f"[{ROW}]",
        "row 1 (id 'a'): no field 'conversations', which --format=conversations reads, "
        "but 'instruction'; use --format=instruction",
    ),
    "neither kind": ("conversations", '[{"text": "x"}]', "no field 'conversations'; found 'text'"),
}


@pytest.mark.parametrize(("format", "text", "says"), MISTAKEN.values(), ids=MISTAKEN.keys())
def test_the_wrong_kind_of_row(tmp_path: Path, format: str, text: str, says: str) -> None:
    file = write(tmp_path / "rows.data", text)
    with pytest.raises(DataError) as caught:
        load_rows(file, Reading(format))
    assert says in str(caught.value)
    assert str(caught.value).startswith(str(file))


def test_a_flag_says_which_kind_a_row_of_both_is(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", BOTH)
    assert load_rows(file, Reading("instruction"))[0].instruction == "一"
    assert load_rows(file, Reading("conversations"))[0].instruction == "問"


def test_every_column_of_csv_and_others_are_ignored(tmp_path: Path) -> None:
    text = (
        "text,direction,score,output,input,instruction,id,title,conversations\r\n"
        "full,modern,4.5,答,文,問,a,x,y\r\n"
        "full,,,答,,翻譯成文言文：天,b,x,y\r\n"
    )
    assert load_rows(write(tmp_path / "a.csv", text)) == [
        Example("a", "問\n文", "答", (("direction", "modern"),), score=4.5),
        Example("b", "翻譯成文言文：天", "答", (("direction", "classical"),)),
    ]


def test_csv_is_read_as_the_same_json_is(tmp_path: Path) -> None:
    rows = [{"instruction": f"問,{i}", "input": '"文"\n\n二', "output": "答\r\n"} for i in "ab"]
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    as_json = write(tmp_path / "a.json", json.dumps(rows))
    assert load_rows(tmp_path / "a.csv") == load_rows(as_json)


def test_csv_with_line_breaks_in_quotes_and_blank_lines(tmp_path: Path) -> None:
    text = '\ninstruction,output\n"一\n二\r\n三\u2028四",答\n\n問,"答\n"\n'
    first, second = load_rows(write(tmp_path / "a.csv", text))
    assert first.instruction == "一\n二\r\n三\u2028四"
    assert second.output == "答\n"


def test_a_csv_field_larger_than_the_limit_of_the_csv_module(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    large = "長" * (before + 1)
    file = write(tmp_path / "a.csv", f"instruction,output\n問,{large}\n")
    assert load_rows(file)[0].output == large
    assert csv.field_size_limit() == before


BROKEN_CSV = {
    "header only": ("instruction,output\n", ": no rows; expected at least one"),
    "a column missing": (
        "id,instructions,output\na,b,c\n",
        ", line 1: no column 'instruction' (did you mean 'instructions'?); the header has "
        "'id', 'instructions', 'output'",
    ),
    "a column twice": (
        "instruction,output,text,text\n",
        ", line 1: column 'text' stands twice in the header",
    ),
    "the header again": (
        "instruction,output\na,b\n\ufeffinstruction,output\nc,d\n",
        ", line 3: repeats the header; were two files joined?",
    ),
    "a field too many": (
        'instruction,output\n"a\nb",c\n\nd,e,f\n',
        ", line 5: 3 fields, but the header has 2",
    ),
    "an open quote": (
        'instruction,output\n"a\n',
        ", line 2: not valid CSV: unexpected end of data; a quote is not closed",
    ),
    "a row too short": ("instruction,output\na\n", ", line 2: 1 fields, but the header has 2"),
    "text behind a quote": ('instruction,output\n"a"b,c\n', ", line 2: not valid CSV: "),
    "a NUL": ("instruction,output\na,b\nc,\0\n", ", line 3: a NUL character"),
    "an empty answer": (
        'instruction,output\na,b\n"c\nd",\n',
        ", line 3, field 'output': the answer is empty",
    ),
    "an empty id": ("id,instruction,output\n,b,c\n", ", line 2 (id ''), field 'id': it is em"),
    "an id twice": (
        "id,instruction,output\na,b,c\na,d,e\n",
        ", line 3, field 'id': 'a' also stands in line 2",
    ),
    "a score in words": (
        "instruction,output,score\na,b,good\n",
        ", line 2, field 'score': expected a number, found 'good'",
    ),
    "a score that is none": (
        "instruction,output,score\na,b,nan\n",
        ", line 2, field 'score': expected a finite number, found nan",
    ),
    "blank": (" \n", "the file is empty"),
}


@pytest.mark.parametrize(("text", "says"), BROKEN_CSV.values(), ids=BROKEN_CSV.keys())
def test_damage_of_csv_is_named(tmp_path: Path, text: str, says: str) -> None:
    file = write(tmp_path / "rows.csv", text)
    with pytest.raises(DataError) as caught:
        load_rows(file)
    assert says in str(caught.value)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


class TestContentIds:
    """Without ids in the file, a row is called by what it says."""

    rows = tuple({"instruction": f"問{i}", "output": f"答{i}"} for i in range(9))

    def test_the_id_is_a_digest_of_history_instruction_and_output(self, tmp_path: Path) -> None:
        (example,) = load_rows(write_rows(tmp_path / "a.json", [{**self.rows[0], "input": "甲"}]))
        text = '[[],"問0\\n甲","答0"]'
        assert example.id == hashlib.sha256(text.encode()).hexdigest()[:12]

    def test_history_is_part_of_it(self, tmp_path: Path) -> None:
        turns = [("system", "令"), ("user", "問"), ("assistant", "答")]
        row = {"conversations": [{"role": role, "content": text} for role, text in turns]}
        file = tmp_path / "a.jsonl"
        file.write_text(json.dumps(row), encoding="utf-8")
        text = '[[["system","令"]],"問","答"]'
        assert load_rows(file)[0].id == hashlib.sha256(text.encode()).hexdigest()[:12]

    def test_no_order_of_the_file_changes_an_id(self, tmp_path: Path) -> None:
        # Repeats too: rows 0 to 2 stand three times, with scores that tell them apart.
        rows = [*self.rows, *({**row, "score": 2} for row in self.rows[:3])]
        rows += [{**row, "score": 1} for row in self.rows[:3]]
        expected = None
        for seed in range(20):
            random.Random(seed).shuffle(rows)
            file = write(tmp_path / "a.json", json.dumps(rows))
            found = sorted(load_rows(file), key=lambda example: example.id)
            assert len({example.id for example in found}) == 15
            assert expected in (None, found)
            expected = found

    def test_repeats_are_numbered(self, tmp_path: Path) -> None:
        one, two = self.rows[:2]
        file = write_rows(tmp_path / "a.json", [one, two, one, one])
        first, other, second, third = (example.id for example in load_rows(file))
        assert [second, third] == [f"{first}-2", f"{first}-3"]
        assert len(other) == len(first) == 12
        assert other != first


def test_a_column_that_would_change_the_row_is_not_dropped(tmp_path: Path) -> None:
    text = "instruction,output,system,context\n問,答,,\n甲,乙,你是學者,\n丙,丁,,天\n"
    with pytest.raises(DataError, match=r"line 4, field 'context': may be part of the question"):
        load_rows(write(tmp_path / "a.csv", text))
    first, second = load_rows(write(tmp_path / "b.csv", text.rpartition("丙")[0]))
    assert (first.history, second.history) == ((), (("system", "你是學者"),))
