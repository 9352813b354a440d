"""Choosing and ordering training rows, against orders and ranks worked out by hand or by scipy."""

from __future__ import annotations

import random

import pytest

from harness.core import Example
from harness.data.selection import (
    Curriculum,
    StagePlan,
    Subset,
    ascending,
    choose,
    make_stages,
    ranks,
    split_levels,
)
from harness.errors import OptionError


def rows(*pairs: tuple[int, float | None]) -> list[Example]:
    """Rows of these (length, score), named a, b, c…"""
    return [
        Example(chr(ord("a") + i), "問", "答" * length, score=score)
        for i, (length, score) in enumerate(pairs)
    ]


POOL = rows((5, 1.0), (9, 2.0), (1, 5.0), (7, 4.0), (3, 3.0))


def ids(examples: object) -> str:
    return "".join(example.id for example in examples)  # type: ignore[attr-defined]


def test_ranks_are_average_ranks() -> None:
    """scipy.stats.rankdata([3, 1, 4, 1, 5, 9, 2, 6, 5, 3]) − 1, scipy 1.16."""
    values = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]
    assert ranks(values) == [3.5, 0.5, 5.0, 0.5, 6.5, 9.0, 2.0, 8.0, 6.5, 3.5]
    assert ranks([]) == []


def test_rows_are_ordered_by_a_measure() -> None:
    assert ids(ascending(POOL, (("length", 1.0),))) == "ceadb"
    assert ids(ascending(POOL, (("length", -1.0),))) == "bdaec"
    assert ids(ascending(POOL, (("score", 1.0),))) == "abedc"


def test_a_mix_is_a_weighted_sum_of_ranks() -> None:
    # Ranks by length: a 2, b 4, c 0, d 3, e 1; by score: a 0, b 1, c 4, d 3, e 2.
    # Half and half: a 2, b 5, c 4, d 6, e 3.
    assert ids(ascending(POOL, (("length", 0.5), ("score", 0.5)))) == "aecbd"
    # Three parts length: a 6, b 13, c 4, d 12, e 5.
    assert ids(ascending(POOL, (("length", 0.75), ("score", 0.25)))) == "ceadb"


def test_equal_rows_are_ordered_by_id_whatever_the_file_says() -> None:
    pool = rows((2, 1.0), (2, 1.0), (2, 1.0), (1, 1.0))
    for seed in range(5):
        shuffled = random.Random(seed).sample(pool, len(pool))
        assert ids(ascending(shuffled, (("length", 1.0),))) == "dabc"


def test_the_top_rows_keep_the_order_of_the_pool() -> None:
    assert ids(choose(POOL, Subset(2))) == "bd"
    assert ids(choose(POOL, Subset(3, (("score", 1.0),)))) == "cde"
    assert choose(POOL, None) == tuple(POOL)


def test_levels_are_of_nearly_equal_size() -> None:
    assert [ids(part) for part in split_levels(POOL, 2, (("length", 1.0),))] == ["ce", "adb"]
    assert [ids(part) for part in split_levels(POOL, 5, (("score", 1.0),))] == list("abedc")


def test_each_level_is_a_stage_unless_stages_are_named() -> None:
    first, second = make_stages(POOL, Curriculum(2))
    assert (ids(first.examples), ids(second.examples)) == ("ce", "adb")
    assert first.num_train_epochs is None
    plan = (StagePlan((1,), 2.0, 1e-3), StagePlan((2, 1)))
    first, second = make_stages(POOL, Curriculum(2, stages=plan))
    assert (first.num_train_epochs, first.learning_rate) == (2.0, 1e-3)
    assert ids(second.examples) == "adbce"
    assert make_stages(POOL, None) == ()


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: choose(POOL, Subset(6)), r"subset\.top=6: the training pool has only 5 rows"),
        (
            lambda: choose(rows((1, 1.0), (2, None)), Subset(1, (("score", 1.0),))),
            r"by score: training row 'b' has no score",
        ),
        (
            lambda: split_levels(POOL, 6, (("length", 1.0),)),
            r"curriculum\.levels=6: .* only 5 rows",
        ),
    ],
    ids=["too many", "no score", "too many levels"],
)
def test_what_cannot_be_chosen(ask: object, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        ask()  # type: ignore[operator]
