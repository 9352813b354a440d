"""Checks that follow from a field's annotation."""

from __future__ import annotations

import datetime
import re
import typing
from typing import Any, Literal

import pytest

from harness.config.checks import check_for, depth, number, optional, share, whole


@pytest.mark.parametrize(
    ("annotation", "raw", "value"),
    [
        (int, 3, 3),
        (float, 3, 3.0),
        (float, 0.5, 0.5),
        (str, "x", "x"),
        (bool, True, True),
        (Literal["a", "b"], "b", "b"),
        (Literal[1, 2], 2, 2),
        (int | None, "none", None),
        (int | None, 4, 4),
        (typing.Optional[int], "none", None),  # noqa: UP045
        (typing.Union[int, str], "x", "x"),  # noqa: UP007
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple[int, ...], [], ()),
        (tuple[int, str], [1, "x"], (1, "x")),
        (tuple[tuple[int, ...], ...], [[1], [2, 3]], ((1,), (2, 3))),
        (str | tuple[str, ...], ["x"], ("x",)),
    ],
)
def test_values_that_are_right(annotation: Any, raw: object, value: object) -> None:
    check = check_for(annotation)
    assert check is not None
    assert check(raw) == value
    assert type(check(raw)) is type(value)


@pytest.mark.parametrize(
    ("annotation", "raw", "says"),
    [
        (int, 1.0, "a whole number"),
        (int, True, "a whole number"),
        (int, "3", "a whole number"),
        (float, "1e-4", "a finite number"),
        (float, float("nan"), "a finite number"),
        (float, True, "a finite number"),
        (str, 3, "a text"),
        (bool, 1, "true or false"),
        (Literal["first", "last"], "frist", "one of first, last (did you mean 'first'?)"),
        (Literal[1], True, "one of 1"),
        (int | None, "nothing", 'a whole number, or "none"'),
        (int, "none", "a whole number"),
        (tuple[int, ...], 3, "a list"),
        (tuple[int, ...], [1, "x"], "a list, each of it a whole number"),
        (tuple[int, str], [1], "a list of 2"),
        (int | str, 1.5, "a whole number, or a text"),
    ],
)
def test_values_that_are_wrong_say_what_is_right(annotation: Any, raw: object, says: str) -> None:
    check = check_for(annotation)
    assert check is not None
    with pytest.raises(ValueError, match=f"^{re.escape(says)}$"):
        check(raw)


@pytest.mark.parametrize("annotation", [Any, list[int], dict, datetime.date, int | list[int]])
def test_other_annotations_say_too_little(annotation: Any) -> None:
    assert check_for(annotation) is None


def test_depth() -> None:
    assert [depth(a) for a in (int, int | None, Literal["a"])] == [0, 0, 0]
    assert depth(tuple[int, ...]) == depth(str | tuple[str, ...]) == 1
    assert depth(tuple[tuple[str, float], ...] | None) == 2
    assert depth(typing.Any) == 0


def test_ranges() -> None:
    assert whole(1, also=-1)(-1) == -1
    assert number(0, 1)(0) == 0.0
    assert share(1) == 1.0
    assert optional(whole(2))("none") is None
    for check, wrong, says in (
        (whole(1), 0, "a whole number from 1"),
        (number(0, 1), 1, "a number from 0 to below 1"),
        (number(0, open_low=True), 0, "a number above 0"),
        *((share, wrong, "a number above 0, and up to 1") for wrong in (0, 1.01, "1", True)),
    ):
        with pytest.raises(ValueError, match=f"^{says}$"):
            check(wrong)
