"""A strategy's variants, each checked: a third party's mistake is one line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from harness.config.options import Options
from harness.core import Strategy
from harness.errors import OptionError, StrategyError, one_line
from harness.naming import slug


@dataclass(frozen=True)
class Variant:
    """A strategy with its settings.

    Attributes:
        strategy: the strategy.
        label: its name among the variants of all strategies.
        title: what sentences call it where others are compared with it.
    """

    strategy: Strategy
    label: str
    title: str


def variants_of(strategy: type[Strategy], options: Options) -> list[Variant]:
    """Return the variants that the flags and the strategy's settings ask for.

    Variants that the strategy gives one label are told apart by the settings in which they
    differ: ``shortest-n02``, ``shortest-n04``.

    Raises:
        StrategyError: there is none, or its label or draw is not usable.
        OptionError: a setting is missing.
    """
    where = f"strategy {strategy.name!r}"
    with strategy_errors(f"{where}: variants()"):
        every = list(strategy.variants(options))
    if not every:
        raise StrategyError(f"{where}: has no variant for these flags")
    for one in every:
        _check(where, one)
    labels = [one.label for one in every]
    found = []
    for one in every:
        alike = [other for other in every if other.label == one.label]
        added = _differing(one, alike) if labels.count(one.label) > 1 else ""
        title = getattr(one, "title", one.label)
        found.append(Variant(one, one.label + added, title + added))
    return found


def _check(where: str, variant: Strategy) -> None:
    with strategy_errors(f"{where}: label, title, stochastic or draw"):
        label, draw, _ = variant.label, variant.draw, bool(variant.stochastic)
        title = getattr(variant, "title", label)
    if not isinstance(label, str) or not re.fullmatch(r"[A-Za-z0-9._+-]+", label):
        raise StrategyError(f"{where}: label {label!r} must be ASCII letters, digits and . _ + -")
    if not isinstance(title, str):
        raise StrategyError(f"{where}: title {title!r} must be a text")
    if draw not in ("run", "row"):
        raise StrategyError(f"{where}: draw {draw!r} must be 'run' or 'row'")


def _differing(variant: Strategy, alike: Sequence[Strategy]) -> str:
    """The settings of a variant that others of its label do not share, for its label."""
    others = [_flat(other) for other in alike]
    return "".join(
        f"-{key}{_text(value)}"
        for key, value in _flat(variant).items()
        if any(key not in other or other[key] != value for other in others)
    )


def _flat(value: object, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in fields(value) if is_dataclass(value) else ():
        key, inside = prefix + one.name, getattr(value, one.name)
        found |= _flat(inside, f"{key}.") if is_dataclass(inside) else {key: inside}
    return found


def _text(value: object) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:02d}"
    if isinstance(value, tuple):
        return "+".join(map(_text, value))
    return repr(value) if isinstance(value, float) else slug(str(value))


@contextmanager
def strategy_errors(where: str) -> Iterator[None]:
    """Turn whatever a strategy raises into a StrategyError of one line."""
    try:
        yield
    except OptionError:
        raise
    except Exception as error:  # a third party's code may raise anything
        raise StrategyError(f"{where} raised {type(error).__name__}: {one_line(error)}") from error
