"""Predictions: answers in a file, one for each test row, ours or anybody's.

A file is a JSON array, JSON lines or CSV, told by its suffix as files of rows are. A row has an
``id``, that of a test row, and the answer, called ``output``, ``prediction``, ``answer`` or
``text``: exactly one of them, because a file that has two may call the reference one of these. An
answer may be empty. Other fields are ignored.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core import Example
from harness.data.containers import open_file
from harness.data.delimited import table_rows
from harness.data.json_rows import RawRows, json_rows, kind_of
from harness.data.parquet import parquet_rows
from harness.data.validation import check_once, id_of, optional_text_of
from harness.errors import DataError, OptionError, StoreError, suggest
from harness.files import write_atomically
from harness.records import Answer

FIELDS = ("output", "prediction", "answer", "text")  # what an answer may be called
SUFFIXES = (".json", ".jsonl", ".csv")


def read_predictions(path: Path, rows: Sequence[Example]) -> tuple[Answer, ...]:
    """Read a file of predictions.

    Args:
        path: the file.
        rows: the test rows; each needs exactly one prediction.

    Returns:
        The answers, in the order of the rows. How they ended is not known.

    Raises:
        DataError: one line that names the file and, where it is about one, the row and the field.
    """
    known = {row.id for row in rows}
    found: dict[str, tuple[str, str]] = {}  # id → where it stands, and the answer
    for place, raw in raw_rows(path):
        if isinstance(raw, DataError):
            raise raw
        where = f"{path}, {place}"
        name, text = _prediction(where, raw)
        if name in found:
            raise DataError(f"{where}: id {name!r} stood in {found[name][0]} already")
        if name not in known:
            raise DataError(
                f"{where}: id {name!r} is none of the {len(rows)} test rows{suggest(name, known)}"
            )
        found[name] = place, text
    missing = [row.id for row in rows if row.id not in found]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of {len(rows)} test rows have no prediction, the first is "
            f"{missing[0]!r}; an empty answer is a row too"
        )
    return tuple(_answer(row.id, found[row.id][1]) for row in rows)


def raw_rows(path: Path) -> RawRows:
    """The rows of the file as they stand there, whatever holds them."""
    content = open_file(path)
    if content.text is None:
        return parquet_rows(path, content.raw)
    if content.text.lstrip("\ufeff \t\r\n")[:1] in "[{":
        return json_rows(path, content.text)[1]
    return table_rows(path, content.text, "id")


def _prediction(where: str, raw: Any) -> tuple[str, str]:
    """The id and the answer of one row of the file."""
    if not isinstance(raw, dict):
        raise DataError(f"{where}: expected an object with id and output, found {kind_of(raw)}")
    check_once(where, raw)
    named = [name for name in FIELDS if name in raw]
    if len(named) > 1:
        raise DataError(
            f"{where}: fields {', '.join(map(repr, named))}: which one is the answer? keep one"
        )
    if not named:
        keys = ", ".join(map(repr, raw)) or "no field"
        raise DataError(f"{where}: no field {FIELDS[0]!r} (or {_or(FIELDS[1:])}); found {keys:.80}")
    name = id_of(where, raw)
    if raw[named[0]] is None:
        raise DataError(
            f'{where}, field {named[0]!r}: expected a text, found null; an empty answer is ""'
        )
    return name, optional_text_of(where, raw, named[0])


def _or(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:-1])) + f" or {names[-1]!r}"


def _answer(name: str, text: str) -> Answer:
    return Answer(id=name, tokens=(), text=text, ended="", stop="", logprobs=(), n_context=0)


def write_predictions(path: Path, answers: Sequence[Answer]) -> None:
    """Write ``id`` and ``output`` of each answer, whole or not at all.

    Args:
        path: its suffix says how: ``.json``, ``.jsonl`` or ``.csv``.
        answers: in the order of the file.

    Raises:
        OptionError: another suffix.
        StoreError: the file cannot be written; the old one is then as it was.
    """
    check_suffix(path)
    rows = [{"id": one.id, "output": one.text} for one in answers]
    write_atomically(path, _dump(path, rows))


def check_suffix(path: Path) -> None:
    """See, before anything is computed, that predictions could be written by this name.

    Raises:
        OptionError: they could not.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise OptionError(
            f"{path}: predictions are written as {', '.join(SUFFIXES)}, found the suffix "
            f"{path.suffix!r}"
        )


def _dump(path: Path, rows: Sequence[Mapping[str, str]]) -> str:
    suffix = path.suffix.lower()
    if suffix == ".json":
        return json.dumps(rows, ensure_ascii=False, indent=1) + "\n"
    if suffix == ".jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    for row in rows:
        if "\0" in row["output"]:
            raise StoreError(
                f"{path}: not written: the answer to row {row['id']!r} has a NUL character, which "
                f"CSV cannot hold; write .json or .jsonl"
            )
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, ["id", "output"], lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    return table.getvalue()
