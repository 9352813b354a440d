"""One field of a raw row, checked: an error names the field and says what was found in it.

null is absent: an optional field that is null is not there.
"""

from __future__ import annotations

import math
from typing import Any

from harness.data.json_rows import JsonObject, kind_of
from harness.errors import DataError


def check_once(where: str, row: dict[str, Any]) -> None:
    """Refuse a row in which a field stands twice."""
    if isinstance(row, JsonObject) and row.twice is not None:
        raise DataError(f"{where}, field {row.twice!r}: stands twice in the row")


def value_of(where: str, row: dict[str, Any], name: str) -> Any:
    """A field that has to be there."""
    if name not in row:
        found = ", ".join(repr(key) for key in row) or "no field"
        raise DataError(f"{where}: no field {name!r}; found {found:.200}")
    if row[name] is None:
        raise DataError(f"{where}, field {name!r}: absent (null)")
    return row[name]


def text_of(where: str, row: dict[str, Any], name: str, *, answer: bool = False) -> str:
    """A text that has to be there and must not be blank."""
    value = value_of(where, row, name)
    check_text(where, name, value)
    if not value.strip():
        what = "the answer" if answer or name == "output" else "it"
        raise DataError(f"{where}, field {name!r}: {what} is empty")
    return str(value)


def optional_text_of(where: str, row: dict[str, Any], name: str) -> str:
    """A text, or an empty one where it is blank, null or not there."""
    value = row.get(name)
    if value is None:
        return ""
    check_text(where, name, value)
    return value if value.strip() else ""


def id_of(where: str, row: dict[str, Any]) -> str:
    """The row's id: a text, or an integer, which is read as its text."""
    value = row.get("id")
    return str(value) if type(value) is int else text_of(where, row, "id")


def score_of(where: str, row: dict[str, Any]) -> float | None:
    """The row's score: a finite number, or None where it has none."""
    value = row.get("score")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        found = repr(value) if isinstance(value, str) else kind_of(value)
        raise DataError(f"{where}, field 'score': expected a number, found {found:.80}")
    try:
        number = float(value)
    except OverflowError:  # an integer of hundreds of digits
        number = math.inf
    if not math.isfinite(number):
        raise DataError(f"{where}, field 'score': expected a finite number, found {number}")
    return number


def check_text(where: str, name: str, value: Any) -> None:
    """Refuse what is no text, or holds half of a character."""
    if not isinstance(value, str):
        raise DataError(f"{where}, field {name!r}: expected a text, found {kind_of(value)}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}, field {name!r}: a lone surrogate \\u{ord(value[error.start]):04x} at "
            f"character {error.start + 1}; it is half of a character"
        ) from None
