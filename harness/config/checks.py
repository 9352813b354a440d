"""What a value of a table may be: checks that return it, or say what would be right.

A check raises ValueError whose text completes the sentence "expected …".
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, Literal, Union, get_args, get_origin

from harness.errors import OptionError, suggest

Check = Callable[[Any], Any]


def is_number(value: object) -> bool:
    """Whether it is a finite number that a float can hold."""
    try:
        return not isinstance(value, bool | str) and math.isfinite(value)  # type: ignore[arg-type]
    except (OverflowError, TypeError):
        return False


def whole(low: int, also: int | None = None) -> Check:
    """Accept whole numbers from ``low`` on, and ``also``."""
    what = f"a whole number from {low}" + (f", or {also}" if also is not None else "")

    def check(value: Any) -> int:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not is_whole or not (value >= low or value == also):
            raise ValueError(what)
        return int(value)

    return check


def number(low: float, high: float = math.inf, *, open_low: bool = False) -> Check:
    """Accept finite numbers from ``low`` (or above it) to below ``high``."""
    what = f"a number {'above' if open_low else 'from'} {low:g}"
    what += "" if math.isinf(high) else f" to below {high:g}"

    def check(value: Any) -> float:
        if not is_number(value) or not low <= value < high or (open_low and value == low):
            raise ValueError(what)
        return float(value)

    return check


def share(value: Any) -> float:
    """Accept a number above 0, and up to 1."""
    if not is_number(value) or not 0 < value <= 1:
        raise ValueError("a number above 0, and up to 1")
    return float(value)


def one_of(*known: str) -> Check:
    """Accept one of some names."""

    def check(value: Any) -> str:
        if value not in known:
            raise ValueError(f"one of {', '.join(known)}{suggest(str(value), known)}")
        return str(value)

    return check


def switch(value: Any) -> bool:
    """Accept true and false."""
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def optional(check: Check) -> Check:
    """Accept ``"none"``, TOML having no word for it, and what ``check`` accepts."""

    def checked(value: Any) -> Any:
        if value == "none":
            return None
        try:
            return check(value)
        except ValueError as error:
            raise ValueError(f'{error}, or "none"') from None

    return checked


def check_table(
    where: str, table: object, checks: Mapping[str, Check], aside: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the values of a table, each one checked.

    Args:
        where: what an error line begins with.
        table: what was read.
        checks: key → what accepts its value, or raises ValueError saying what is right.
        aside: key → what to say of it where it stands somewhere else.

    Raises:
        OptionError: a key that is not known, with the nearest one that is, or an unusable value.
    """
    if not isinstance(table, Mapping):
        raise OptionError(f"{where}: expected a table of settings, found {table!r:.60}")
    values = {}
    for key, value in table.items():
        check = known_key(where, key, checks, aside)
        try:
            values[key] = check(value)
        except OptionError as error:  # of a table inside this one
            raise OptionError(f"{where}: {key}: {error}") from None
        except ValueError as error:
            raise unusable(where, key, value, error) from None
    return values


# What people call settings of training, and what they are called here.
_SHORT = {
    "lr": "learning_rate",
    "epochs": "num_train_epochs",
    "steps": "max_steps",
    "batch_size": "per_device_train_batch_size",
    "rank": "r",
    "alpha": "lora_alpha",
    "dropout": "lora_dropout",
    "scheduler": "lr_scheduler_type",
}


def known_key(
    where: str,
    key: str,
    known: Mapping[str, Any],
    aside: Mapping[str, str] | None = None,
    also: Sequence[str] = (),
) -> Any:
    """Return what ``known`` has of a key of a table.

    Args:
        where: what an error line begins with.
        key: as it stands in the table.
        known: the keys that may stand there.
        aside: key → what to say of it where it stands somewhere else.
        also: other keys to name as known.

    Raises:
        OptionError: the key is not known; the line names the nearest one that is.
    """
    if aside and key in aside:
        raise OptionError(f"{where}: {key}: {aside[key]}")
    if key not in known:
        names = [*also, *known]
        listed = f"known: {', '.join(names)}" if names else "it has none"
        usual = _SHORT.get(key)
        near = f" (did you mean {usual!r}?)" if usual in names else suggest(key, names)
        raise OptionError(f"{where}: no setting {key!r}{near}; {listed}")
    return known[key]


def unusable(where: str, key: str, value: object, error: ValueError) -> OptionError:
    """The line that says that a key's value is not what it may be."""
    return OptionError(f"{where}: {key} = {value!r:.60}: expected {error}")


def check_for(annotation: Any) -> Check | None:
    """Return the check of a field with this annotation, or None where it says too little.

    int, float, str, bool, Literal, tuple, ``X | None`` and unions of these are understood.
    """
    simple = {
        int: _integer,
        float: _float,
        str: _string,
        bool: switch,
        type(None): _none,
    }
    origin, inside = get_origin(annotation), get_args(annotation)
    if annotation in simple:
        return simple[annotation]
    if origin is Literal:
        return _literal(inside)
    if origin is tuple and inside:
        return _tuple(inside)
    if origin in (Union, types.UnionType):
        others = [one for one in inside if one is not type(None)]
        checks = [check_for(one) for one in others]
        usable = [check for check in checks if check is not None]
        if len(usable) < len(checks):
            return None
        check = usable[0] if len(usable) == 1 else _any_of(usable)
        return optional(check) if len(others) < len(inside) else check
    return None


def depth(annotation: Any) -> int:
    """How many lists deep a value of this annotation may be: 0 for int, 1 for tuple[int, ...]."""
    inside = max(map(depth, get_args(annotation)), default=0)
    return inside + (1 if get_origin(annotation) is tuple else 0)


def dataclass_of(annotation: Any) -> type[Any] | None:
    """The dataclass that a field holds, alone or or-else None; None for any other field."""
    for one in get_args(annotation) or (annotation,):
        if isinstance(one, type) and is_dataclass(one) and get_origin(annotation) is not tuple:
            return one
    return None


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("a whole number")
    return value


def _float(value: Any) -> float:
    if not is_number(value):
        raise ValueError("a finite number")
    return float(value)


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a text")
    return value


def _none(value: Any) -> None:
    if value != "none":
        raise ValueError('"none"')


def _literal(known: tuple[Any, ...]) -> Check:
    def check(value: Any) -> Any:
        for one in known:
            # true is no 1
            if type(one) is type(value) and one == value:
                return one
        texts = [one for one in known if isinstance(one, str)]
        near = suggest(value, texts) if isinstance(value, str) else ""
        raise ValueError(f"one of {', '.join(map(str, known))}{near}")

    return check


def _tuple(inside: tuple[Any, ...]) -> Check | None:
    many = len(inside) == 2 and inside[1] is Ellipsis
    checks = [check_for(one) for one in (inside[:1] if many else inside)]
    if any(check is None for check in checks):
        return None

    def check(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise ValueError("a list")
        if not many and len(value) != len(checks):
            raise ValueError(f"a list of {len(checks)}")
        each = checks * len(value) if many else checks
        try:
            return tuple(one(item) for one, item in zip(each, value, strict=True) if one)
        except ValueError as error:
            raise ValueError(f"a list, each of it {error}") from None

    return check


def _any_of(checks: list[Check]) -> Check:
    def check(value: Any) -> Any:
        said = []
        for one in checks:
            try:
                return one(value)
            except ValueError as error:
                said.append(str(error))
        raise ValueError(", or ".join(said))

    return check
