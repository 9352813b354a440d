"""Rows of a Parquet file, through pandas and the engine that is installed beside it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from harness.data.json_rows import RawRows
from harness.errors import DataError, one_line


def parquet_rows(path: Path, raw: bytes) -> RawRows:
    """Return the rows, each a dict of plain values: what is missing is None, arrays are lists.

    Raises:
        DataError: no engine is installed, or the file is damaged.
    """
    import pandas

    try:
        frame = pandas.read_parquet(io.BytesIO(raw))
    except ImportError:
        raise DataError(
            f"{path}: this is Parquet, which needs pyarrow: pip install pyarrow; or, where it is, "
            f"convert it: pandas.read_parquet(FILE).to_json('rows.jsonl', orient='records', "
            f"lines=True, force_ascii=False)"
        ) from None
    except Exception as error:  # each engine raises its own
        raise DataError(
            f"{path}: this is Parquet, but it cannot be read: {one_line(error, 160)}"
        ) from None
    if any(name is not None for name in frame.index.names):  # a column, to whoever wrote it
        frame = frame.reset_index()
    missing = pandas.isna
    return [
        (f"row {number}", {str(name): _plain(value, missing) for name, value in row.items()})
        for number, row in enumerate(frame.to_dict("records"), start=1)
    ]


def _plain(value: Any, missing: Any) -> Any:
    if hasattr(value, "tolist"):  # an array or a number of NumPy's
        value = value.tolist()
    if isinstance(value, dict):
        return {str(name): _plain(one, missing) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, missing) for one in value]
    if isinstance(value, str | bool | int):
        return value
    return None if missing(value) is True or missing(value) == True else value  # noqa: E712
