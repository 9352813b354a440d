"""Metrics against references: BLEU and chrF2 against sacrebleu, ROUGE-L against its definition."""

from __future__ import annotations

import functools
import math
import random

import numpy as np
import pytest
import sacrebleu

from harness.core import Example
from harness.metrics import sacre
from harness.metrics.anchors import copy_source, reference, source_of
from harness.metrics.bleu import Bleu
from harness.metrics.chrf import Chrf
from harness.metrics.exact import Exact
from harness.metrics.language import mostly_cjk
from harness.metrics.length_ratio import LengthRatio
from harness.metrics.rouge import Rouge, common
from tests.builders.answers import answer, answered, rows

CASES = [(language, kept, n) for language in ("zh", "en") for kept in (0.9, 0.3, 0.0) for n in (1, 5, 60)]  # fmt: skip


@pytest.mark.parametrize(("language", "kept", "n"), CASES)
def test_of_a_corpus_they_are_sacrebleus(language: str, kept: float, n: int) -> None:
    examples = rows(n, language)
    seen = answered(examples, kept, seed=n, language=language)
    texts, references = [one.text for one in seen], [one.output for one in examples]
    tokenize = {"zh": "zh", "en": "13a"}[language]
    bleu = sacrebleu.corpus_bleu(texts, [references], tokenize=tokenize).score
    chrf = sacrebleu.corpus_chrf(texts, [references]).score
    assert Bleu().read(seen, examples).aggregates == {"bleu": pytest.approx(bleu, abs=1e-11)}
    assert Chrf().read(seen, examples).aggregates == {"chrf": pytest.approx(chrf, abs=1e-11)}


@pytest.mark.parametrize("language", ["zh", "en"])
def test_of_a_row_they_are_sacrebleus_scores_of_a_sentence(language: str) -> None:
    examples = rows(60, language)
    seen = answered(examples, 0.6, language=language)
    tokenize = {"zh": "zh", "en": "13a"}[language]
    pairs = [(one.text, [row.output]) for one, row in zip(seen, examples, strict=True)]
    bleu = [sacrebleu.sentence_bleu(*pair, tokenize=tokenize).score for pair in pairs]
    chrf = [sacrebleu.sentence_chrf(*pair).score for pair in pairs]
    assert Bleu().read(seen, examples).values == pytest.approx(bleu, abs=1e-9)
    assert Chrf().read(seen, examples).values == pytest.approx(chrf, abs=1e-9)
    one = Chrf().row(seen[7], examples[7])
    assert one == pytest.approx(chrf[7], abs=1e-9)


def test_sums_of_rows_are_the_statistics_of_the_corpus() -> None:
    examples = rows(30)
    seen = answered(examples, 0.7)
    found = Bleu().read(seen, examples).sums
    assert found is not None
    score = sacrebleu.corpus_bleu(
        [one.text for one in seen], [[one.output for one in examples]], tokenize="zh"
    )
    expected = [score.sys_len, score.ref_len, *score.counts, *score.totals]
    assert found.sum(axis=0).tolist() == expected
    parts = [Bleu().statistics(seen[i : i + 7], examples[i : i + 7]) for i in range(0, 30, 7)]
    assert np.array_equal(np.concatenate(parts), found)


def test_empty_answers_count_as_0_and_are_not_dropped() -> None:
    examples = rows(16)
    good = answered(examples, 1.0)
    half = tuple(one if i % 2 else answer(one.id, "") for i, one in enumerate(good))
    for metric in (Bleu(), Chrf(), Rouge(), Exact()):
        whole, found = metric.read(good, examples), metric.read(half, examples)
        assert whole.aggregates[metric.name] == pytest.approx(metric.span)
        assert len(found.values) == 16
        assert not found.nonfinite
        assert found.values[0] == 0
        assert found.aggregates[metric.name] < 0.8 * metric.span
        nothing = tuple(answer(one.id, "") for one in examples)
        assert metric.read(nothing, examples).aggregates[metric.name] == 0
    assert LengthRatio().read(half, examples).nonfinite == ()


def test_an_empty_answer_to_an_empty_reference_has_0_too() -> None:
    both = [answer("a", "")], [Example("a", "問", "")]
    for metric in (Bleu(), Chrf(), Rouge(), Exact()):
        assert metric.read(*both).aggregates[metric.name] == 0
    assert LengthRatio().read(*both).values.tolist() == [0]  # as long


def test_answers_and_references_are_paired_by_row() -> None:
    # sacrebleu takes references by stream; given them by row it computes something else.
    examples = rows(2)
    seen = answered(examples, 0.8)
    with pytest.raises(ValueError, match="2 answers, 1 references"):
        sacre.statistics([one.text for one in seen], ["善"], None)
    with pytest.raises(ValueError, match="observation of row 'r001', expected one of 'r000'"):
        Chrf().read(seen, examples[:1])
    with pytest.raises(ValueError, match="3 observations of 2 rows"):
        Chrf().read((*seen, seen[0]), examples)


def test_the_tokenizer_goes_by_the_references_and_stands_in_the_definition() -> None:
    chinese, english = rows(8), rows(5, "en")
    assert Bleu().defined(chinese)["signature"] == (
        f"nrefs:1|case:mixed|eff:no|tok:zh|smooth:exp|version:{sacrebleu.__version__}"
    )
    assert "|tok:13a|" in Bleu().defined(english)["signature"]
    assert "|tok:char|" in Bleu("char").defined(chinese)["signature"]
    # A Chinese row is one word to 13a.
    seen = answered(chinese, 0.9)
    as_words = Bleu("13a").read(seen, chinese).aggregates["bleu"]
    assert Bleu().read(seen, chinese).aggregates["bleu"] > 3 * as_words
    assert Chrf().defined(chinese)["signature"] == (
        f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{sacrebleu.__version__}"
    )


@pytest.mark.parametrize(
    ("text", "chinese"),
    [("子曰", True), ("a子曰", True), ("ab子曰", False), ("", False), ("12。", False), ("𠀀", True), ("カナ", True), ("한국", False)],
)  # fmt: skip
def test_what_counts_as_chinese(text: str, chinese: bool) -> None:
    assert mostly_cjk([text]) is chinese


# ------------------------------------------------------------------- ROUGE-L, exact match, length


def slow(one: str, other: str) -> int:
    """The longest common subsequence by the recursion that defines it."""

    @functools.cache
    def length(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return 0
        if one[i - 1] == other[j - 1]:
            return length(i - 1, j - 1) + 1
        return max(length(i - 1, j), length(i, j - 1))

    return length(len(one), len(other))


def test_the_longest_common_subsequence_is_that_of_its_definition() -> None:
    rng = random.Random(4)
    for _ in range(300):
        one, other = ("".join(rng.choices("之乎者也", k=rng.randrange(70))) for _ in range(2))
        assert common(one, other) == common(other, one) == slow(one, other)
    assert common("", "甲") == common([], []) == 0


@pytest.mark.parametrize(
    ("text", "expected", "f1"),
    [
        ("令問農何泣", "令問老農何以泣", 2 * 5 / 12),  # 5 of 5 and 5 of 7 characters
        ("令 問\n農何泣", "令問老農何以泣", 2 * 5 / 12),  # whitespace is no unit
        ("the fox is sour", "the grapes that the fox saw", 2 * 2 / 10),  # "the fox"
        ("The fox", "the fox", 2 * 1 / 4),  # as it is written
        ("善", "善", 1.0),
        ("善", "否", 0.0),
        ("", "善", 0.0),
    ],
)
def test_rouge_counts_characters_or_words(text: str, expected: str, f1: float) -> None:
    row = Example("a", "問", expected)
    assert Rouge().row(answer("a", text), row) == pytest.approx(100 * f1)


@pytest.mark.parametrize(
    ("text", "expected", "same"),
    [
        (" 善！\n", "善!", True),  # NFKC: the full-width mark is the narrow one
        ("ＡＢ１", "AB1", True),
        ("善", "善。", False),
        ("Yes", "yes", False),
        ("", "", False),
    ],
)
def test_exact_match(text: str, expected: str, same: bool) -> None:
    assert Exact().row(answer("a", text), Example("a", "", expected)) == float(same)


def test_length_is_worse_the_further_it_is_from_the_references() -> None:
    metric = LengthRatio()
    row = Example("a", "", "甲" * 9)
    shown = [metric.shown(metric.row(answer("a", "乙" * n), row)) for n in (0, 4, 9, 19, 99)]
    assert shown == pytest.approx([10, 2, 1, 2, 10])
    seen = [answer("a", "乙" * 4), answer("b", "乙" * 19)]
    found = metric.read(seen, [row, Example("b", "", "甲" * 9)]).aggregates
    assert found == {
        "length_factor": pytest.approx(2),
        "geometric_length_factor": pytest.approx(2),
        "length_ratio": pytest.approx(23 / 18),
    }
    empty = metric.read(seen[:1], [Example("a", "", "")]).aggregates
    assert math.isinf(empty["length_ratio"])


# ------------------------------------------------------------------- floor and ceiling


@pytest.mark.parametrize(
    ("instruction", "source"),
    [
        ("翻譯成文言文：\n雁歸來了。", "雁歸來了。"),
        ("翻譯成文言文：\n雁歸來了。\n答案：", "雁歸來了。"),
        ("將軍守城三個月，糧食吃完了。\n這句話在古代怎麼說：\n答案：", "將軍守城三個月，糧食吃完了。"),
        ("皇帝問：「你守邊十年，為什麼不談功勞？」\n幫我把這句話譯成古文", "皇帝問：「你守邊十年，為什麼不談功勞？」"),
        ("Translate:\n\nfirst line\nsecond line", "first line\nsecond line"),
        ("Summarize this.\nA fox that cannot reach the grapes says that they are sour.", "A fox that cannot reach the grapes says that they are sour."),
        ("Translate: the fox", "the fox"),
        ("翻譯：a: b", "a: b"),
        ("Why is the sea salt?", "Why is the sea salt?"),
        ("Answer:", "Answer:"),
        ("Question:\nAnswer now:", "Answer now:"),
        ("", ""),
    ],
)  # fmt: skip
def test_the_source_of_a_request(instruction: str, source: str) -> None:
    assert source_of(instruction) == source


def test_floor_and_ceiling_go_through_the_same_metrics() -> None:
    examples = rows(8)
    floor, ceiling = copy_source(examples), reference(examples)
    assert [one.id for one in floor] == [one.id for one in examples]
    assert floor[3].text == "雁歸來了。"
    for metric in (Bleu(), Chrf(), Rouge(), Exact()):
        low, high = (metric.read(one, examples).aggregates for one in (floor, ceiling))
        assert low[metric.name] < 0.6 * metric.span
        assert high[metric.name] == pytest.approx(metric.span)


def test_draws_of_a_row_are_one_corpus_and_one_row() -> None:
    examples = rows(12)
    draws = [answered(examples, kept, seed) for seed, kept in enumerate((0.9, 0.6, 0.3))]
    seen = [one for of_row in zip(*draws, strict=True) for one in of_row]
    texts = [one.text for one in seen]
    references = [row.output for row in examples for _ in draws]
    expected = sacrebleu.corpus_chrf(texts, [references]).score
    reading = Chrf().read(seen, examples)
    assert reading.aggregates["chrf"] == pytest.approx(expected, abs=1e-9)
    assert reading.tested.shape == (12, 18)
    exact = Exact().read(seen, examples)
    right = [[one.text == row.output for one in of_row] for row, of_row in zip(examples, zip(*draws, strict=True), strict=True)]  # fmt: skip
    assert exact.values == pytest.approx([sum(of_row) / 3 for of_row in right])
    assert exact.aggregates["exact"] == pytest.approx(sum(map(sum, right)) / 36)
