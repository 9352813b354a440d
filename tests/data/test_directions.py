"""Directions: the usual wordings, and what is none."""

from __future__ import annotations

import pytest

from harness.data.directions import compiled, direction_of, parse_patterns

CLASSICAL = (
    "将以下现代文转换成文言文：\n天",
    "将下列句子译为古代汉语：\n天",
    "用文言文表达下面这句话：\n天",
    "请把这句白话翻译成典雅的文言文：天",
    "把下面的现代汉语改写为“文言文”：天",
    "請以文言文的形式重新表述：天",
    "白话文转文言文：天",
    "从现代文到文言文：天",
    "翻译下面这句现代文：天",
    "這句話在古代漢語中應該怎麼說：天",
    "如何用古文表達：天",
    "Translate into Classical Chinese: 天",
    "Render this in Literary Chinese: 天",
    "Convert the following modern Chinese text to wenyan. 天",
    "Rewrite this sentence in classical Chinese: 天",
    "translate from modern Chinese: 天",
)
MODERN = (
    "翻译以下文言文：\n天",
    "把这段古文转换为白话文：\n天",
    "请解释这句文言文的意思：\n天",
    "请将下列文言文译成通顺流畅的现代汉语：天",
    "翻譯這段文言文為白話文：天",
    "这句文言文是什么意思？天",
    "請給出這句話的白話文翻譯：天",
    "用现代汉语解释：天",
    "用大白话说：天",
    "古文今译：天",
    "文言转白话：天",
    "文言文转白话文：天",
    "Translate this Classical Chinese sentence: 天",
    "What does this sentence in Classical Chinese mean? 天",
    "Translate the passage written in Classical Chinese into fluent modern Chinese: 天",
    "Into modern Chinese: 天",
    "Render in vernacular: 天",
    "Explain the following ancient Chinese text: 天",
)
NEITHER = (
    "Translate: 天",
    "翻譯成英文：天",
    "將這段文言文翻譯成英文：天",
    "翻譯成現代英文：天",
    "先翻譯成文言文，再翻譯成白話文：天",
    "介紹文言文的歷史",
    "寫一篇關於現代文學的文章",
    "解釋這段現代文：天",
    "What is the history of modern Chinese literature?",
)


@pytest.mark.parametrize("text", CLASSICAL)
def test_into_classical_chinese(text: str) -> None:
    assert direction_of(text) == "classical"


@pytest.mark.parametrize("text", MODERN)
def test_into_modern_chinese(text: str) -> None:
    assert direction_of(text) == "modern"


@pytest.mark.parametrize("text", NEITHER)
def test_into_neither(text: str) -> None:
    assert direction_of(text) is None


def test_own_patterns_go_before_the_built_in_ones() -> None:
    patterns = compiled(parse_patterns("classical=擬古,modern=今{1,2}化,classical=^復古"))
    assert [(name, one.pattern) for name, one in patterns] == [
        ("classical", "擬古"),
        ("modern", "今{1,2}化"),
        ("classical", "^復古"),
    ]
    assert direction_of("擬古：天", patterns) == "classical"
    assert direction_of("今化：天", patterns) == "modern"
    assert direction_of("擬古，翻譯成白話文", patterns) == "classical"
    assert direction_of("擬古今化", patterns) is None  # both
    assert direction_of("翻譯成白話文", patterns) == "modern"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("擬古", "classical=PATTERN or modern=PATTERN"),
        ("old=擬古", "classical=PATTERN or modern=PATTERN"),
        ("classical=", "classical=PATTERN or modern=PATTERN"),
        ("modern=(", r"a regular expression; '\(' is none: missing \)"),
    ],
)
def test_a_wrong_pattern_says_what_is_right(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_patterns(text)
