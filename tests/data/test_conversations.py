"""Conversations: turns become history, instruction and output, or one line says why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.core import Example
from harness.data.rows import Reading, load_rows
from harness.errors import DataError

EXPECTED = Example("a", "問", "答")


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode("utf-8"))
    return path


def talk(*turns: tuple[str, str], **fields: Any) -> str:
    """A JSON array of one conversation."""
    spoken = [{"from": role, "value": text} for role, text in turns]
    return json.dumps([{"conversations": spoken, **fields}], ensure_ascii=False)


def test_the_last_exchange_is_asked_and_the_rest_is_history(tmp_path: Path) -> None:
    turns = [("system", "令"), ("human", "一"), ("gpt", "二"), ("user", "問"), ("bard", "答")]
    (example,) = load_rows(write(tmp_path / "a.json", talk(*turns, id=7, score=3)))
    assert example == Example(
        "7",
        "問",
        "答",
        history=(("system", "令"), ("user", "一"), ("assistant", "二")),
        score=3.0,
    )


@pytest.mark.parametrize("role", ["gpt", "assistant", "chatgpt", "bing", "bard", "model"])
def test_every_name_of_the_assistant(tmp_path: Path, role: str) -> None:
    file = write(tmp_path / "a.json", talk(("user", "問"), (role, "答"), id="a"))
    assert load_rows(file) == [EXPECTED]


def test_role_and_content(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "問"}, {"role": "assistant", "content": "答"}]
    file = write(tmp_path / "a.jsonl", json.dumps({"id": "a", "conversations": turns}))
    assert load_rows(file) == load_rows(file, Reading("conversations")) == [EXPECTED]


def test_each_row_of_a_file_is_what_its_fields_say(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "問"}, {"from": "gpt", "value": "答"}]
    lines = [{"conversations": turns}, {"instruction": "問", "output": "答"}]
    file = write(tmp_path / "a.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    one, two = load_rows(file)
    # The same words are the same row, however they are written.
    assert two.id == f"{one.id}-2"


def test_the_direction_is_read_from_the_last_question(tmp_path: Path) -> None:
    turns = [
        ("user", "翻譯成文言文：天"),
        ("gpt", "二"),
        ("user", "譯成白話文：地"),
        ("gpt", "答"),
    ]
    assert load_rows(write(tmp_path / "a.json", talk(*turns)))[0].tag("direction") == "modern"
    named = write(tmp_path / "b.json", talk(*turns, direction="en-fr"))
    assert load_rows(named)[0].tag("direction") == "en-fr"


USER, GPT, SYSTEM = ("human", "問"), ("gpt", "答"), ("system", "令")
ORDER = "after a system turn, if any, user and assistant alternate, the user first"
BROKEN = {
    "not an array": (
        '[{"conversations": "x"}]',
        "row 1, field 'conversations': expected an array of turns, found a text",
    ),
    "no turn": (talk(), "field 'conversations': expected an array of turns, found an empty"),
    "a turn that is none": (
        '[{"id": 7, "conversations": [3]}]',
        "row 1 (id 7), turn 1: expected an object, found a number",
    ),
    "no text": (
        '[{"conversations": [{"from": "human", "text": "x"}]}]',
        "row 1, turn 1: no field 'value'; found 'from', 'text'",
    ),
    "no role": (
        '[{"conversations": [{"content": "x"}]}]',
        "row 1, turn 1: no field 'from'; found 'content'",
    ),
    "a list of parts": (
        '[{"conversations": [{"role": "user", "content": []}]}]',
        "row 1, turn 1, field 'content': expected a text, found an array",
    ),
    "an unknown role": (
        talk(USER, ("assistent", "答")),
        "row 1, turn 2, field 'from': unknown role 'assistent' (did you mean 'assistant'?); "
        "known: system, developer, human, user, gpt,",
    ),
    "the assistant first": (
        talk(GPT, USER),
        "row 1, turn 1: expected the user's turn, found one of the assistant; " + ORDER,
    ),
    "the user twice": (
        talk(SYSTEM, USER, USER, GPT),
        "row 1, turn 3: expected the assistant's turn, found one of the user; " + ORDER,
    ),
    "a late system turn": (
        talk(USER, GPT, SYSTEM, USER, GPT),
        "row 1, turn 3: expected the user's turn, found one of the system; " + ORDER,
    ),
    "no answer": (
        talk(USER, GPT, USER),
        "row 1, turn 3: the last turn is the user's; it must be the assistant's",
    ),
    "a system turn alone": (talk(SYSTEM), "turn 1: the last turn is the system's"),
    "an empty turn": (
        talk(USER, GPT, ("human", " \n"), GPT),
        "row 1, turn 3, field 'value': it is empty",
    ),
    "a lone surrogate": (
        '[{"conversations": [{"from": "human", "value": "x\\ud83d"}]}]',
        "row 1, turn 1, field 'value': a lone surrogate \\ud83d at character 2",
    ),
    "a field of a turn twice": (
        '[{"conversations": [{"from": "human", "value": "x", "value": "y"}]}]',
        "row 1, turn 1, field 'value': stands twice",
    ),
    "a second system text beside the turns": (
        talk(SYSTEM, USER, GPT, system="又"),
        "row 1: has a system text beside the turns and another as the first turn; keep one",
    ),
    "a score in words": (talk(USER, GPT, score="x"), "field 'score': expected a number"),
}


@pytest.mark.parametrize(("text", "says"), BROKEN.values(), ids=BROKEN.keys())
def test_damage_is_named(tmp_path: Path, text: str, says: str) -> None:
    file = write(tmp_path / "rows.json", text)
    with pytest.raises(DataError) as caught:
        load_rows(file)
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"{file}, ")
    assert "\n" not in str(caught.value)
