"""From two files of rows to a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.core import Example, Task
from harness.data.columns import Columns, check_columns
from harness.data.leakage import near_copies
from harness.data.rows import Reading, inspect_rows
from harness.errors import DataError


def load_task(
    test_file: Path,
    train_file: Path | None,
    limit: int | None = None,
    how: Reading | None = None,
    allow_leakage: bool = False,
) -> Task:
    """Read both files and make a task of them: see :func:`make_task`.

    Without a training file the task has no pool; whether every row has to have a reference is asked
    of the test rows alone.

    Raises:
        DataError: one line naming the file, the row and the field; several rows, several lines.
        OptionError: no such format, or ``--columns`` names a field that no row has.
    """
    how = how or Reading()
    test = inspect_rows(test_file, how)
    if train_file is None:
        check_columns(Columns.of(how.columns), {str(test_file): test.fields})
        rows = test.usable(how.skip_bad_rows)[:limit]
        return Task(_task_name(test_file), rows, (), str(test_file), warnings=test.warnings)
    train = inspect_rows(train_file, replace(how, references=True))
    fields = {str(one.path): one.fields for one in (test, train)}
    check_columns(Columns.of(how.columns), fields)
    rows, pool = (one.usable(how.skip_bad_rows) for one in (test, train))
    names = _task_name(test_file), str(test_file), str(train_file)
    warnings = (*test.warnings, *train.warnings)
    return make_task(*names, rows, pool, limit, allow_leakage, warnings)


def make_task(
    name: str,
    source: str,
    pool_source: str,
    test: Sequence[Example],
    train: Sequence[Example],
    limit: int | None = None,
    allow_leakage: bool = False,
    warnings: Sequence[str] = (),
) -> Task:
    """Return a task, without the rows of its training pool that stand in the test set.

    A training row that equals a test row or nearly copies one (see :mod:`harness.data.leakage`) is
    left out whether or not ``limit`` (of test rows) reaches that test row, so that it changes no
    draw. With ``allow_leakage`` it may be trained on, never shown, and is named all the same.
    ``source`` and ``pool_source`` are what error lines and reports call the rows; ``warnings`` are
    lines that a reader of the numbers has to know about them.

    Raises:
        DataError: no training row is left.
    """
    excluded = near_copies(train, test)
    pool = tuple(example for example in train if example.id not in excluded)
    leaks = tuple(example for example in train if example.id in excluded)
    if not pool:
        raise DataError(
            f"{pool_source}: every row is a test row of {source} or a near copy of one; training "
            f"needs rows of its own"
        )
    return Task(
        name=name,
        examples=tuple(test if limit is None else test[:limit]),
        pool=pool,
        source=source,
        pool_source=pool_source,
        excluded=tuple(excluded.items()),
        leaks=leaks if allow_leakage else (),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _task_name(path: Path) -> str:
    folder = path.resolve().parent.name
    return f"{folder}/{path.stem}" if folder else path.stem
