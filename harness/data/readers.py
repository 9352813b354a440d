"""From a file to places and raw rows: strict about the file, silent about nothing.

``instruction`` and ``conversations`` are JSON, an array (``.json``) or one row a line
(``.jsonl``); ``csv`` has a header and one row a record. ``auto`` goes by the file's suffix, or by
its first character where the suffix says nothing: ``[`` an array, ``{`` lines, anything else CSV.

``json.loads`` alone accepts NaN and keeps the last of two equal keys; ``str.splitlines`` cuts a
JSONL row at U+2028; ``csv`` fills or drops the fields of a row that is too short or too long, and
refuses a field of more than 131,072 characters. All of these are errors, or handled, here.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import DataError, OptionError, suggest

FORMATS = ("auto", "instruction", "csv", "conversations")
UNREAD = ("system", "history")  # what would change a row, and is refused where it is not empty
COLUMNS = (
    "id",
    "instruction",
    "input",
    "output",
    "score",
    "direction",
    *UNREAD,
)  # others are ignored
REQUIRED = ("instruction", "output")
BLANK = ("input", "score", "direction", *UNREAD)  # an empty cell of these is a field the row lacks

RawRows = list[tuple[str, Any]]


@dataclass(frozen=True)
class Columns:
    """What is read of a CSV file.

    Attributes:
        required: columns that it has to have.
        kept: all that are read; others are ignored.
        blank: those that a row lacks where its cell is blank.
    """

    required: tuple[str, ...] = REQUIRED
    kept: tuple[str, ...] = COLUMNS
    blank: tuple[str, ...] = BLANK


ROWS = Columns()


class JsonObject(dict[str, Any]):
    """A JSON object that remembers a field that stood twice: json keeps the last, silently."""

    twice: str | None = None


def read_rows(path: Path, format: str = "auto", columns: Columns = ROWS) -> RawRows:
    """Return the rows of a file as they stand there, each with its place: "row 3", "line 7".

    ``columns`` says what is read of CSV; of JSON everything is.

    Raises:
        DataError: one line naming the file and the place.
        OptionError: no such format.
    """
    if format not in FORMATS:
        raise OptionError(
            f"--format={format}: no such format{suggest(format, FORMATS)}; "
            f"known: {', '.join(FORMATS)}"
        )
    text = _read(path)
    layout = _layout(path, text, format)
    if layout == "csv":
        return _csv(path, text, columns)
    return {"array": _array, "lines": _lines}[layout](path, text)


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    names = {JsonObject: "an object", list: "an array", str: "a text", bool: "true or false"}
    if value is None:
        return "null"
    return names.get(type(value), "a number")


def _layout(path: Path, text: str, format: str) -> str:
    suffix, first = path.suffix.lower(), text.lstrip()[0]
    if format == "csv" or (format == "auto" and suffix == ".csv"):
        return "csv"
    known = {".json": "array", ".jsonl": "lines", "[": "array", "{": "lines"}
    layout = known.get(suffix) or known.get(first)
    if layout is None and format != "auto":
        raise DataError(
            f"{path}: --format={format} reads JSON, which starts with '[' or '{{', found "
            f"{first!r}; CSV is read with --format=csv"
        )
    return layout or "csv"


def _read(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if raw.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: starts with a byte order mark; save it as UTF-8 without BOM")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: not UTF-8 (byte 0x{raw[error.start]:02x})") from None
    if not text.strip():
        raise DataError(f"{path}: the file is empty; expected rows")
    return text


def _array(path: Path, text: str) -> RawRows:
    try:
        value = _loads(path, text)
    except json.JSONDecodeError as error:
        hint = ""
        if error.msg == "Extra data" and text.lstrip().startswith("{"):
            hint = "; it looks like JSONL (one row a line): name it .jsonl"
        raise DataError(
            f"{path}, line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}{hint}"
        ) from None
    if not isinstance(value, list):
        raise DataError(
            f"{path}: expected a JSON array of rows, found {kind_of(value)}"
            + ("; a file with one row a line is named .jsonl" if isinstance(value, dict) else "")
        )
    return [(f"row {number}", row) for number, row in enumerate(value, start=1)]


def _lines(path: Path, text: str) -> RawRows:
    rows = []
    # Not splitlines(): U+2028 and friends are legal inside a JSON string.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = _loads(path, line, f", line {number}")
        except json.JSONDecodeError as error:
            hint = ""
            if number == 1 and line.lstrip().startswith("["):
                hint = "; it looks like a JSON array: name it .json"
            raise DataError(f"{path}, line {number}: not valid JSON: {error.msg}{hint}") from None
        if isinstance(value, list):
            raise DataError(
                f"{path}, line {number}: expected one row, found an array; "
                f"a JSON array is named .json"
            )
        rows.append((f"line {number}", value))
    return rows


def _loads(path: Path, text: str, where: str = "") -> Any:
    def constant(name: str) -> Any:
        raise DataError(f"{path}{where}: {name} is not valid JSON")

    def pairs(items: list[tuple[str, Any]]) -> JsonObject:
        row = JsonObject(items)
        if len(row) < len(items):
            names = [name for name, _ in items]
            row.twice = next(name for name in row if names.count(name) > 1)
        return row

    try:
        return json.loads(text, parse_constant=constant, object_pairs_hook=pairs)
    except RecursionError:
        raise DataError(f"{path}{where}: nested too deeply to be rows") from None
    except json.JSONDecodeError:
        raise
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"{path}{where}: not usable JSON: {error}") from None


def _csv(path: Path, text: str, columns: Columns) -> RawRows:
    """Rows of the known columns; a score is a number where its text is one."""
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataError(f"{path}, line {line}: a NUL character; CSV is text without any")
    with _fields_up_to(len(text)):
        records = _records(path, text)
        line, header = next(records)
        _check_header(path, line, header, columns.required)
        rows: RawRows = []
        for line, record in records:
            if len(record) != len(header):
                raise DataError(
                    f"{path}, line {line}: {len(record)} fields, but the header has "
                    f"{len(header)}; quote a field that contains a comma, a quote or a line break"
                )
            cells = dict(zip(header, record, strict=True))
            rows.append((f"line {line}", _row(cells, columns)))
    return rows


@contextmanager
def _fields_up_to(characters: int) -> Iterator[None]:
    """Let csv read fields of that length; its limit is one for the whole process."""
    before = csv.field_size_limit()
    csv.field_size_limit(max(before, min(characters, 2**31 - 1)))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _records(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Each record that is not a blank line, with the line on which it starts."""
    # newline="": a line break inside quotes stays as it is.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            hint = "; a quote is not closed" if "end of data" in str(error) else ""
            raise DataError(f"{path}, line {line}: not valid CSV: {error}{hint}") from None
        if record:
            yield line, record


def _check_header(path: Path, line: int, header: Sequence[str], required: Sequence[str]) -> None:
    for name in header:
        if header.count(name) > 1:
            raise DataError(f"{path}, line {line}: column {name!r} stands twice in the header")
    for name in required:
        if name not in header:
            found = ", ".join(map(repr, header))
            hint = ""
            if found.startswith(("'[", "'{")):
                hint = "; it looks like JSON: name it .json or .jsonl"
            elif len(header) == 1 and name in header[0]:
                hint = "; columns are separated by commas"
            raise DataError(
                f"{path}, line {line}: no column {name!r}{suggest(name, header)}; "
                f"the header has {found:.200}{hint}"
            )


def _row(cells: dict[str, str], columns: Columns) -> dict[str, Any]:
    row: dict[str, Any] = {
        name: cell
        for name, cell in cells.items()
        if name in columns.kept and not (name in columns.blank and not cell.strip())
    }
    if "score" in row:
        with suppress(ValueError):  # what is not a number stays a text, which is shown to the user
            row["score"] = float(row["score"])
    return row
