"""Layouts: every way to write one row gives the same example, or one line says what is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest

from harness.core import Example
from harness.data.columns import parse_columns
from harness.data.layouts import LAYOUTS
from harness.data.rows import Reading, inspect_rows, load_rows
from harness.data.task import load_task
from harness.errors import DataError, OptionError

USER, GPT = {"role": "user", "content": "問\n文"}, {"role": "assistant", "content": "答"}
SYSTEM = {"role": "system", "content": "令"}
ASKED = (("system", "令"),)
PAIRS = (("user", "一"), ("assistant", "二"))


def write(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    return path


SAME: dict[str, tuple[dict[str, Any], tuple[tuple[str, str], ...]]] = {
    "instruction": ({"instruction": "問", "input": "文", "output": "答"}, ()),
    "capitals": ({"Instruction": "問", "Input": "文", "Output": "答"}, ()),
    "one in capitals": ({"instruction": "問", "Input": "文", "output": "答"}, ()),
    "dolly": ({"instruction": "問", "context": "文", "response": "答", "category": "qa"}, ()),
    "response to an input": ({"instruction": "問", "input": "文", "response": "答"}, ()),
    "firefly": ({"kind": "x", "input": "問\n文", "target": "答"}, ()),
    "orca": ({"system_prompt": "令", "question": "問\n文", "response": "答"}, ASKED),
    "prompt-completion": ({"prompt": "問\n文", "completion": "答"}, ()),
    "two lists": ({"prompt": [SYSTEM, USER], "completion": [GPT]}, ASKED),
    "messages": ({"messages": [USER, GPT]}, ()),
    "messages in parts": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "問\n"}, {"type": "text", "text": "文"}]}, GPT]},
        (),
    ),
    "developer": ({"messages": [{"role": "developer", "content": "令"}, USER, GPT]}, ASKED),
    "an empty system turn": ({"messages": [{"role": "system", "content": ""}, USER, GPT]}, ()),
    # A column "system" beside conversations without such a turn.
    "system beside turns": ({"system": "令", "conversations": [{"from": "human", "value": "問\n文"}, {"from": "gpt", "value": "答"}]}, ASKED),
    "history": ({"instruction": "問\n文", "output": "答", "system": "令", "history": [["一", "二"]]}, (*ASKED, *PAIRS)),
    "prompt beside messages": ({"prompt": "問\n文", "prompt_id": "x", "messages": [USER, GPT]}, ()),
    "others are null": ({"instruction": None, "output": None, "prompt": None, "messages": [USER, GPT]}, ()),
    "all optional fields null": (
        {"instruction": "問\n文", "output": "答", **dict.fromkeys(("id", "input", "system", "history", "score", "direction", "tools"))},
        (),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("row", "history"), SAME.values(), ids=SAME.keys())
def test_one_row_in_every_layout(
    tmp_path: Path, row: dict[str, Any], history: tuple[tuple[str, str], ...]
) -> None:
    found = inspect_rows(write(tmp_path / "a.jsonl", row))
    assert found.faults == ()
    (example,) = found.examples
    assert (example.instruction, example.output, example.history) == ("問\n文", "答", history)
    assert found.warnings == ()


def test_conversations_of_a_union_of_tables(tmp_path: Path) -> None:
    """Tables that are joined have every column in every row, null where a row has none."""
    both = dict.fromkeys(("instruction", "output", "messages"))
    rows = [{**both, "instruction": "問\n文", "output": "答"}, {**both, "messages": [USER, GPT]}]
    one, two = load_rows(write(tmp_path / "a.jsonl", *rows))
    assert two.id == f"{one.id}-2"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "question and answer": (
        {"question": "問", "answer": "答"},
        "line 1: in no layout that is read; found 'question', 'answer'; read are instruction + "
        "output (input), instruction + response (context or input), question + response, prompt + "
        "completion, input + target, conversations, messages; others with --columns, such as "
        "--columns instruction=question,output=answer",
    ),
    "preferences": ({"prompt": "問", "chosen": "答", "rejected": "x"}, "--columns instruction=prompt,output=chosen"),
    "a target beside an instruction": (
        {"instruction": "問", "input": "文", "target": "答"},
        "in no layout that is read; found 'instruction', 'input', 'target'",
    ),
    "two layouts": (
        {"messages": [USER, GPT], "instruction": "問", "output": "答"},
        "has both 'messages' and 'instruction'; say which to read with --format=messages or --format=instruction",
    ),
    "an image": (
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, GPT]},
        "turn 1, field 'content', part 1: of type 'image_url'; only parts of type 'text' are read",
    ),
    "an open end": ({"messages": [USER]}, "turn 1: the last turn is the user's"),
    "an open end behind an empty system turn": (
        {"messages": [{"role": "system", "content": None}, USER, GPT, USER]},
        "turn 4: the last turn is the user's",
    ),
    "an open end with a system text beside": (
        {"system": "令", "messages": [USER, GPT, USER]},
        "turn 3: the last turn is the user's",
    ),
    "no turn with a text": ({"messages": [{"role": "system", "content": ""}]}, "no turn has a text"),
    "an object for an answer": ({"instruction": "問", "output": {"a": 1}}, "field 'output': expected a text, found an object"),
    "an answer that is null": ({"prompt": "問", "completion": None}, "field 'completion': absent (null)"),
    "a call in place of an answer": (
        {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [{"id": "x"}]}]},
        "turn 2, field 'tool_calls': is not read",
    ),
    "a turn that is null": ({"messages": [{"role": "user", "content": None}, GPT]}, "turn 1, field 'content': absent (null)"),
}  # fmt: skip


@pytest.mark.parametrize(("row", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_in_no_layout(tmp_path: Path, row: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError) as caught:
        load_rows(write(tmp_path / "a.jsonl", row))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_in_no_layout_is_one_line(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", *({"q": "問", "a": "答"} for _ in range(30)))
    with pytest.raises(DataError, match="line 1: in no layout that is read.*so in all 30 rows$"):
        load_rows(file)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_can_be_asked_for(tmp_path: Path, name: str) -> None:
    rows = [row for row, _ in SAME.values() if "capital" not in str(row).lower()]
    rows = [row for row in rows if list(inspect_rows(write(tmp_path / "a", row)).layouts) == [name]]
    assert rows
    for row in rows:
        assert load_rows(write(tmp_path / "a", row), Reading(name))[0].output == "答"


class TestColumns:
    """``--columns`` reads a field under another name."""

    ROW: ClassVar = {"question": "問", "passage": "文", "answer": "答"}
    ENTRIES = ("instruction=question", "input=passage", "output=answer")

    def test_columns_are_read_as_ours(self, tmp_path: Path) -> None:
        (example,) = load_rows(write(tmp_path / "a.json", self.ROW), Reading(columns=self.ENTRIES))
        assert example == Example(example.id, "問\n文", "答")
        (tmp_path / "a.csv").write_text("question;passage;answer\n問;文;答\n", "utf-8")
        assert load_rows(tmp_path / "a.csv", Reading(columns=self.ENTRIES)) == [example]

    def test_names_can_be_swapped(self, tmp_path: Path) -> None:
        row = {"instruction": "文", "input": "問", "output": "答"}
        how = Reading(columns=("instruction=input", "input=instruction"))
        assert load_rows(write(tmp_path / "a.json", row), how)[0].instruction == "問\n文"

    def test_a_turn_list_of_another_name(self, tmp_path: Path) -> None:
        how = Reading(columns=("messages=dialogue",))
        (example,) = load_rows(write(tmp_path / "a.json", {"dialogue": [USER, GPT]}), how)
        assert example.output == "答"

    def test_an_absent_column_names_the_nearest(self, tmp_path: Path) -> None:
        how = Reading(columns=("instruction=question", "output=answr"))
        says = (
            r"--columns output=answr: no row of .* has a field 'answr' \(did you mean 'answer'\?\)"
        )
        with pytest.raises(OptionError, match=says):
            load_rows(write(tmp_path / "a.json", self.ROW), how)
        (tmp_path / "a.csv").write_text("question,answer\n問,答\n", "utf-8")
        with pytest.raises(
            DataError, match=r"no column 'answr', which --columns reads as 'output'"
        ):
            load_rows(tmp_path / "a.csv", how)

    def test_one_file_of_two_may_be_without(self, tmp_path: Path) -> None:
        test = write(tmp_path / "test.json", self.ROW)
        train = write(tmp_path / "train.json", {"instruction": "天", "output": "地"})
        task = load_task(test, train, how=Reading(columns=self.ENTRIES))
        assert (task.examples[0].output, task.pool[0].output) == ("答", "地")

    def test_a_name_that_is_taken(self, tmp_path: Path) -> None:
        row = {"instruction": "問", "question": "又", "output": "答"}
        file = write(tmp_path / "a.json", row)
        with pytest.raises(DataError, match="--columns reads 'question' as 'instruction', and the"):
            load_rows(file, Reading(columns=("instruction=question",)))
        how = Reading(columns=("instruction=question", "ignore=instruction"))
        assert load_rows(file, how)[0].instruction == "又"

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("instruction", "NAME=COLUMN"),
            ("instruktion=question", "did you mean 'instruction'"),
            ("input=a,input=b", "at most once"),
            ("input=a,output=a", "at most once"),
        ],
    )
    def test_a_wrong_entry_says_what_is_right(self, text: str, says: str) -> None:
        with pytest.raises(ValueError, match=says):
            parse_columns(text)


class TestUnread:
    """A field beside the layout's is used, ignored by a rule, warned of, or refused."""

    ALPACA: ClassVar = {"instruction": "問", "output": "答"}

    @pytest.mark.parametrize(
        "field",
        [
            {"context": "文"},
            {"Context": "文"},
            {"tools": '[{"name": "x"}]'},
            {"functions": [{"name": "x"}]},
            {"images": ["a.png"]},
            {"documents": [{"text": "文"}]},
            {"question": "又"},
            {"prompt": "又"},
        ],
        ids=lambda field: next(iter(field)),
    )
    @pytest.mark.parametrize("row", [ALPACA, {"messages": [USER, GPT]}], ids=["flat", "turns"])
    def test_part_of_the_question_is_refused(
        self, tmp_path: Path, row: dict[str, Any], field: dict[str, Any]
    ) -> None:
        if "messages" in row and field == {"Context": "文"}:
            field = {"Context": "別的文"}
        if "messages" in row and field == {"context": "文"}:
            field = {"context": "別的文"}
        (name,) = (name.lower() for name in field)
        file = write(tmp_path / "a.json", {**row, **field})
        with pytest.raises(DataError, match=f"field '{name}': may be part of the question"):
            load_rows(file)
        assert load_rows(file, Reading(columns=(f"ignore={name}",)))[0].output == "答"

    def test_options_of_a_question_are_refused(self, tmp_path: Path) -> None:
        row = {"question": "問", "answer": "答", "options": {"A": "一"}, "meta_info": "x"}
        how = Reading(columns=("instruction=question", "output=answer"))
        with pytest.raises(DataError, match="field 'options': may be part of the question"):
            load_rows(write(tmp_path / "a.json", row), how)

    @pytest.mark.parametrize(
        "fields",
        [
            {"context": ""},
            {"tools": "[]", "images": [], "functions": None, "documents": {}},
            {"id": "a", "category": "x", "source": "y", "conversation_id": "z", "n_tokens": 3},
            {"text": "### 問\n\n### 答"},
            {"prompt": "問"},
        ],
        ids=["blank", "empty", "metadata", "the whole row", "the same text"],
    )
    def test_what_says_nothing_is_ignored(self, tmp_path: Path, fields: dict[str, Any]) -> None:
        found = inspect_rows(write(tmp_path / "a.json", {**self.ALPACA, **fields}))
        assert (found.faults, found.warnings) == ((), ())

    def test_an_unknown_text_is_warned_of_once(self, tmp_path: Path) -> None:
        rows = [self.ALPACA, *({**self.ALPACA, "hint": f"想{i}"} for i in range(3))]
        file = write(tmp_path / "a.jsonl", *rows)
        (line,) = inspect_rows(file).warnings
        assert line.startswith(f"{file}: field 'hint' is not read (3 of 4 rows, first line 2)")
        task = load_task(file, write(tmp_path / "b.json", {"instruction": "天", "output": "地"}))
        assert task.warnings == (line,)
        quiet = inspect_rows(file, Reading(columns=("ignore=hint",)))
        assert quiet.warnings == ()

    def test_a_call_in_a_turn_is_refused(self, tmp_path: Path) -> None:
        row = {"messages": [USER, {**GPT, "tool_calls": [{"id": "x"}]}]}
        with pytest.raises(DataError, match="turn 2, field 'tool_calls': is not read"):
            load_rows(write(tmp_path / "a.json", row))

    def test_a_thought_in_a_turn_is_warned_of(self, tmp_path: Path) -> None:
        row = {"messages": [{**USER, "name": "甲"}, {**GPT, "reasoning_content": "想"}]}
        (line,) = inspect_rows(write(tmp_path / "a.json", row)).warnings
        assert "field 'reasoning_content of a turn' is not read" in line
