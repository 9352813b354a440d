"""From a file to places and raw rows: strict about the file, silent about nothing.

What a file is, is told by what stands in it: Parquet by its first bytes, JSON by its first
character, anything else is CSV. The suffix decides only where both are possible.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.data.columns import Columns
from harness.data.containers import Content, open_file
from harness.data.delimited import csv_rows
from harness.data.json_rows import RawRows, json_rows
from harness.data.layouts import LAYOUTS
from harness.data.parquet import parquet_rows
from harness.errors import OptionError, suggest

FORMATS = ("auto", "csv", *LAYOUTS)
_JSON_START = re.compile(r"\ufeff?\s*(?:\[\s*[\[{\"\]]|\{\s*[\"}])")


@dataclass(frozen=True)
class RawFile:
    """The rows of a file as they stand there.

    Attributes:
        container: what holds them, in words: "JSON lines, gzip".
        rows: each with its place, "row 3" or "line 7"; a DataError where there is no row.
    """

    container: str
    rows: RawRows


def read_rows(path: Path, format: str = "auto", columns: Columns | None = None) -> RawFile:
    """Return the rows of a file as they stand there.

    Raises:
        DataError: the file as a whole cannot be read; one line naming the file and the place.
        OptionError: no such format.
    """
    if format not in FORMATS:
        raise OptionError(
            f"--format={format}: no such format{suggest(format, FORMATS)}; "
            f"known: {', '.join(FORMATS)}"
        )
    content = open_file(path)
    if content.text is None:
        return RawFile(_words("Parquet", content), parquet_rows(path, content.raw))
    read = _reader(content.suffix, content.text, format)
    name, rows = read(path, content.text, columns or Columns())
    return RawFile(_words(name, content), rows)


def _words(name: str, content: Content) -> str:
    return ", ".join((name, *content.words))


def _reader(
    suffix: str, text: str, format: str
) -> Callable[[Path, str, Columns], tuple[str, RawRows]]:
    if format == "csv" or (suffix in (".csv", ".tsv") and not _is_json(text)):
        return _tabs if suffix == ".tsv" else csv_rows
    if suffix in (".json", ".jsonl", ".ndjson") or text.lstrip("\ufeff \t\r\n")[:1] in "[{":
        return _json
    return _tabs if suffix in (".tsv", ".tab") else csv_rows


def _json(path: Path, text: str, columns: Columns) -> tuple[str, RawRows]:
    return json_rows(path, text)


def _tabs(path: Path, text: str, columns: Columns) -> tuple[str, RawRows]:
    return csv_rows(path, text, columns, tabs=True)


def _is_json(text: str) -> bool:
    """Whether a text in a file named .csv is JSON without doubt: its first value can be parsed."""
    if not _JSON_START.match(text):
        return False
    try:
        json.JSONDecoder().raw_decode(text.lstrip("\ufeff \t\r\n"))
    except (ValueError, RecursionError):
        return False
    return True
