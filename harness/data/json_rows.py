"""Rows of JSON: an array of them, one a line, or one after the other.

``json.loads`` alone accepts NaN and keeps the last of two equal keys; ``str.splitlines`` cuts a
row at U+2028. The first two are faults of their rows, the last is handled, here.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.errors import DataError

# The place of a row ("row 3", "line 7") and the row; or the error that says why it is none.
RawRows = list[tuple[str, Any]]

_BREAK = re.compile(r"\r\n|\r|\n")  # U+2028 and friends are legal inside a JSON string
_SPACE = re.compile(r"\s*")
_WRAPPERS = ("data", "rows", "train", "test", "examples", "instances", "records", "items")
_MARK = "\ufeff"  # a byte order mark: files that were joined have them at the start of any line


class JsonObject(dict[str, Any]):
    """A JSON object that remembers a field that stood twice: json keeps the last, silently."""

    twice: str | None = None


class Constant:
    """NaN or Infinity, which Python and pandas write and which are no JSON."""

    def __init__(self, name: str) -> None:
        self.name = name


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    names: dict[type, str] = {list: "an array", str: "a text"}
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, Constant):
        return f"{value.name}, which is not valid JSON"
    return names.get(type(value)) or (
        "a number" if isinstance(value, int | float) else f"a {type(value).__name__}"
    )


def json_rows(path: Path, text: str) -> tuple[str, RawRows]:
    """Return what holds the rows ("JSON array", "JSON lines"), and the rows with their places.

    What holds them is told by the text, whatever the file's name says.

    Raises:
        DataError: it is no JSON; one line names the file and the place.
    """
    text = text.lstrip(_MARK + " \t\r\n") if text[:1] == _MARK else text
    start = text.lstrip()[:1]
    if start == "[":
        try:
            return "JSON array", _array(path, text)
        except json.JSONDecodeError as error:
            if error.msg != "Extra data":
                raise _broken(path, error) from None
    rows = _lines(path, text)
    if all(isinstance(row, DataError) for _, row in rows):
        try:
            rows = _sequence(path, text)
        except json.JSONDecodeError as error:
            hint = "" if start == "{" else "; CSV is read with --format=csv"
            raise _broken(path, error, hint) from None
    if len(rows) == 1:
        _check_unwrapped(path, rows[0][1])
    return "JSON lines", rows


def _check_unwrapped(path: Path, row: Any) -> None:
    for name in _WRAPPERS:
        if isinstance(row, dict) and isinstance(row.get(name), list):
            raise DataError(
                f"{path}: expected a JSON array of rows, found an object with an array in "
                f"{name!r}; write that array alone into a file"
            )


def _broken(path: Path, error: json.JSONDecodeError, hint: str = "") -> DataError:
    return DataError(
        f"{path}, line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}{hint}"
    )


def _array(path: Path, text: str) -> RawRows:
    value = loads(str(path), text)
    return [(f"row {number}", row) for number, row in enumerate(value, start=1)]


def _lines(path: Path, text: str) -> RawRows:
    rows: RawRows = []
    for number, line in enumerate(_BREAK.split(text), start=1):
        line = line.lstrip(_MARK)
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            value = loads(where, line)
        except json.JSONDecodeError as error:
            value = DataError(f"{where}: not valid JSON: {error.msg}")
        except DataError as error:
            value = error
        rows.append((f"line {number}", value))
    return rows


def _sequence(path: Path, text: str) -> RawRows:
    """Objects one after the other, each over several lines."""
    rows: RawRows = []
    start, decoder = _after_space(text, 0), _decoder()
    while start < len(text):
        value, end = _guarded(str(path), functools.partial(decoder.raw_decode, text, start))
        rows.append((f"row {len(rows) + 1}", value))
        start = _after_space(text, end)
    return rows


def _after_space(text: str, start: int) -> int:
    found = _SPACE.match(text, start)
    return found.end() if found else start


def loads(where: str, text: str) -> Any:
    """Parse JSON, keeping what is wrong with it in a form that can be named.

    Raises:
        DataError: it is nested too deeply, or has an endless number; the line begins with
            ``where``.
        json.JSONDecodeError: it is no JSON.
    """
    return _guarded(where, functools.partial(_decoder().decode, text))


def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(parse_constant=Constant, object_pairs_hook=_object)


def _guarded(where: str, parse: Callable[[], Any]) -> Any:
    try:
        return parse()
    except RecursionError:
        raise DataError(f"{where}: nested too deeply to be rows") from None
    except json.JSONDecodeError:
        raise
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"{where}: not usable JSON: {error}") from None


def _object(items: list[tuple[str, Any]]) -> JsonObject:
    row = JsonObject(items)
    if len(row) < len(items):
        names = [name for name, _ in items]
        row.twice = next(name for name in row if names.count(name) > 1)
    return row
