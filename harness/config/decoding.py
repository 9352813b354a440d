"""From what a user writes to a :class:`DecodingSpec`: flags' text, and tables of a recipe.

    greedy                                      the most likely token, each time
    sample                                      tokens drawn from the model's distribution
    sample:temperature=0.7,top_p=0.9,top_k=30   from a changed one
    beam:num_beams=8                            beam search, with 4 beams if nothing is said

Settings that mean nothing together are refused: a temperature says nothing of a decoding that
draws nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from harness.core import DecodingSpec
from harness.errors import OptionError, suggest

BUILT_IN: dict[str, Mapping[str, Any]] = {
    "greedy": {},
    "sample": {"do_sample": True},
    "beam": {"num_beams": 4},
}
DEFAULTS = DecodingSpec()

# Of inline settings, in the names of decodings.
SHORT = {
    "max_new_tokens": "n",
    "max_length": "len",
    "min_new_tokens": "min",
    "temperature": "t",
    "top_k": "k",
    "top_p": "p",
    "min_p": "minp",
    "repetition_penalty": "rep",
    "no_repeat_ngram_size": "ngram",
    "num_beams": "b",
    "length_penalty": "lp",
    "early_stopping": "early",
    "num_return_sequences": "draws",
}


def parse_decodings(
    text: str, tables: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[DecodingSpec, ...]:
    """Return the decodings that a comma-separated list names, inline settings included.

    Args:
        text: as a user writes it: ``greedy,sample:temperature=0.7,top_p=0.9,beam``.
        tables: a recipe's ``[decoding.NAME]``, by name.

    Raises:
        OptionError: one is unknown, has unusable settings, or stands twice.
    """
    parts: list[str] = []
    for part in text.split(","):
        # What has a value but no name before it belongs to the decoding before it.
        if parts and "=" in part and ":" not in part.partition("=")[0]:
            parts[-1] += f",{part.strip()}"
        else:
            parts.append(part.strip())
    found = tuple(parse_decoding(part, tables) for part in parts)
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise OptionError(f"--decode: {name} stands twice; name each decoding once")
    return found


def parse_decoding(
    text: str, tables: Mapping[str, Mapping[str, Any]] | None = None
) -> DecodingSpec:
    """Return one decoding: a name, perhaps with ``:`` and settings.

    Raises:
        OptionError: it is unknown, or has unusable settings.
    """
    name, colon, rest = text.partition(":")
    known = dict(BUILT_IN)
    for own, settings in (tables or {}).items():
        known[own] = {**BUILT_IN.get(own, {}), **settings}
    if name not in known:
        raise OptionError(
            f"--decode={text}: {name!r} is no decoding; there are {', '.join(known)}"
            f"{suggest(name, known)}"
        )
    where = f"--decode={text}"
    if not colon:
        return decoding(name, known[name], where)
    given: dict[str, Any] = {}
    for part in rest.split(","):
        field, equals, value = part.partition("=")
        field = field.strip()
        if not equals or not field:
            raise OptionError(f"{where}: expected settings such as temperature=0.7, found {part!r}")
        if field == "stop":
            given[field] = [*given.get(field, []), _unescaped(value)]
        elif field in given:
            raise OptionError(f"{where}: {field} stands twice")
        else:
            given[field] = _value(value.strip())
    spec = decoding(name, {**known[name], **given}, where)
    return replace(spec, name=label(name, spec, known[name]))


def check_name(name: str, where: str) -> None:
    """See that a recipe's decoding can be asked for by its name, and stand in ids.

    Raises:
        OptionError: it cannot.
    """
    if not re.fullmatch(r"[A-Za-z0-9._+-]+", name):
        raise OptionError(f"{where}: {name!r} must be ASCII letters, digits and . _ + -")


def decoding(name: str, settings: Mapping[str, Any], where: str | None = None) -> DecodingSpec:
    """Return the decoding that a recipe's table ``[decoding.NAME]`` describes.

    Args:
        name: what it is called.
        settings: field → value.
        where: what errors name; by default the table.

    Raises:
        OptionError: a field is unknown, or a value unusable, or one means nothing beside others.
    """
    where = where or f"[decoding.{name}]"
    values: dict[str, Any] = {}
    for field, value in settings.items():
        if field not in CHECKS:
            raise OptionError(f"{where}: there is no setting {field!r}{suggest(field, CHECKS)}")
        try:
            values[field] = CHECKS[field](value)
        except ValueError as error:
            raise OptionError(f"{where}: {field} = {value!r}: expected {error}") from None
    spec = DecodingSpec(name, **values)
    _check_together(spec, values, where)
    return spec


def label(base: str, spec: DecodingSpec, known: Mapping[str, Any] | None = None) -> str:
    """An ASCII name of a decoding with settings: ``sample-t0.7-p0.9``."""
    before = replace(DEFAULTS, **known or BUILT_IN.get(base, {}))
    parts = [base]
    for field, short in SHORT.items():
        value = getattr(spec, field)
        if value != getattr(before, field):
            parts.append(f"{short}{value:g}" if _is_number(value) else f"{short}{value}".lower())
    if spec.stop != before.stop:
        parts.append(f"stop{len(spec.stop)}")
    return "-".join(parts)


def _check_together(spec: DecodingSpec, given: Mapping[str, Any], where: str) -> None:
    """Refuse settings that mean nothing beside the others.

    Raises:
        OptionError: the first of them.
    """

    def refuse(field: str, why: str) -> None:
        if field in given and given[field] != getattr(DEFAULTS, field):
            raise OptionError(f"{where}: {field} means nothing {why}")

    if spec.do_sample and spec.num_beams > 1:
        raise OptionError(
            f"{where}: num_beams = {spec.num_beams} with do_sample: a beam search draws nothing; "
            f"leave one out"
        )
    if not spec.do_sample:
        for field in ("temperature", "top_k", "top_p", "min_p", "num_return_sequences"):
            refuse(field, "where nothing is drawn; use sample, or do_sample = true")
    if spec.num_beams == 1:
        for field in ("length_penalty", "early_stopping"):
            refuse(field, "without beams; use beam, or num_beams above 1")
    if "max_length" in given and "max_new_tokens" in given and spec.max_length is not None:
        raise OptionError(
            f"{where}: max_length and max_new_tokens both say where an answer ends; leave one out"
        )
    if spec.max_length is None and spec.min_new_tokens > spec.max_new_tokens:
        raise OptionError(
            f"{where}: min_new_tokens = {spec.min_new_tokens} is above max_new_tokens = "
            f"{spec.max_new_tokens}"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(low: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise ValueError(f"a whole number from {low}")
        return value

    return check


def _number(what: str, fits: Callable[[float], bool]) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        if not _is_number(value) or not math.isfinite(value) or not fits(value):
            raise ValueError(what)
        return float(value)

    return check


def _switch(value: Any) -> bool:
    if value is not True and value is not False:
        raise ValueError("true or false")
    return bool(value)


def _early(value: Any) -> Any:
    if value != "never" and not isinstance(value, bool):
        raise ValueError("true, false or never")
    return value


def _strings(value: Any) -> tuple[str, ...]:
    strings = [value] if isinstance(value, str) else value
    fits = isinstance(strings, list | tuple) and all(
        isinstance(one, str) and one for one in strings
    )
    if not fits:
        raise ValueError("a text that is not empty, or a list of such")
    return tuple(dict.fromkeys(strings))


def _value(text: str) -> Any:
    """What inline text stands for: a switch, a number, or itself."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _unescaped(text: str) -> str:
    r"""Text in which ``\n`` and ``\t`` stand for what cannot be written in a flag."""
    return text.replace("\\n", "\n").replace("\\t", "\t")


_above_0 = _number("a number above 0", lambda value: value > 0)
CHECKS: dict[str, Callable[[Any], Any]] = {
    "max_new_tokens": _whole(1),
    "max_length": _whole(1),
    "min_new_tokens": _whole(0),
    "do_sample": _switch,
    "temperature": _above_0,
    "top_k": _whole(0),
    "top_p": _number("a number above 0, and up to 1", lambda value: 0 < value <= 1),
    "min_p": _number("a number from 0 to below 1", lambda value: 0 <= value < 1),
    "repetition_penalty": _above_0,
    "no_repeat_ngram_size": _whole(0),
    "num_beams": _whole(1),
    "length_penalty": _number("a number", lambda value: True),
    "early_stopping": _early,
    "stop": _strings,
    "num_return_sequences": _whole(1),
}
assert set(CHECKS) | {"name"} == {field.name for field in fields(DecodingSpec)}
