"""Reading rows: what is accepted, and the one line that every kind of damage gets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.config.flags import SHIPPED
from harness.core import Example
from harness.data.directions import direction_of
from harness.data.rows import load_rows
from harness.data.task import load_task
from harness.errors import DataError
from tests.builders.tasks import row, sentence_of, write_rows

GOOD = {"id": "a", "instruction": "翻譯成文言文：\n天", "output": "地"}


def dump(*rows: object) -> bytes:
    return json.dumps(list(rows), ensure_ascii=False).encode()


def test_json_and_jsonl_hold_the_same_rows(tmp_path: Path) -> None:
    rows = [row(1), row(2)]
    as_json = load_rows(write_rows(tmp_path / "a.json", rows))
    as_jsonl = load_rows(write_rows(tmp_path / "a.jsonl", rows))
    assert as_json == as_jsonl
    assert [example.id for example in as_json] == ["t-001", "t-002"]


def test_jsonl_is_cut_at_newlines_only(tmp_path: Path) -> None:
    text = "a\u2028b\u2029c\x85d"
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({**GOOD, "output": text}, ensure_ascii=False) + "\n\n", "utf-8")
    assert load_rows(file)[0].output == text


BROKEN = {
    "empty file": (b"", "the file is empty"),
    "blank file": (b" \n", "the file is empty"),
    "no rows": (b"[]", "no rows"),
    "not JSON": (b'[{"id": "a",]', "line 1, column 13: not valid JSON"),
    "no layout at all": (
        b'{"id":"a"}\n{"id":"b"}\n',
        "line 1 (id 'a'): in no layout that is read; found 'id'; read are instruction + output",
    ),
    "an object": (b'{"rows": []}', "expected a JSON array of rows, found an object"),
    "UTF-16, cut": ("[]".encode("utf-16")[:-1], "starts with the byte order mark of UTF-16, but"),
    "UTF-16 without mark": ("[]".encode("utf-16-le"), "it looks like UTF-16 without a byte order"),
    "GB18030": ("[文言文]".encode("gb18030"), "it may be GB18030"),
    "not UTF-8": (b"[\n\xff]", "line 2: not UTF-8 (byte 0xff)"),
    "NaN": (
        b'[{"instruction": NaN, "output": "x"}]',
        "row 1, field 'instruction': expected a text, found NaN, which is not valid JSON",
    ),
    "a field twice": (
        b'[{"id": "a", "output": "x", "output": "y"}]',
        "row 1 (id 'a'), field 'output': stands twice",
    ),
    "endless number": (b'[{"id": ' + b"9" * 5000 + b"}]", "not usable JSON"),
    "row not an object": (dump(GOOD, 3), "row 2: expected an object"),
    "no output": (dump({"id": "a", "instruction": "x"}), "row 1 (id 'a'): no field 'output'"),
    "null": (
        dump({**GOOD, "output": None}),
        "row 1 (id 'a'), field 'output': absent (null)",
    ),
    "a number": (
        dump({**GOOD, "instruction": 7}),
        "'instruction': expected a text, found a number",
    ),
    "id a fraction": (
        dump({**GOOD, "id": 7.5}),
        "row 1, field 'id': expected a text, found a number",
    ),
    "id true": (dump({**GOOD, "id": True}), "'id': expected a text, found true or false"),
    "id null in some rows only": (
        dump(GOOD, {**GOOD, "id": None}),
        "row 2, field 'id': absent (null)",
    ),
    "id in some rows only": (
        dump(GOOD, {"instruction": "x", "output": "y"}),
        "row 2: no field 'id'; found 'instruction', 'output'",
    ),
    "empty answer": (dump({**GOOD, "output": " \n"}), "field 'output': the answer is empty"),
    "integer and text id": (
        dump({**GOOD, "id": 7}, {**GOOD, "id": "7"}),
        "row 2, field 'id': '7' also stands in row 1",
    ),
    "duplicate id": (dump(GOOD, GOOD), "row 2, field 'id': 'a' also stands in row 1"),
    "lone surrogate": (
        b'[{"id": "a", "instruction": "x", "output": "y\\ud83d"}]',
        "lone surrogate \\ud83d at character 2",
    ),
    "input a list": (
        dump({**GOOD, "input": ["z"]}),
        "row 1 (id 'a'), field 'input': expected a text, found an array",
    ),
    "lone surrogate in input": (
        b'[{"id": "a", "instruction": "x", "output": "y", "input": "\\udc00"}]',
        "field 'input': a lone surrogate \\udc00 at character 1",
    ),
    "score a text": (
        dump({**GOOD, "score": "4.5"}),
        "row 1 (id 'a'), field 'score': expected a number, found '4.5'",
    ),
    "score true": (dump({**GOOD, "score": True}), "'score': expected a number, found true or fal"),
    "score infinite": (
        b'[{"id": "a", "instruction": "x", "output": "y", "score": 1e999}]',
        "field 'score': expected a finite number, found inf",
    ),
    "score beyond a float": (
        dump({**GOOD, "score": 10**400}),
        "field 'score': expected a finite number, found inf",
    ),
    "history that is no pairs": (
        dump({**GOOD, "history": [["甲", "乙"], ["丙"]]}),
        "field 'history', exchange 2: expected [question, answer], found an array",
    ),
    "two system texts": (
        dump({**GOOD, "system": "甲", "system_prompt": "乙"}),
        "row 1 (id 'a'): 'system' and 'system_prompt' are two texts; keep one",
    ),
    "too deep": (b"[" * 100_000, "nested too deeply"),
}


@pytest.mark.parametrize(("content", "says"), BROKEN.values(), ids=BROKEN.keys())
def test_damage_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "rows.json"
    file.write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_rows(file)
    message = str(caught.value)
    assert says in message
    assert message.startswith(str(file))
    assert "\n" not in message


def test_jsonl_damage_names_its_line(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(GOOD) + "\n{oops\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"rows\.jsonl, line 2: not valid JSON"):
        load_rows(file)
    file.write_text(f"[{json.dumps([GOOD])}]", encoding="utf-8")
    with pytest.raises(DataError, match="row 1: expected an object with fields, found an array"):
        load_rows(file)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file$"):
        load_rows(tmp_path / "none.json")
    with pytest.raises(DataError, match="no such file$"):
        load_rows(tmp_path / "nowhere" / "none.json")
    (tmp_path / "test.json").write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match=r"no such file \(did you mean 'test\.json'\?\)$"):
        load_rows(tmp_path / "tset.json")
    with pytest.raises(DataError, match="is a folder; name a file of rows in it$"):
        load_rows(tmp_path)


@pytest.mark.parametrize(
    ("instruction", "direction"),
    [
        ("翻譯成文言文：\n他走了。", "classical"),
        ("他走了。\n這句話在中國古代怎麼說：", "classical"),
        ("翻译成古文：\n他走了。", "classical"),
        ("乃去。\n幫我把這句話翻譯成現代文", "modern"),
        ("文言文翻譯：\n乃去。", "modern"),
        ("將下面句子翻譯成白話文：\n乃去。", "modern"),
        ("Translate: 乃去。", None),
        ("先翻譯成文言文，再翻譯成白話文：\n去", None),
    ],
)
def test_direction_is_read_from_the_wording(instruction: str, direction: str | None) -> None:
    assert direction_of(instruction) == direction


def test_a_row_may_name_its_direction(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "a.json", [{**GOOD, "direction": "en-fr"}])
    assert load_rows(file)[0].tag("direction") == "en-fr"


def test_input_stands_under_the_instruction(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "instruction": "翻譯成文言文：", "input": "天", "output": "地"},
        {"id": "b", "instruction": "說個笑話", "input": " \n", "output": "哈"},
    ]
    first, second = load_rows(write_rows(tmp_path / "a.json", rows))
    assert first == Example("a", "翻譯成文言文：\n天", "地", (("direction", "classical"),))
    assert second.instruction == "說個笑話"


def test_a_row_may_carry_a_score(tmp_path: Path) -> None:
    rows = [{**GOOD, "score": 4.5}, {**GOOD, "id": "b", "score": 3}, {**GOOD, "id": "c"}]
    file = tmp_path / "a.json"
    file.write_bytes(dump(*rows))
    assert [example.score for example in load_rows(file)] == [4.5, 3.0, None]


def test_an_integer_id_is_read_as_its_text(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(dump({**GOOD, "id": 7}, {**GOOD, "id": "b"}))
    assert [example.id for example in load_rows(file)] == ["7", "b"]


def test_what_of_a_row_goes_into_digests() -> None:
    row = Example("a", "甲", "乙", score=1.0)
    assert row.content == ["a", "甲", "乙"]
    history = (("system", "令"), ("user", "丙"), ("assistant", "丁"))
    later = Example("a", "甲", "乙", history=history)
    assert later.content == [
        "a",
        "甲",
        "乙",
        [["system", "令"], ["user", "丙"], ["assistant", "丁"]],
    ]


def test_limit_cuts_the_test_rows_and_leaves_the_pool(tmp_path: Path) -> None:
    test = write_rows(tmp_path / "test.json", [row(i) for i in range(6)])
    train = write_rows(tmp_path / "train.json", [row(5), *(row(i, prefix="p") for i in range(4))])
    whole, cut = load_task(test, train), load_task(test, train, limit=2)
    assert len(cut.examples) == 2
    assert cut.examples == whole.examples[:2]
    # Row 5 is beyond the limit, and still no demonstration: the pool is the same.
    assert cut.pool == whole.pool
    assert cut.excluded == (("t-005", "t-005"),)


def test_leakage_can_be_allowed_and_is_still_named(tmp_path: Path) -> None:
    test = write_rows(tmp_path / "test.json", [row(i) for i in range(3)])
    train = write_rows(tmp_path / "train.json", [row(1), row(7), row(2)])
    strict, lenient = load_task(test, train), load_task(test, train, allow_leakage=True)
    assert [example.id for example in strict.pool] == ["t-007"]
    assert lenient.pool == strict.pool  # what is shown is never a test row
    assert [example.id for example in lenient.leaks] == ["t-001", "t-002"]
    assert strict.excluded == lenient.excluded == (("t-001", "t-001"), ("t-002", "t-002"))
    assert strict.leaks == ()


def test_allowing_leakage_where_there_is_none(tmp_path: Path) -> None:
    test = write_rows(tmp_path / "test.json", [row(1)])
    train = write_rows(tmp_path / "train.json", [row(7)])
    assert load_task(test, train, allow_leakage=True) == load_task(test, train)


def test_a_pool_of_test_rows_only_is_an_error(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "a.json", [row(1), row(2)])
    with pytest.raises(DataError, match="every row is a test row"):
        load_task(file, file)


class TestShippedTask:
    """The data in suites/data/classical-zh keeps its promises."""

    train = load_rows(SHIPPED / "train.json")
    test = load_rows(SHIPPED / "public_test.json")

    def test_size_and_directions(self) -> None:
        for rows, least in ((self.train, 200), (self.test, 64)):
            directions = [example.tag("direction") for example in rows]
            assert len(rows) >= least
            assert directions.count("classical") == directions.count("modern") == len(rows) / 2

    def test_sentences_are_8_to_60_characters(self) -> None:
        for example in self.train + self.test:
            assert 8 <= len(sentence_of(example.instruction)) <= 60, example
            assert 8 <= len(example.output) <= 60, example

    def test_wording_varies_in_place_and_answer_cue(self) -> None:
        for rows in (self.train, self.test):
            before = sum(e.instruction.startswith(sentence_of(e.instruction)) for e in rows)
            cue = sum(e.instruction.endswith("答案：") for e in rows)
            assert 0.2 < before / len(rows) < 0.8
            assert 0.2 < cue / len(rows) < 0.8

    def test_no_train_row_near_copies_a_test_row(self) -> None:
        from harness.data.leakage import near_copies

        assert near_copies(self.train, self.test) == {}

    def test_no_sentence_stands_twice(self) -> None:
        sentences = [
            text
            for example in self.train + self.test
            for text in (sentence_of(example.instruction), example.output)
        ]
        assert len(set(sentences)) == len(sentences)

    def test_traditional_characters_only(self) -> None:
        # Big5 holds the Traditional characters in use and none of the simplified forms.
        for example in self.train + self.test:
            (example.instruction + example.output).encode("big5")
