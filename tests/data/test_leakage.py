"""Near copies are found whatever hides them, and ordinary rows are left alone."""

from __future__ import annotations

from dataclasses import replace

from harness.config.flags import SHIPPED
from harness.core import Example
from harness.data.leakage import near_copies
from harness.data.rows import load_rows
from tests.builders.tasks import sentence_of

TEST = load_rows(SHIPPED / "public_test.json")
TRAIN = load_rows(SHIPPED / "train.json")


def planted(instruction: str, output: str) -> dict[str, str]:
    return near_copies([*TRAIN, Example("planted", instruction, output)], TEST)


def test_an_exact_copy_under_another_id() -> None:
    row = TEST[3]
    assert planted(row.instruction, row.output) == {"planted": row.id}


def test_other_punctuation_and_width() -> None:
    row = TEST[3]
    answer = row.output.replace("，", ", ").replace("。", " ")
    assert planted(row.instruction, answer) == {"planted": row.id}


def test_another_wording_of_the_request() -> None:
    row = TEST[3]
    sentence = sentence_of(row.instruction)
    assert planted(f"請幫我翻譯這一句：\n{sentence}\n謝謝", row.output) == {"planted": row.id}


def test_the_other_direction() -> None:
    row = TEST[3]
    sentence = sentence_of(row.instruction)
    assert planted(f"翻譯成現代文：\n{row.output}", sentence) == {"planted": row.id}


def test_a_few_changed_characters() -> None:
    row = max(TEST, key=lambda example: len(example.output))
    changed = row.output[:12] + "某" + row.output[13:]
    assert planted(row.instruction, changed) == {"planted": row.id}


def test_short_rows_without_a_shingle_are_compared_whole() -> None:
    test = [Example("t", "x", "y")]
    assert near_copies([Example("a", "x", "y")], test) == {"a": "t"}
    assert near_copies([Example("a", "x", "z")], test) == {}


def test_shared_wording_alone_is_no_copy() -> None:
    wording = "Please translate the following sentence into Classical Chinese"
    train = [
        Example(f"a{i}", f"{wording}: {i} apple{i} pear{i} plum{i}", f"x{i}") for i in range(9)
    ]
    test = [Example(f"t{i}", f"{wording}: {i} oak{i} elm{i} fir{i}", f"y{i}") for i in range(9)]
    assert near_copies(train, test) == {}


def test_a_sentence_copied_many_times_is_still_a_copy() -> None:
    row = max(TEST, key=lambda example: len(example.output))
    sentence = sentence_of(row.instruction)
    copies = [
        Example(f"copy{i}", f"第{i}種問法，請翻譯：{sentence}", row.output) for i in range(12)
    ]
    found = near_copies([*TRAIN, *copies], TEST)
    assert found == {copy.id: row.id for copy in copies}


def test_the_same_sentence_with_another_answer() -> None:
    row = max(TEST, key=lambda example: len(example.instruction))
    assert planted(row.instruction, "這裡寫的是另外一個完全不同的譯法") == {"planted": row.id}


def test_the_same_answer_to_another_question() -> None:
    # Into Classical Chinese: the answer is the shorter half of the row, below 60 % of it.
    rows = [example for example in TEST if example.tag("direction") == "classical"]
    row = max(rows, key=lambda example: len(example.output))
    question = (
        "這一段與原題毫不相干，只是為了讓兩道題目的問法完全不同而寫下的許多字句，並沒有什麼意思。"
    )
    assert planted(question * 2, row.output) == {"planted": row.id}


def test_many_copies_of_a_row_with_a_short_answer() -> None:
    sentence = "天地玄黃宇宙洪荒日月盈昃辰宿列張"
    test = [Example("t", f"請翻譯：{sentence}", "甲乙丙丁")]
    copies = [Example(f"copy{i}", f"第{i}種問法：{sentence}", "甲乙丙丁") for i in range(12)]
    assert near_copies(copies, test) == {copy.id: "t" for copy in copies}


def test_history_counts_as_instruction() -> None:
    row = TEST[3]
    history = (("user", row.instruction), ("assistant", row.output))
    later = Example("later", "再舉一個毫不相干的例子", "好的，這就來", history=history)
    assert near_copies([*TRAIN, later], TEST) == {"later": row.id}
    assert near_copies([*TRAIN, replace(later, history=())], TEST) == {}


def test_short_conversations_are_compared_with_their_history() -> None:
    test = [Example("t", "x", "y", history=(("user", "a"), ("assistant", "b")))]
    same = Example("a", "x", "y", history=(("user", "A"), ("assistant", "b!")))
    other = Example("b", "x", "y", history=(("user", "a"), ("assistant", "c")))
    assert near_copies([same, other, Example("c", "x", "y")], test) == {"a": "t"}
