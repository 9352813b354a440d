"""How a row says what is asked and what the answer is.

A flat layout has a field for each; a conversation is a list of turns in ``conversations`` or
``messages``. Beside either, ``system`` (or ``system_prompt``) is the system turn; beside a flat
one ``history`` holds earlier exchanges.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from harness.data.faults import LayoutError
from harness.data.json_rows import kind_of
from harness.data.turns import History, check_turns, turns_of
from harness.data.validation import optional_text_of, text_of, value_of
from harness.errors import DataError, suggest

TALKS = ("conversations", "messages")
SYSTEMS = ("system", "system_prompt")


@dataclass(frozen=True)
class Flat:
    """A layout with a field for what is asked, ``further`` text below it, and the answer."""

    name: str
    question: str
    answer: str
    further: tuple[str, ...] = ()  # the first that is not empty is read

    @property
    def words(self) -> str:
        """How error lines show it: "instruction + output (input)"."""
        more = f" ({' or '.join(self.further)})" if self.further else ""
        return f"{self.question} + {self.answer}{more}"


# In this order, where a row has the fields of several.
FLAT = (
    Flat("instruction", "instruction", "output", ("input",)),
    Flat("dolly", "instruction", "response", ("context", "input")),
    Flat("orca", "question", "response"),
    Flat("prompt-completion", "prompt", "completion"),
    Flat("firefly", "input", "target"),
)
LAYOUTS = (*(one.name for one in FLAT), *TALKS)
READ = ", ".join([*(one.words for one in FLAT), *TALKS])
_QUESTIONS = ("instruction", "question", "query", "prompt", "inputs", "input", "problem", "source")
_ANSWERS = (
    *("answer", "response", "completion", "output", "targets", "target", "reply", "solution"),
    *("chosen", "label"),
)


@dataclass(frozen=True)
class Asked:
    """A row as its layout is read.

    Attributes:
        layout: its name.
        fields: the names that were read.
    """

    layout: str
    history: History
    instruction: str
    output: str
    fields: frozenset[str]
    beside: tuple[str, ...] = ()  # fields of its turns that were not read


def flat_of(names: Iterable[str]) -> Flat | None:
    """The first flat layout whose question and answer are among ``names``."""
    known = set(names)
    # Beside an instruction, a question or an input is a part of the request.
    flats = [one for one in FLAT if one.question == "instruction" or "instruction" not in known]
    return next((one for one in flats if {one.question, one.answer} <= known), None)


def read_layout(where: str, row: dict[str, Any], format: str, answered: bool = True) -> Asked:
    """Return what a row asks and answers, in its own layout or in that of ``format``.

    Args:
        where: what error lines begin with.
        row: its fields.
        format: a layout, or another word for the row's own.
        answered: whether a flat row has to have an answer; else an absent one is an empty output.

    Raises:
        DataError: it is in none, in two, or a field of it cannot be used.
    """
    chosen = _choose(where, row, format)
    if isinstance(chosen, str):
        asked = _talk(where, row, chosen)
    else:
        asked = _flat(where, row, chosen, answered)
    if format not in LAYOUTS:
        return asked
    # Who names a layout does without what the row says in another.
    other = flat_of(row)
    aside = (other.question, other.answer, *other.further) if other else ()
    return replace(asked, fields=asked.fields.union(aside, TALKS))


def _choose(where: str, row: dict[str, Any], format: str) -> Flat | str:
    """A flat layout, or the name of the field with the turns."""
    present = [name for name, value in row.items() if value is not None]
    talks = [name for name in TALKS if isinstance(row.get(name), list) and row[name]]
    flat = flat_of(present)
    if format in LAYOUTS:
        return _asked_for(where, row, format, flat, talks)
    if len(talks) > 1 or (talks and flat is not None):
        names = [*talks, *([flat.question] if flat else [])]
        wanted = [*talks, *([flat.name] if flat else [])]
        raise DataError(
            f"{where}: has both {' and '.join(map(repr, names))}; say which to read with "
            f"{' or '.join(f'--format={name}' for name in wanted)}"
        )
    if talks:
        return talks[0]
    flat = flat or flat_of(row)
    if flat is not None:
        return flat
    for name in TALKS:
        if name in row:
            return name
    if "instruction" in row and not any(name in row for name in _ANSWERS):
        return FLAT[0]  # whose line says that the answer is missing
    raise unknown_layout(where, row)


def _asked_for(
    where: str, row: dict[str, Any], format: str, flat: Flat | None, talks: list[str]
) -> Flat | str:
    wanted = next((one for one in FLAT if one.name == format), None)
    needed = format if wanted is None else wanted.question
    other = talks[0] if talks else flat.question if flat else ""
    if needed not in row and other and other != needed:
        name = talks[0] if talks else flat.name if flat else ""
        raise DataError(
            f"{where}: no field {needed!r}, which --format={format} reads, but {other!r}; "
            f"use --format={name}, or auto"
        )
    return wanted or format


def unknown_layout(where: str, row: Iterable[str]) -> LayoutError:
    """The line for a row in no layout: what is read, and how to name the columns."""
    names = list(row)
    found = ", ".join(map(repr, names)) or "no field"
    return LayoutError(
        f"{where}: in no layout that is read; found {found:.200}; read are {READ}; others with "
        f"--columns, such as --columns {example_of(names)}"
    )


def example_of(names: Iterable[str]) -> str:
    """How ``--columns`` would name these fields, as far as it can be guessed."""
    lower = {name.lower(): name for name in names}
    question = next((lower[one] for one in _QUESTIONS if one in lower), None)
    answer = next((lower[one] for one in _ANSWERS if one in lower), None)
    if question is not None and answer is not None:
        ours = [("instruction", question), ("output", answer)]
        return ",".join(f"{one}={theirs}" for one, theirs in ours if one != theirs)
    return "instruction=question,output=answer"


def missing_column(names: Iterable[str]) -> str:
    """What a header in no layout lacks, in words, with the nearest name that it has."""
    known = list(names)
    lacking = next((one for one in ("instruction", "output") if one not in known), "output")
    return f"no column {lacking!r}{suggest(lacking, known)}"


def _flat(where: str, row: dict[str, Any], layout: Flat, answered: bool) -> Asked:
    fields = {layout.question, layout.answer, *SYSTEMS, "history"}
    if layout.name == "prompt-completion" and isinstance(row.get("prompt"), list):
        return _two_lists(where, row, frozenset(fields))
    instruction = text_of(where, row, layout.question)
    for name in layout.further:
        further = optional_text_of(where, row, name)
        if further:
            fields.add(name)
            instruction = f"{instruction}\n{further}"
            break
    if answered:
        output = text_of(where, row, layout.answer, answer=True)
    else:
        output = optional_text_of(where, row, layout.answer)
    history = (*_system(where, row), *_pairs(where, row))
    return Asked(layout.name, history, instruction, output, frozenset(fields))


def _two_lists(where: str, row: dict[str, Any], fields: frozenset[str]) -> Asked:
    """Trl's conversational prompt and completion: two lists of messages, one conversation."""
    turns, beside = turns_of(where, "prompt", row["prompt"])
    before = len(row["prompt"])
    more, also = turns_of(where, "completion", value_of(where, row, "completion"), before)
    made = Asked("prompt-completion", (), "", "", fields, beside + also)
    return _asked(where, row, made, [*turns, *more], before - len(turns))


def _talk(where: str, row: dict[str, Any], name: str) -> Asked:
    turns, beside = turns_of(where, name, value_of(where, row, name))
    made = Asked(name, (), "", "", frozenset({name, *SYSTEMS}), beside)
    return _asked(where, row, made, turns, len(row[name]) - len(turns))


def _asked(
    where: str, row: dict[str, Any], made: Asked, turns: list[tuple[str, str]], before: int
) -> Asked:
    """``made`` with these turns; ``before`` of the file were left out in front of them."""
    system = _system(where, row)
    if system and turns[:1] != list(system):
        if turns and turns[0][0] == "system":
            raise DataError(
                f"{where}: has a system text beside the turns and another as the first turn; "
                f"keep one"
            )
        turns = [*system, *turns]
        before -= 1
    check_turns(where, turns, before)
    return replace(made, history=tuple(turns[:-2]), instruction=turns[-2][1], output=turns[-1][1])


def _system(where: str, row: dict[str, Any]) -> History:
    texts = {text for name in SYSTEMS if (text := optional_text_of(where, row, name))}
    if len(texts) > 1:
        raise DataError(f"{where}: 'system' and 'system_prompt' are two texts; keep one")
    return tuple(("system", text) for text in texts)


def _pairs(where: str, row: dict[str, Any]) -> History:
    """Earlier exchanges: ``history`` is a list of [question, answer]."""
    found = row.get("history")
    if found is None or found in ("", []):
        return ()
    if not isinstance(found, list):
        raise DataError(
            f"{where}, field 'history': expected an array of [question, answer], found "
            f"{kind_of(found)}"
        )
    turns: list[tuple[str, str]] = []
    for number, pair in enumerate(found, start=1):
        inside = f"{where}, field 'history', exchange {number}"
        if not isinstance(pair, list) or len(pair) != 2:
            raise DataError(f"{inside}: expected [question, answer], found {kind_of(pair)}")
        both = {"question": pair[0], "answer": pair[1]}
        turns += [("user", text_of(inside, both, "question"))]
        turns += [("assistant", text_of(inside, both, "answer"))]
    return tuple(turns)
