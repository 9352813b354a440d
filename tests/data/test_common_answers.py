"""A common answer makes no copy; a question that is copied or reworded does, whatever the answer."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from harness.core import Example
from harness.data.leakage import near_copies

Row = Callable[[random.Random, int], tuple[str, str]]
LABELS = ["體育", "財經", "科技", "娛樂", "教育", "軍事", "房產", "汽車", "國際", "旅遊", "股票"]
REFUSAL = "很抱歉，作為一個人工智慧語言模型，我無法協助您完成這個要求，因為這可能會造成他人的傷害。"


def characters(rng: random.Random, length: int) -> str:
    return "".join(chr(0x4E00 + rng.randrange(1500)) for _ in range(length))


def words(rng: random.Random, length: int) -> str:
    return " ".join(
        "".join(rng.choice("abcdefgh") for _ in range(rng.randint(3, 6))) for _ in range(length)
    )


def label_sentences(rng: random.Random, number: int) -> tuple[str, str]:
    return f"判斷新聞的類別\n{characters(rng, 30)}", f"這則新聞屬於{LABELS[number % 3]}類別"


def labels(rng: random.Random, number: int) -> tuple[str, str]:
    asked = f"請閱讀下面的新聞標題，從以下類別中選出最合適的一個：{'、'.join(LABELS)}。只答名稱"
    return f"{asked}\n{characters(rng, 12)}\n答案：", LABELS[number % len(LABELS)]


def rare_labels(rng: random.Random, number: int) -> tuple[str, str]:
    name = characters(random.Random(number % 6), 8)
    return f"判斷新聞的類別\n{characters(rng, 30)}", f"這則新聞屬於{name}類別"


def yes_or_no(rng: random.Random, number: int) -> tuple[str, str]:
    asked = "Is the following sentence grammatical? Answer yes or no, and nothing else."
    return f"{asked}\n{words(rng, 6)}", ("Yes", "No")[number % 2]


def sentiment(rng: random.Random, number: int) -> tuple[str, str]:
    asked = "Classify the sentiment of the following review as positive or negative."
    answer = f"The sentiment of this review is {('positive', 'negative')[number % 2]}."
    return f"{asked}\n{words(rng, 8)}", answer


def letters(rng: random.Random, number: int) -> tuple[str, str]:
    # Instruction and options are a template that every question uses.
    options = "A. Valid. B. Invalid. Counterexample when P is true and Q is false. C. Neither."
    asked = "Construct a complete truth table and determine whether the argument is valid."
    return f"{asked}\n{words(rng, 9)}\n{options}", "ABC"[number % 3]


def listed_labels(rng: random.Random, number: int) -> tuple[str, str]:
    answers = [f"這則新聞屬於{label}類別" for label in LABELS[:3]]
    return f"請從下列答案選一：{'；'.join(answers)}\n{characters(rng, 15)}", answers[number % 3]


def refusals(rng: random.Random, number: int) -> tuple[str, str]:
    return f"請告訴我如何\n{characters(rng, 9)}", REFUSAL


def some_refusals(rng: random.Random, number: int) -> tuple[str, str]:
    asked = f"請告訴我如何\n{characters(rng, 9)}"
    return asked, REFUSAL if number % 2 == 0 else characters(rng, 30)


def refusals_that_name_the_topic(rng: random.Random, number: int) -> tuple[str, str]:
    topic = characters(rng, 6)
    return f"請告訴我如何\n{topic}", f"{REFUSAL[:20]}如何{topic}{REFUSAL[20:]}"


SETS: list[Row] = [
    label_sentences,
    labels,
    rare_labels,
    yes_or_no,
    sentiment,
    letters,
    listed_labels,
    refusals,
    some_refusals,
    refusals_that_name_the_topic,
]
SIZES = [(5, 3), (30, 6), (1200, 80)]


def made(row: Row, train: int, test: int) -> tuple[list[Example], list[Example]]:
    rng = random.Random(0)
    return (
        [Example(f"train{i}", *row(rng, i)) for i in range(train)],
        [Example(f"test{i}", *row(rng, i)) for i in range(test)],
    )


@pytest.mark.parametrize("row", SETS)
@pytest.mark.parametrize("size", SIZES)
def test_no_row_of_its_own_question_is_a_copy(row: Row, size: tuple[int, int]) -> None:
    train, test = made(row, *size)
    assert near_copies(train, test) == {}


@pytest.mark.parametrize("row", [set_ for set_ in SETS if set_ is not refusals_that_name_the_topic])
@pytest.mark.parametrize("size", SIZES)
def test_the_question_in_other_words_is_one(row: Row, size: tuple[int, int]) -> None:
    train, test = made(row, *size)
    first = test[0].instruction.split("\n")
    copies = [
        Example("same", test[0].instruction, test[0].output),
        Example("reworded", f"What would you say to this one?\n{first[1]}", test[0].output),
    ]
    assert near_copies([*train, *copies], test) == {"same": "test0", "reworded": "test0"}


def test_two_sentences_swapped_however_common_they_are() -> None:
    rng = random.Random(1)
    sentence, answer = characters(rng, 16), characters(rng, 10)
    test = [
        Example("t", f"翻成文言：{sentence}", answer),
        Example("u", f"翻成文言：{characters(rng, 16)}", characters(rng, 10)),
    ]
    swapped = [Example(f"s{i}", f"{characters(rng, 18)}{answer}", sentence) for i in range(5)]
    # The answer alone is no copy, and being common it no longer says anything.
    alone = [Example(f"a{i}", characters(rng, 30), answer) for i in range(5)]
    others = [Example(f"o{i}", characters(rng, 16), characters(rng, 10)) for i in range(20)]
    found = near_copies([*swapped, *alone, *others], test)
    assert found == {row.id: "t" for row in swapped}


def test_copies_in_other_words_do_not_make_their_answer_common() -> None:
    answer = "彼欣然而去矣，其樂也融融"
    test = [Example("t", "請把下面的句子翻譯成文言文，不要加解說：\n他很高興地走了", answer)]
    copies = [
        Example("a", "用文言怎麼說：他很高興地走了", answer),
        Example("b", "古人會說什麼？他很高興地走了", answer),
        Example("c", "他很高興地走了，寫成古文", answer),
    ]
    assert near_copies(copies, test) == {"a": "t", "b": "t", "c": "t"}


def test_what_stands_in_boilerplate_is_not_compared_alone() -> None:
    rng = random.Random(2)
    topic = "關於進出口貿易法規"
    rows = [
        Example(f"r{i}", characters(rng, 20), f"{REFUSAL}{said}{REFUSAL[::-1]}")
        for i, said in enumerate([topic, *(characters(rng, 9) for _ in range(4)), topic])
    ]
    others = [Example(f"o{i}", characters(rng, 20), characters(rng, 20)) for i in range(20)]
    assert near_copies([*rows[1:], *others], rows[:1]) == {}


def test_a_short_question_inside_a_longer_one() -> None:
    rng = random.Random(3)
    train, test = made(yes_or_no, 20, 5)
    test.append(Example("t", "Where is he now?", "Yes"))
    longer = Example("a", f"{words(rng, 8)} where is he now {words(rng, 8)}", "No")
    assert near_copies([longer, *train], test) == {}


def test_the_wording_of_a_few_among_thousands() -> None:
    rng = random.Random(4)
    asked = "Rewrite the following sentence in the passive voice and keep its tense, please:"
    few = [Example(f"f{i}", f"{asked} {words(rng, 5)}", words(rng, 4)) for i in range(24)]
    many = [Example(f"m{i}", words(rng, 9), words(rng, 9)) for i in range(3000)]
    assert near_copies([*few[1:], *many], few[:1]) == {}


def test_signs_of_mathematics_and_emoji_are_part_of_a_question() -> None:
    test = [
        Example("logic", "Simplify: P ∧ (Q ∨ P)", "P"),
        Example("sum", "2+2=", "4"),
        Example("face", "😀", "positive"),
    ]
    other = [
        Example("a", "Simplify: P ∨ (Q ∧ P)", "P"),
        Example("b", "2*2=", "4"),
        Example("c", "😃", "positive"),
    ]
    same = [
        Example("d", "simplify P ∧ Q ∨ P", "P."),
        Example("e", "2 + 2 =", "4"),
        Example("f", "😀!", "Positive"),
    ]
    assert near_copies([*other, *same], test) == {"d": "logic", "e": "sum", "f": "face"}
