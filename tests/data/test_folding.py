"""Characters that differ in form only are equal, and what means something else is not."""

from __future__ import annotations

import pytest

from harness.core import Example
from harness.data.folding import fold
from harness.data.leakage import near_copies

# Pairs of Unicode's Unihan database (kSimplifiedVariant, kTraditionalVariant, kZVariant,
# kSemanticVariant) and of the lists of Taiwan, Hong Kong and Japan; written down by hand.
ONE_CHARACTER = [
    "国國",
    "发發髮発",
    "说說説",
    "为為爲",
    "台臺颱檯枱",
    "里裡裏",
    "着著",
    "干乾幹",
    "后後",
    "于於",
    "峰峯",
    "群羣",
    "真眞",
    "众眾衆",
    "线線綫",
    "气氣気",
    "黑黒",
    "德徳",
    "并並併",
    "床牀",
    "强強",
    "温溫",
    "即卽",
    "衛衞卫",
    "啟啓启",
    "床牀",
    "豈\uf900岂",  # a compatibility ideograph
    "一\u2f00",  # a radical
    "AａａA",
]


@pytest.mark.parametrize("forms", ONE_CHARACTER)
def test_forms_of_one_character_are_equal(forms: str) -> None:
    assert len({fold(form) for form in forms}) == 1


def test_what_shows_nothing_is_left_out() -> None:
    shown = "國\ufe00\U000e0100王\u200b說\u2060，co\u00adop\ufeff"
    assert fold(shown) == fold("国王说，coop")
    assert fold("ﬁ １２") == "fi 12"


def test_different_characters_stay_different() -> None:
    different = "人入八日曰目己已巳土士未末天夫大太田由甲申東西南北"
    assert len({fold(character) for character in different}) == len(different)
    assert len({fold(c) for c in "あいうアイウабвαβγ가나다"}) == 15


TEST = [
    Example(
        "te0",
        "翻譯成現代文：\n國之將興必有禎祥，國之將亡必有妖孽",
        "國家將要興盛，一定有吉祥的徵兆",
    ),
    Example("te1", "翻譯成現代文：\n讀書百遍而義自見", "讀書一百遍，它的意義自然會顯現出來"),
    Example("te2", "翻譯成現代文：\n看著乾淨的臺階發呆", "瞧着沒有灰塵的階梯愣住了"),
]
COPIES = {
    "simplified": (
        (
            "te0",
            "翻译成现代文：\n国之将兴必有祯祥，国之将亡必有妖孽",
            "国家将要兴盛，一定有吉祥的征兆",
        ),
        ("te1", "翻译成现代文：\n读书百遍而义自见", "读书一百遍，它的意义自然会显现出来"),
        ("te2", "翻译成现代文：\n看着干净的台阶发呆", "瞧着没有灰尘的阶梯愣住了"),
    ),
    "variants": (
        ("te1", "飜譯成現代文：\n讀書百遍而義自見", "讀書一百遍，它旳意義自然會顯現出來"),
        ("te2", "翻譯成現代文：\n看着乾浄的台階髪呆", "瞧著没有灰塵的階梯愣住了"),
    ),
    "compatibility ideographs": (
        (
            "te1",
            "翻譯成現代文：\n\uf95a書百遍而義自\ufa0a",
            "\uf95a書一百遍，它的意義自然會顯現出來",
        ),
    ),
    "width and hidden marks": (
        (
            "te1",
            "翻譯成現代文:\n讀\u200b書\ufe00百\u2060遍而義\U000e0100自見",
            "讀書一百遍,它的意義自然會顯現出來",
        ),
    ),
    "the other direction": (
        ("te1", "写成文言：读书一百遍，它的意义自然会显现出来", "读书百遍而义自见"),
    ),
}


@pytest.mark.parametrize("rows", COPIES.values(), ids=COPIES)
def test_copies_in_another_script_are_seen(rows: tuple[tuple[str, str, str], ...]) -> None:
    train = [Example(f"of {id_}", asked, said) for id_, asked, said in rows]
    train.append(
        Example("other", "翻译成现代文：\n学而时习之不亦说乎", "学了又时时温习不也很愉快吗")
    )
    assert near_copies(train, TEST) == {f"of {id_}": id_ for id_, _, _ in rows}
