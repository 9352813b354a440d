"""From raw rows to examples, and from two files of them to a task.

A row is an instruction (``instruction``, ``output``, and Alpaca's optional ``input``) or a
conversation (``conversations``: turns of ``from`` and ``value``, or OpenAI's ``role`` and
``content``). Either may carry ``id``, ``score`` and ``direction``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.core import Example, Task, digest
from harness.data.leakage import near_copies
from harness.data.readers import UNREAD, RawRows, kind_of, read_rows
from harness.data.validation import check_once, id_of, optional_text_of, score_of, text_of, value_of
from harness.errors import DataError, suggest

ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard", "model"), "assistant"),
}

History = tuple[tuple[str, str], ...]

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


def load_task(
    test_file: Path,
    train_file: Path,
    limit: int | None = None,
    format: str = "auto",
    allow_leakage: bool = False,
) -> Task:
    """Read both files and make a task of them: see :func:`make_task`.

    Raises:
        DataError: one line naming the file, the row and the field.
        OptionError: no such format.
    """
    test, train = load_rows(test_file, format), load_rows(train_file, format)
    names = _task_name(test_file), str(test_file), str(train_file)
    return make_task(*names, test, train, limit, allow_leakage)


def make_task(
    name: str,
    source: str,
    pool_source: str,
    test: Sequence[Example],
    train: Sequence[Example],
    limit: int | None = None,
    allow_leakage: bool = False,
) -> Task:
    """Return a task, without the rows of its training pool that stand in the test set.

    A training row that equals a test row or nearly copies one (see :mod:`harness.data.leakage`) is
    left out whether or not ``limit`` (of test rows) reaches that test row, so that it changes no
    draw. With ``allow_leakage`` it may be trained on, never shown, and is named all the same.
    ``source`` and ``pool_source`` are what error lines and reports call the rows.

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
    )


def _task_name(path: Path) -> str:
    folder = path.resolve().parent.name
    return f"{folder}/{path.stem}" if folder else path.stem


def load_rows(path: Path, format: str = "auto") -> list[Example]:
    """Read the rows of a file in one of the formats of :mod:`harness.data.readers`.

    If no row has an ``id``, ids are the first 12 hex digits of a SHA-256 over the row's history,
    instruction and output; repeats of a row get ``-2``, ``-3`` and so on.

    Raises:
        DataError: one line naming the file, the row and the field.
        OptionError: no such format.
    """
    rows = read_rows(path, format)
    if not rows:
        raise DataError(f"{path}: no rows; expected at least one")
    named = any(isinstance(row, dict) and "id" in row for _, row in rows)
    examples = [_example(path, place, row, format, named) for place, row in rows]
    if not named:
        return _with_content_ids(examples)
    _check_distinct(path, rows, examples)
    return examples


def _check_distinct(path: Path, rows: RawRows, examples: Sequence[Example]) -> None:
    places: dict[str, str] = {}
    for (place, _), example in zip(rows, examples, strict=True):
        if example.id in places:
            raise DataError(
                f"{path}, {place}, field 'id': {example.id!r} also stands in {places[example.id]}; "
                f"ids must be unique"
            )
        places[example.id] = place


def _with_content_ids(examples: Sequence[Example]) -> list[Example]:
    digests = [digest([row.history, row.instruction, row.output]) for row in examples]
    # Repeats may differ in what is not content: they are numbered by that, not by their order.
    order = sorted(
        range(len(examples)),
        key=lambda index: (digests[index], repr((examples[index].score, examples[index].tags))),
    )
    named, seen = list(examples), Counter[str]()
    for index in order:
        name = digests[index][:12]
        seen[name] += 1
        suffix = f"-{seen[name]}" if seen[name] > 1 else ""
        named[index] = replace(examples[index], id=name + suffix)
    return named


def _example(path: Path, place: str, row: Any, format: str, named: bool) -> Example:
    where = f"{path}, {place}"
    if not isinstance(row, dict):
        raise DataError(
            f"{where}: expected an object with instruction and output, or with conversations, "
            f"found {kind_of(row)}"
        )
    if type(row.get("id")) in (str, int):
        where += f" (id {row['id']!r})"
    check_once(where, row)
    _check_unread(where, row)
    name = id_of(where, row) if named else ""
    history: History = ()
    if _is_conversation(where, row, format):
        history, instruction, output = _conversation(where, row)
    else:
        instruction, output = _instruction(where, row), text_of(where, row, "output")
    if "direction" in row:
        direction: str | None = text_of(where, row, "direction")
    else:
        direction = direction_of(instruction)
    tags = (("direction", direction),) if direction is not None else ()
    return Example(name, instruction, output, tags, history, score_of(where, row))


def _check_unread(where: str, row: dict[str, Any]) -> None:
    """Refuse turns that stand beside a row: the model would not see them."""
    for name in UNREAD:
        if row.get(name) and isinstance(row[name], str | list):
            raise DataError(
                f"{where}, field {name!r}: is not read; earlier turns stand in 'conversations', "
                f"a system turn first"
            )


def _is_conversation(where: str, row: dict[str, Any], format: str) -> bool:
    for wanted, other in (("conversations", "instruction"), ("instruction", "conversations")):
        if format == wanted and wanted not in row and other in row:
            raise DataError(
                f"{where}: no field {wanted!r}, which --format={wanted} reads, but {other!r}; "
                f"use --format={other}, or auto"
            )
    if format == "auto" and "conversations" in row and "instruction" in row:
        raise DataError(
            f"{where}: has both 'conversations' and 'instruction'; say which to read with "
            f"--format=conversations or --format=instruction"
        )
    return format == "conversations" or (format == "auto" and "conversations" in row)


def _instruction(where: str, row: dict[str, Any]) -> str:
    instruction = text_of(where, row, "instruction")
    further = optional_text_of(where, row, "input")
    return f"{instruction}\n{further}" if further else instruction


def _conversation(where: str, row: dict[str, Any]) -> tuple[History, str, str]:
    """History, instruction and output: the turns before the last two, and these."""
    found = value_of(where, row, "conversations")
    if not isinstance(found, list) or not found:
        what = kind_of(found) if found != [] else "an empty one"
        raise DataError(f"{where}, field 'conversations': expected an array of turns, found {what}")
    turns = [_turn(f"{where}, turn {number}", turn) for number, turn in enumerate(found, start=1)]
    check_turns(where, turns)
    return tuple(turns[:-2]), turns[-2][1], turns[-1][1]


def check_turns(where: str, turns: Sequence[tuple[str, str]]) -> None:
    """See that (role, text) pairs are a conversation that ends with the assistant's answer.

    Raises:
        DataError: the roles do not take turns; the line begins with ``where``.
    """
    before = 1 if turns[0][0] == "system" else 0
    for number, (role, _) in enumerate(turns[before:], start=1):
        due = "user" if number % 2 else "assistant"
        if role != due:
            raise DataError(
                f"{where}, turn {before + number}: expected the {due}'s turn, found one of the "
                f"{role}; after a system turn, if any, user and assistant alternate, the user first"
            )
    if turns[-1][0] != "assistant":
        raise DataError(
            f"{where}, turn {len(turns)}: the last turn is the {turns[-1][0]}'s; it must be the "
            f"assistant's, which is the answer"
        )


def _turn(where: str, turn: Any) -> tuple[str, str]:
    if not isinstance(turn, dict):
        raise DataError(f"{where}: expected an object, found {kind_of(turn)}")
    check_once(where, turn)
    openai = "role" in turn and "from" not in turn
    speaker, text = ("role", "content") if openai else ("from", "value")
    name = text_of(where, turn, speaker)
    if name not in ROLES:
        raise DataError(
            f"{where}, field {speaker!r}: unknown role {name!r}{suggest(name, ROLES)}; "
            f"known: {', '.join(ROLES)}"
        )
    return ROLES[name], text_of(where, turn, text)
