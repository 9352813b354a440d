"""A task that a plugin makes, asked for by its name: what it returns is checked as files are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.core import Example, Task, TaskSource
from harness.data.task import make_task
from harness.data.turns import check_turns
from harness.data.validation import score_of, text_of
from harness.errors import AdaptbenchError, DataError, one_line
from harness.plugins import TASKS, select


def load_named_task(name: str, limit: int | None = None, allow_leakage: bool = False) -> Task:
    """Return the task called ``name``: see :func:`harness.data.task.make_task`.

    Raises:
        DataError: there is none, or what it returns is not rows; one line names the task, the
            row and the field.
    """
    (found,) = select(TASKS, (name,))
    where = f"task {name!r}"
    source: TaskSource = _one_line(f"{where}: cannot be made:", found)
    test = _rows(f"{where}: test()", source.test)
    train = _rows(f"{where}: train()", source.train)
    return make_task(
        name, f"test() of {where}", f"train() of {where}", test, train, limit, allow_leakage
    )


def _one_line(where: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except AdaptbenchError:
        raise
    except Exception as error:  # a third party's code may raise anything
        raise DataError(f"{where} raised {type(error).__name__}: {one_line(error)}") from error


def _rows(where: str, call: Callable[[], Sequence[Example]]) -> list[Example]:
    found = _one_line(where, lambda: _listed(where, call()))
    if not found:
        raise DataError(f"{where}: no rows; expected at least one")
    places: dict[str, int] = {}
    for place, row in enumerate(found, start=1):
        if not isinstance(row, Example):
            raise DataError(
                f"{where}, row {place}: expected harness.core.Example, found {type(row).__name__}"
            )
        _check(f"{where}, row {place}", row)
        if row.id in places:
            raise DataError(
                f"{where}, row {place}, field 'id': {row.id!r} also stands in row "
                f"{places[row.id]}; ids must be unique"
            )
        places[row.id] = place
    return list(found)


def _listed(where: str, found: object) -> list[Any]:
    if isinstance(found, str | bytes) or not hasattr(found, "__iter__"):
        raise DataError(f"{where} returned {type(found).__name__}, expected a sequence of Examples")
    return list(found)


def _check(where: str, row: Example) -> None:
    fields = vars(row)
    text_of(where, fields, "id")
    where += f" (id {row.id!r})"
    for name in ("instruction", "output"):
        text_of(where, fields, name)
    for name in ("tags", "history"):
        pairs = fields[name]
        if not isinstance(pairs, tuple) or not all(map(_is_pair, pairs)):
            raise DataError(
                f"{where}, field {name!r}: expected a tuple of pairs of texts, found {pairs!r:.60}"
            )
    check_turns(where, [*row.history, ("user", row.instruction), ("assistant", row.output)])
    if row.score is not None:
        score_of(where, fields)


def _is_pair(pair: object) -> bool:
    two = isinstance(pair, tuple) and len(pair) == 2
    return two and all(isinstance(text, str) for text in pair)  # type: ignore[attr-defined]
