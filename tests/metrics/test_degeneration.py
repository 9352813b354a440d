"""Faults that are seen without knowing the task."""

from __future__ import annotations

import math

import pytest

from harness.core import Example
from harness.metrics.anchors import copy_source, reference
from harness.metrics.base import Metric
from harness.metrics.degeneration import (
    Copied,
    Empty,
    Leaked,
    Looping,
    Truncated,
    WrongScript,
    loops,
)
from harness.metrics.script import forms, is_other_script
from tests.builders.answers import answer, answered, rows

FAULTS: tuple[Metric, ...] = (Empty(), Truncated(), Looping(), Copied(), WrongScript(), Leaked())


def share(metric: Metric, text: str, output: str = "帝問曰", instruction: str = "問") -> float:
    return metric.row(answer("a", text), Example("a", instruction, output))


def test_references_have_no_fault_and_all_are_shares() -> None:
    examples = rows(40)
    for metric in FAULTS:
        assert metric.read(reference(examples), examples).aggregates == {metric.name: 0}
        assert (metric.better, metric.scale, metric.span) == ("lower", "linear", 1.0)
        assert metric.observes == "answer"
        assert list(metric.definition) == [metric.name]
    assert Copied().read(copy_source(examples), examples).aggregates == {"copied": 1}
    seen = answered(examples, 0.5)
    empty = sum(not one.text for one in seen) / 40
    assert empty > 0
    assert Empty().read(seen, examples).aggregates == {"empty": empty}


@pytest.mark.parametrize("text", ["", " \n\t", "\u3000", "\u200b\ufeff", "\x00"])
def test_empty(text: str) -> None:
    assert share(Empty(), text) == 1
    assert share(Empty(), f"{text}。") == 0


def test_truncated_is_not_known_of_answers_from_a_file() -> None:
    row = Example("a", "", "")
    found = [Truncated().row(answer("a", "x", ended), row) for ended in ("limit", "stop token", "stop string", "")]  # fmt: skip
    assert found[:3] == [1, 0, 0]
    assert math.isnan(found[3])


LOOPS = [
    "他說：" + "好的，" * 10,
    "將軍守城三月，糧盡。" * 3,
    "哈" * 40,
    "The fox said no. The fox said no. The fox said no. The fox",  # cut in the fourth
    "甲乙丙丁戊己庚辛壬癸" * 2 + "子丑寅卯" * 9,
    "a long beginning that is not repeated at all, " + "and so on, " * 5,
]
# Repetition that is meant: 詩經's refrains vary, 釵頭鳳 and 如夢令 repeat a few characters.
REPETITIVE = [
    "采采芣苢，薄言采之。采采芣苢，薄言有之。采采芣苢，薄言掇之。采采芣苢，薄言捋之。",
    "東風惡，歡情薄。一懷愁緒，幾年離索。錯！錯！錯！",
    "爭渡，爭渡，驚起一灘鷗鷺。",
    "行行重行行，與君生別離。",
    "庭院深深深幾許，楊柳堆煙，簾幕無重數。",
    "尋尋覓覓，冷冷清清，悽悽慘慘戚戚。",
    "鵝，鵝，鵝，曲項向天歌。",
    "ha ha ha ha",
    "將軍守城三月，糧盡。" * 2,
    "1. One.\n2. Two.\n3. Three.",
    "",
]


@pytest.mark.parametrize("text", LOOPS)
def test_loops_are_found(text: str) -> None:
    assert share(Looping(), text) == 1
    assert share(Looping(), text + "\n") == 1
    # Asked for, it is no fault.
    assert share(Looping(), text, output=text) == 0


@pytest.mark.parametrize("text", REPETITIVE)
def test_repetition_that_is_meant_is_no_loop(text: str) -> None:
    assert share(Looping(), text) == 0


def test_a_loop_is_what_its_definition_says() -> None:
    def slow(text: str) -> bool:
        least = max(20, math.ceil(len(text) / 3))
        return any(
            all(text[-k] == text[-k - period] for k in range(1, max(3 * period, least) - period + 1))
            for period in range(1, len(text) // 3 + 1)
            if max(3 * period, least) <= len(text)
        )  # fmt: skip

    import random

    rng, found = random.Random(1), 0
    for _ in range(2_000):
        tail = "".join(rng.choices("甲乙", k=rng.randrange(1, 9))) * rng.randrange(1, 12)
        text = "".join(rng.choices("甲乙丙", k=rng.randrange(40))) + tail
        assert loops(text) == slow(text), text
        found += loops(text)
    assert 400 < found < 1_600


def test_a_copy_of_the_source() -> None:
    source = "縣令問老農為什麼哭泣，老農說：「牛死了，田就荒了。」"
    instruction = f"翻譯成文言文：\n{source}\n答案："
    assert share(Copied(), source, instruction=instruction) == 1
    assert share(Copied(), f" {source}\n", instruction=instruction) == 1
    assert share(Copied(), source.replace("。」", "」。"), instruction=instruction) == 1
    assert share(Copied(), "令問老農何以泣，對曰：「牛死而田荒矣。」", instruction=instruction) == 0
    assert share(Copied(), "縣令", instruction=instruction) == 0  # a part of it
    assert share(Copied(), source, output=source, instruction=instruction) == 0
    assert share(Copied(), "", instruction="") == 0


TRADITIONAL, SIMPLIFIED = (
    "帝問曰：「卿守邊十年，何以不言功？」",
    "帝问曰：“卿守边十年，何以不言功？”",
)


@pytest.mark.parametrize(
    ("text", "output", "wrong"),
    [
        (SIMPLIFIED, TRADITIONAL, True),
        (TRADITIONAL, SIMPLIFIED, True),
        (TRADITIONAL, TRADITIONAL, False),
        (SIMPLIFIED, SIMPLIFIED, False),
        ("The emperor asked.", TRADITIONAL, True),
        ("Sure! 帝問曰", TRADITIONAL, True),
        (f"{TRADITIONAL * 4} OK", TRADITIONAL, False),  # less than a tenth of the letters
        ("帝", "What did he ask?", True),
        ("Спросил", "What did he ask?", True),
        ("皇帝に問う、なぜ言わない", TRADITIONAL, True),
        ("crème", "What did he ask?", False),
        ("山", TRADITIONAL, False),  # in both
        (SIMPLIFIED, "山", False),  # the reference does not say which
        ("帝曰：「恒」", TRADITIONAL + "恒", False),  # stands in the reference
        ("", TRADITIONAL, False),
        ("123", TRADITIONAL, False),
        (TRADITIONAL, "", False),
        ("帝问", "42", False),
    ],
)
def test_another_script(text: str, output: str, wrong: bool) -> None:
    assert is_other_script(text, output) is wrong
    assert share(WrongScript(), text, output) == float(wrong)


def test_the_forms_are_told_by_their_encodings() -> None:
    simplified, traditional = forms()
    assert not simplified & traditional
    assert {*"国问为说时东车马鸟鱼龙门"} <= simplified
    assert {*"國問為說時東車馬鳥魚龍門"} <= traditional
    assert not {*"山水人天之乎者也云后里"} & (simplified | traditional)


@pytest.mark.parametrize(
    "text",
    [
        "好<|im_end|>", "<|im_start|>user", "a<end_of_turn>\n<start_of_turn>model", "[INST] x [/INST]",
        "<<SYS>>", "<|eot_id|>", "<|start_header_id|>user", "答。</s>", "<｜User｜>問", "<|endoftext|>",
        "答。\n### Instruction:\nx", "x\nUser: next", "**Assistant:** x", "Human: 問", "答。\n用戶：問", "### 輸入：",
    ],
)  # fmt: skip
def test_leaked_markers(text: str) -> None:
    assert share(Leaked(), text) == 1
    assert share(Leaked(), text, output=text) == 0  # asked for


@pytest.mark.parametrize(
    "text",
    ["a <b> c", "if a < b | c > d:", "The user: nobody", "he said: Human rights: yes", "# Instruction", "a|b|c", "使用者說：好", "[1] x", "<s", "system"],
)  # fmt: skip
def test_what_looks_a_little_like_a_marker(text: str) -> None:
    assert share(Leaked(), text) == 0
