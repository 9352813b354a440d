"""What people said of answers: a file that a judge is compared with.

A file is a JSON array, JSON lines, CSV or Parquet. A row has an ``id``, that of a test row, and

    answer, score             a person's score of an answer, on the rubric's scale; or
    answer, other, verdict    which of two answers a person prefers: A (the first), B or C (neither)

Other fields are ignored. A file holds rows of one kind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.core import Example
from harness.data.json_rows import kind_of
from harness.data.predictions import raw_rows
from harness.data.validation import check_once, id_of, optional_text_of
from harness.errors import DataError, suggest
from harness.records import Label

VERDICTS = {"A": 1.0, "B": 0.0, "C": 0.5}
WHAT = "score of an answer, or verdict (A, B or C) on an answer and an other"


def read_labels(path: Path, rows: Sequence[Example]) -> tuple[Label, ...]:
    """Read a file of people's labels.

    Args:
        path: the file.
        rows: the test rows.

    Raises:
        DataError: one line that names the file and, where it is about one, the row and the field.
    """
    known = {row.id for row in rows}
    found: dict[tuple[str, tuple[str, ...]], str] = {}
    labels: list[Label] = []
    for place, raw in raw_rows(path):
        if isinstance(raw, DataError):
            raise raw
        where = f"{path}, {place}"
        label = _label(where, raw)
        if label.id not in known:
            raise DataError(
                f"{where}: id {label.id!r} is none of the {len(rows)} test rows"
                f"{suggest(label.id, known)}"
            )
        key = label.id, label.texts
        if key in found:
            raise DataError(f"{where}: this answer to {label.id!r} was labelled in {found[key]}")
        found[key] = place
        labels.append(label)
        if len(label.texts) != len(labels[0].texts):
            raise DataError(f"{where}: scores and verdicts stand in one file; keep one kind")
    if not labels:
        raise DataError(f"{path}: holds no rows; expected id and {WHAT}")
    return tuple(labels)


def _label(where: str, raw: Any) -> Label:
    if not isinstance(raw, dict):
        raise DataError(f"{where}: expected an object with id and answer, found {kind_of(raw)}")
    check_once(where, raw)
    pair = "other" in raw or "verdict" in raw
    for name in ("answer", *(("other", "verdict") if pair else ("score",))):
        if raw.get(name) is None:
            raise DataError(f"{where}: no field {name!r}; expected id and {WHAT}")
    texts = tuple(optional_text_of(where, raw, one) for one in ("answer", "other")[: 1 + pair])
    score = _verdict(where, raw["verdict"]) if pair else _score(where, raw["score"])
    return Label(id_of(where, raw), texts, score)


def _verdict(where: str, value: Any) -> float:
    if not isinstance(value, str) or value.strip().upper() not in VERDICTS:
        raise DataError(f"{where}, field 'verdict': expected A, B or C, found {value!r:.40}")
    return VERDICTS[value.strip().upper()]


def _score(where: str, value: Any) -> float:
    try:
        score = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):
        raise DataError(f"{where}, field 'score': expected a number, found {value!r:.40}")
    return score
