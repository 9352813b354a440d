"""Fields beside those that a layout reads: what may be dropped, and what may not.

The rule, for a field that is not read and is not empty:

* a name that is known to carry part of the question (``context``, ``tools``) is an error, unless
  its text stands in what is read;
* a number, a name of known metadata (``source``), and a text that stands in what is read, or is
  the whole row written out, are ignored;
* anything else is named in a warning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from harness.errors import DataError

CARRIERS = frozenset(
    {
        *("context", "contexts", "passage", "passages", "paragraph", "paragraphs", "document"),
        *("documents", "article", "background", "evidence", "knowledge", "facts", "story", "table"),
        *("input", "inputs", "input_text", "instruction", "instructions", "prompt", "question"),
        *("query", "problem", "premise", "hypothesis", "choices", "options", "schema"),
        *("system", "system_prompt", "system_message", "history", "few_shot", "demonstrations"),
        *("tools", "tool", "functions", "function", "available_tools"),
        *("image", "images", "video", "videos", "audio", "audios"),
    }
)
METADATA = frozenset(
    {
        *("", "id", "ids", "_id", "idx", "index", "uid", "uuid", "hash", "checksum", "row"),
        *("category", "categories", "source", "source_id", "kind", "type", "task", "task_type"),
        *("task_name", "subset", "split", "lang", "language", "locale", "url", "link", "license"),
        *("licence", "author", "annotator", "model", "model_name", "generator", "dataset"),
        *("data_source", "created", "created_at", "timestamp", "date", "version", "difficulty"),
        *("level", "domain", "tag", "tags", "rating", "quality", "score", "scores", "meta"),
        *("metadata", "meta_info", "filename", "file_name", "file", "path", "direction"),
        *("__index_level_0__", "unnamed: 0"),
    }
)
_NOTHING = ("", "[]", "{}", "null", "none", "nan")
_NUMBER = re.compile(r"[-+]?[\d.,]+(?:e[-+]?\d+)?%?", re.IGNORECASE)


def is_empty(value: Any) -> bool:
    """Whether a field says nothing: null, blank, an empty list, or the text of one."""
    if isinstance(value, str):
        return value.strip().lower() in _NOTHING
    if isinstance(value, list | dict):
        return all(map(is_empty, value.values() if isinstance(value, dict) else value))
    return value is None


def is_metadata(name: str, value: Any) -> bool:
    """Whether a field says something about the row, and nothing of the question."""
    low = name.lower()
    if low in CARRIERS:
        return False
    if not isinstance(value, str | list | dict) or low in METADATA or low.endswith("_id"):
        return True
    return isinstance(value, str) and _NUMBER.fullmatch(value.strip()) is not None


def unread_fields(
    where: str, row: Mapping[str, Any], read: Iterable[str], asked: str, output: str
) -> list[tuple[str, bool]]:
    """Return the fields that are not read, each with whether a reader has to know.

    Args:
        where: what an error line begins with.
        row: with our names.
        read: the fields that its layout reads.
        asked: all that stands before the answer.
        output: the answer.

    Raises:
        DataError: a field that carries part of the question.
    """
    known = {*read, "id", "score", "direction"}
    found = []
    for name, value in row.items():
        if name in known or is_empty(value):
            continue
        said = isinstance(value, str) and value.strip() in asked
        if name.lower() in CARRIERS and isinstance(value, str | list | dict):
            if not said:
                raise _carrier(where, name, row, known)
        elif isinstance(value, str):
            said = said or value.strip() in output or _is_whole(value, asked, output)
        found.append((name, not (said or is_metadata(name, value))))
    return found


def _is_whole(value: str, asked: str, output: str) -> bool:
    """Whether a text is the whole row written out, as Alpaca's ``text`` is."""
    return output in value and all(line in value for line in asked.splitlines())


def _carrier(where: str, name: str, row: Mapping[str, Any], known: Iterable[str]) -> DataError:
    use = "no layout reads it"
    if isinstance(row[name], str) and "output" in known and is_empty(row.get("input")):
        use = f"--columns input={name} puts it below the instruction"
    return DataError(
        f"{where}, field {name!r}: may be part of the question, and is not read; {use}, "
        f"--columns ignore={name} reads the rows without it"
    )
