"""A judge beside people: of answers, of pairs, and what would agree with people without judging."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from harness.records import LabelledScore
from harness.statistics.people import agreement_with_people, nearest


def pairs(
    human: list[float], judged: list[float | None], lengths: list[tuple[int, int]]
) -> list[LabelledScore]:
    return [
        LabelledScore(f"r{i}", *one)
        for i, one in enumerate(zip(human, judged, lengths, strict=True))
    ]


def test_scores_are_compared_after_rounding_to_what_people_used() -> None:
    human = [0, 1, 2, 3, 4, 5, 2, 3, 1, 4.0]
    judged = [0.2, 1.4, 2.5, 2.9, 4.1, 4.9, 1.8, 3.6, 1.0, None]
    labels = [
        LabelledScore(f"r{i}", person, said, (10 * (i % 4),))
        for i, (person, said) in enumerate(zip(human, judged, strict=True))
    ]
    found = agreement_with_people(labels)
    assert (found.n, found.unjudged) == (9, 1)
    # 2.5 is neither 2 nor 3, 3.6 is 4 where the person said 3: seven of nine
    assert found.agreement.estimate == pytest.approx(7 / 9)
    # κ by its definition: the sums of squared differences within rows, and over all pairs
    rounded = [0, 1, 2.5, 3, 4, 5, 2, 4, 1]
    within = sum((a - b) ** 2 for a, b in zip(rounded, human, strict=False)) / 9
    between = sum((a - b) ** 2 for a in rounded for b in human[:9]) / 81
    assert found.kappa is not None
    assert found.kappa.estimate == pytest.approx(1 - within / between)
    assert found.spearman is not None
    assert found.length is not None
    assert found.spearman.estimate == pytest.approx(spearmanr(judged[:9], human[:9]).statistic)
    lengths = [10 * (i % 4) for i in range(9)]
    assert found.length.estimate == pytest.approx(spearmanr(lengths, human[:9]).statistic)
    assert found.longer is None
    said = " ".join(found.sentences)
    assert said.startswith("Of 9 answers that people judged it says what they say of 78 % [")
    assert "1 more answers it left unjudged." in said
    assert "The answer’s length alone has ρ " in said


def test_pairs_stand_beside_what_needs_no_judge() -> None:
    human = [1, 0, 0.5, 1, 0, 1, 0, 1.0] * 5
    lengths = [(9, 5), (5, 9), (7, 7), (9, 5), (9, 5), (5, 9), (5, 9), (9, 5)] * 5
    found = agreement_with_people(pairs(human, [*human[:20], *[0.5] * 20], lengths))
    assert found.longer is not None
    assert found.first is not None
    assert found.longer.estimate == 6 / 8  # all but the fifth and sixth of every eight
    assert found.first.estimate == 4 / 8
    ties = human[20:].count(0.5)
    assert found.agreement.estimate == (20 + ties) / 40
    assert found.spearman is None
    assert found.failures == ["it agrees with people less than taking the longer answer would"]
    assert agreement_with_people(pairs(human, [*human], lengths)).failures == []


def test_a_judge_worse_than_length_is_not_believed() -> None:
    rng = np.random.default_rng(0)
    human = rng.integers(0, 2, 200).astype(float)
    lengths = [(9, 5) if one == 1 else (5, 9) for one in human]
    lengths[:20] = [two[::-1] for two in lengths[:20]]  # the longer one is right on 90 %
    judged = np.where(rng.random(200) < 0.65, human, 1 - human)
    found = agreement_with_people(pairs(human.tolist(), judged.tolist(), lengths))  # type: ignore[arg-type]
    assert found.failures == ["it agrees with people less than taking the longer answer would"]
    against = agreement_with_people(pairs(human.tolist(), (1 - human).tolist(), lengths))  # type: ignore[arg-type]
    assert against.failures[0] == "its agreement with people cannot be told from chance"


def test_an_agreement_that_may_be_chance_is_said_to_be() -> None:
    rng = np.random.default_rng(1)
    human, judged = rng.integers(0, 6, (2, 30)).astype(float).tolist()
    found = agreement_with_people(
        [LabelledScore(str(i), a, b, (5,)) for i, (a, b) in enumerate(zip(human, judged, strict=True))]
    )  # fmt: skip
    assert found.failures == ["its agreement with people cannot be told from chance"]
    assert found.length is None  # all answers are as long


def test_answers_and_pairs_are_not_mixed() -> None:
    labels = [LabelledScore("a", 1, 1, (3,)), LabelledScore("b", 1, 1, (3, 4))]
    with pytest.raises(ValueError, match="single answers and pairs"):
        agreement_with_people(labels)
    with pytest.raises(ValueError, match="0 rows have both verdicts"):
        agreement_with_people([])


def test_halfway_is_neither() -> None:
    menu = np.array([0, 0.5, 1])
    found = nearest(np.array([0.1, 0.25, 0.3, 0.74, 0.75, 0.8, 2]), menu)
    assert found.tolist() == [0, 0.25, 0.5, 0.5, 0.75, 1, 1]
    assert nearest(np.array([0.2, 0.5, 0.9]), np.array([0.0, 1.0])).tolist() == [0, 0.5, 1]
