"""Rows of CSV: commas, semicolons or tabs, told by the header, and what Excel adds.

``csv`` fills or drops the fields of a row that is too short or too long, and refuses a field of
more than 131,072 characters. Both are handled here.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from harness.data.columns import Columns, plain_name
from harness.data.json_rows import RawRows, loads
from harness.data.layouts import READ, TALKS, example_of, flat_of, missing_column
from harness.errors import DataError, suggest

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
_SEPARATOR = re.compile(r'\s*"?sep=(.)"?[ \t]*(?:\r\n|\r|\n)', re.IGNORECASE)
_LISTS = (*TALKS, "history")  # whose cells are JSON

Record = tuple[int, list[str]]  # the line on which it starts, and its cells


def csv_rows(path: Path, text: str, columns: Columns, tabs: bool = False) -> tuple[str, RawRows]:
    """Return what holds the rows ("CSV (semicolon)"), and the rows with their places.

    An empty cell is a field that the row lacks, but for what its layout needs. A score is a number
    where its text is one. A record that cannot be a row is an error in its place.

    Args:
        path: for error lines.
        text: without a byte order mark.
        columns: what ``--columns`` says, because the header has to be in a layout.
        tabs: whether the file's name speaks for tabs.

    Raises:
        DataError: the header is in no layout, or what follows is no CSV.
    """
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataError(f"{path}, line {line}: a NUL character; CSV is text without any")
    with _fields_up_to(len(text)):
        named = _SEPARATOR.match(text)
        body, before = (text[named.end() :], 1) if named else (text, 0)
        order = [named[1]] if named else sorted(DELIMITERS, key=lambda one: tabs and one != "\t")
        delimiter = _delimiter(path, body, order, columns)
        records = _records(path, body, delimiter, before)
        line, header = next(records)
        names = _names(header)
        _check_header(path, line, names, columns)
        rows = [_row(path, record, names, columns) for record in records]
    word = DELIMITERS.get(delimiter, repr(delimiter))
    return f"CSV ({word})", rows


def table_rows(path: Path, text: str, needed: str) -> RawRows:
    """The records of CSV in no layout of rows, every cell a text, each with its place.

    Args:
        path: for error lines.
        text: without a byte order mark.
        needed: a column that the header has to have; it tells the delimiter.

    Raises:
        DataError: the column is not there, stands twice, or what follows is no CSV.
    """
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataError(f"{path}, line {line}: a NUL character; CSV is text without any")
    with _fields_up_to(len(text)):
        delimiter = next((one for one in DELIMITERS if _has(path, text, one, needed)), ",")
        records = _records(path, text, delimiter, 0)
        line, header = next(records)
        names = _names(header)
        if names.count(needed) != 1:
            what = "stands twice" if needed in names else "is not"
            raise DataError(
                f"{path}, line {line}: column {needed!r} {what} in the header, which has "
                f"{', '.join(map(repr, names)):.200}"
            )
        return [
            (f"line {line}", _cells(f"{path}, line {line}", names, cells))
            for line, cells in records
        ]


def _has(path: Path, text: str, delimiter: str, name: str) -> bool:
    with suppress(DataError, StopIteration):  # said when the file is read
        return name in _names(next(_records(path, text, delimiter, 0))[1])
    return False


def _cells(where: str, names: Sequence[str], cells: Sequence[str]) -> dict[str, Any] | DataError:
    if len(cells) != len(names):
        return DataError(
            f"{where}: {len(cells)} fields, but the header has {len(names)}; quote a field that "
            f"contains the delimiter, a quote or a line break"
        )
    return dict(zip(names, cells, strict=True))


def _delimiter(path: Path, text: str, order: Sequence[str], columns: Columns) -> str:
    """The first delimiter with which the header is in a layout, or the one it has most of."""
    headers = {}
    for one in order:
        with suppress(DataError):  # said when the file is read with it
            _, headers[one] = next(_records(path, text, one, 0))
    for one, header in headers.items():
        if _in_layout(header, columns):
            return one
    return max(order, key=lambda one: len(headers.get(one, ())))


def _in_layout(header: Sequence[str], columns: Columns) -> bool:
    names = [columns.name_of(name) for name in header]
    return flat_of(names) is not None or any(name in names for name in TALKS)


@contextmanager
def _fields_up_to(characters: int) -> Iterator[None]:
    """Let csv read fields of that length; its limit is one for the whole process."""
    before = csv.field_size_limit()
    csv.field_size_limit(max(before, min(characters, 2**31 - 1)))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _records(path: Path, text: str, delimiter: str, before: int) -> Iterator[Record]:
    """Each record that is not a blank line, with the line on which it starts."""
    # newline="": a line break inside quotes stays as it is.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    while True:
        line = before + reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            hint = "; a quote is not closed" if "end of data" in str(error) else ""
            raise DataError(f"{path}, line {line}: not valid CSV: {error}{hint}") from None
        if any(cell.strip() for cell in record):  # Excel writes rows of delimiters alone
            yield line, record


def _names(header: Sequence[str]) -> list[str]:
    """Names of the columns; one without a name, as Excel and pandas leave it, gets its number."""
    names = [plain_name(name) for name in header]
    return [name or f"column {number}" for number, name in enumerate(names, start=1)]


def _check_header(path: Path, line: int, header: Sequence[str], columns: Columns) -> None:
    for name in header:
        if header.count(name) > 1:
            raise DataError(f"{path}, line {line}: column {name!r} stands twice in the header")
    if not _in_layout(header, columns):
        names = [columns.name_of(name) for name in header]
        found = ", ".join(map(repr, header))
        for ours, theirs in columns.absent(header):
            raise DataError(
                f"{path}, line {line}: no column {theirs!r}, which --columns reads as {ours!r}"
                f"{suggest(theirs, header)}; the header has {found:.200}"
            )
        raise DataError(
            f"{path}, line {line}: {missing_column(names)}; the header has {found:.200}; read are "
            f"{READ}; others with --columns, such as --columns {example_of(names)}"
        )


def _row(
    path: Path, record: Record, header: Sequence[str], columns: Columns
) -> tuple[str, dict[str, Any] | DataError]:
    line, cells = record
    place = f"line {line}"
    where = f"{path}, {place}"
    if len(cells) != len(header):
        return place, DataError(
            f"{where}: {len(cells)} fields, but the header has {len(header)}; quote a field that "
            f"contains the delimiter, a quote or a line break"
        )
    if _names(cells) == list(header):
        return place, DataError(f"{where}: repeats the header; were two files joined?")
    layout = flat_of(columns.name_of(name) for name in header)
    needed = {"id", *((layout.question, layout.answer) if layout else TALKS)}
    row: dict[str, Any] = {}
    for name, cell in zip(header, cells, strict=True):
        ours = columns.name_of(name)
        if cell.strip() or ours in needed:
            row[name] = _value(where, ours, cell) if layout is None or ours not in TALKS else cell
    return place, row


def _value(where: str, name: str, cell: str) -> Any:
    """What a cell says: a number of a score, an array of turns, else its text."""
    if name == "score":
        with suppress(ValueError):  # what is not a number stays a text, which is shown to the user
            return float(cell)
    if name in _LISTS and cell.lstrip().startswith("["):
        with suppress(ValueError, DataError):  # likewise
            return loads(where, cell)
    return cell
