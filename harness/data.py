"""Reading rows: strict about the file, silent about nothing.

``json.loads`` alone accepts NaN, keeps the last of two equal keys and lets a lone surrogate
through to crash the tokenizer later; ``str.splitlines`` cuts a JSONL row at U+2028. All of these
are errors, or handled, here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from harness.core import Example, Task
from harness.errors import DataError
from harness.leakage import near_copies

_INTO = r"(?:翻譯|翻|譯|改寫|轉寫|寫|改)(?:成|為|作)"
_CLASSICAL = re.compile(rf"{_INTO}(?:文言文?|古文|古漢語)|(?:古代|古文|文言文?)怎麼說")
_MODERN = re.compile(
    rf"{_INTO}(?:現代(?:文|漢語|中文|語)?|白話文?|語體文?|今文)"
    r"|(?:現代文?|白話文?|現代漢語)怎麼說|(?:文言文|古文)翻譯"
)


def direction_of(instruction: str) -> str | None:
    """Return ``classical`` or ``modern``, the language an instruction asks for, or None.

    Read from the wording of the request; simplified characters are read as traditional ones. An
    instruction that names both or neither has no recognizable direction.
    """
    text = instruction.translate(str.maketrans("译为写转汉语现么说怎", "譯為寫轉漢語現麼說怎"))
    text = text.replace("话", "話").replace("体", "體")
    classical, modern = bool(_CLASSICAL.search(text)), bool(_MODERN.search(text))
    if classical == modern:
        return None
    return "classical" if classical else "modern"


def load_task(test_file: Path, train_file: Path, limit: int | None = None) -> Task:
    """Read both files and take out of the training pool what stands in the test set.

    A training row that equals a test row or nearly copies one (see :mod:`harness.leakage`) is
    left out whether or not ``limit`` reaches that test row, so that ``limit`` changes no draw.

    Raises:
        DataError: one line naming the file, the row and the field.
    """
    test, train = load_rows(test_file), load_rows(train_file)
    excluded = near_copies(train, test)
    pool = tuple(example for example in train if example.id not in excluded)
    if not pool:
        raise DataError(
            f"{train_file}: every row is a test row of {test_file} or a near copy of one; "
            f"--train-data needs rows of its own"
        )
    return Task(
        name=_task_name(test_file),
        examples=tuple(test if limit is None else test[:limit]),
        pool=pool,
        source=str(test_file),
        pool_source=str(train_file),
        excluded=tuple(excluded.items()),
    )


def _task_name(path: Path) -> str:
    folder = path.resolve().parent.name
    return f"{folder}/{path.stem}" if folder else path.stem


def load_rows(path: Path) -> list[Example]:
    """Read a JSON array or a JSONL file of rows with ``id``, ``instruction`` and ``output``.

    Raises:
        DataError: one line naming the file, the row and the field.
    """
    text = _read(path)
    rows = _jsonl(path, text) if path.suffix == ".jsonl" else _json(path, text)
    if not rows:
        raise DataError(f"{path}: no rows; expected at least one")
    examples: list[Example] = []
    places: dict[str, str] = {}
    for place, row in rows:
        example = _example(path, place, row)
        if example.id in places:
            raise DataError(
                f"{path}, {place}, field 'id': {example.id!r} also stands in {places[example.id]}; "
                f"ids must be unique"
            )
        places[example.id] = place
        examples.append(example)
    return examples


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


def _json(path: Path, text: str) -> list[tuple[str, Any]]:
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
            f"{path}: expected a JSON array of rows, found {_kind(value)}"
            + ("; a file with one row a line is named .jsonl" if isinstance(value, dict) else "")
        )
    return [(f"row {number}", row) for number, row in enumerate(value, start=1)]


def _jsonl(path: Path, text: str) -> list[tuple[str, Any]]:
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


class _Object(dict[str, Any]):
    """A JSON object that remembers a field that stood twice: json keeps the last, silently."""

    twice: str | None = None


def _loads(path: Path, text: str, where: str = "") -> Any:
    def constant(name: str) -> Any:
        raise DataError(f"{path}{where}: {name} is not valid JSON")

    def pairs(items: list[tuple[str, Any]]) -> _Object:
        row = _Object(items)
        names = [name for name, _ in items]
        row.twice = next((name for name in row if names.count(name) > 1), None)
        return row

    try:
        return json.loads(text, parse_constant=constant, object_pairs_hook=pairs)
    except RecursionError:
        raise DataError(f"{path}{where}: nested too deeply to be rows") from None
    except json.JSONDecodeError:
        raise
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"{path}{where}: not usable JSON: {error}") from None


def _example(path: Path, place: str, row: Any) -> Example:
    if not isinstance(row, dict):
        raise DataError(
            f"{path}, {place}: expected an object with id, instruction and output, "
            f"found {_kind(row)}"
        )
    where = f"{path}, {place}"
    if isinstance(row.get("id"), str):
        where += f" (id {row['id']!r})"
    twice = getattr(row, "twice", None)
    if twice is not None:
        raise DataError(f"{where}, field {twice!r}: stands twice in the row")
    values = {name: _field(where, row, name) for name in ("id", "instruction", "output")}
    if row.get("input"):
        raise DataError(
            f"{where}, field 'input': rows with a separate input are not supported; "
            f"put its text into 'instruction'"
        )
    if "direction" in row:
        direction: str | None = _field(where, row, "direction")
    else:
        direction = direction_of(values["instruction"])
    tags = (("direction", direction),) if direction is not None else ()
    return Example(**values, tags=tags)


def _field(where: str, row: dict[str, Any], name: str) -> str:
    if name not in row:
        found = ", ".join(repr(key) for key in row) or "no field"
        raise DataError(f"{where}: no field {name!r}; found {found}")
    value = row[name]
    if not isinstance(value, str):
        raise DataError(f"{where}, field {name!r}: expected a text, found {_kind(value)}")
    if not value.strip():
        what = "the answer" if name == "output" else "it"
        raise DataError(f"{where}, field {name!r}: {what} is empty")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}, field {name!r}: a lone surrogate \\u{ord(value[error.start]):04x} at "
            f"character {error.start + 1}; it is half of a character"
        ) from None
    return value


def _kind(value: Any) -> str:
    names = {_Object: "an object", list: "an array", str: "a text", bool: "true or false"}
    if value is None:
        return "null"
    return names.get(type(value), "a number")
