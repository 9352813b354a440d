"""What the fields of a row are called: ``--columns``, and names in other letters.

``--columns instruction=question`` reads the field ``question`` as ``instruction``;
``ignore=tools`` reads the row without ``tools``. ``Input`` is read as ``input``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.data.json_rows import JsonObject
from harness.errors import DataError, OptionError, suggest

IGNORE = "ignore"
TARGETS = (  # what a column can be read as
    *("instruction", "input", "output", "system", "history", "conversations", "messages"),
    *("id", "score", "direction", IGNORE),
)
# Read in any letter case. Not id and score: they are optional, and would change what is read today.
_ANY_CASE = frozenset(
    {
        *("instruction", "input", "output", "system", "history", "conversations", "messages"),
        *("response", "context", "target", "question", "system_prompt", "prompt", "completion"),
    }
)


def parse_columns(text: str) -> tuple[str, ...]:
    """Return the entries of ``--columns``, each checked: "instruction=question".

    Raises:
        ValueError: what would be right.
    """
    entries = tuple(item.strip() for item in text.split(","))
    names: set[str] = set()
    columns: set[str] = set()
    for entry in entries:
        ours, equals, theirs = (part.strip() for part in entry.partition("="))
        if not (ours and equals and theirs):
            raise ValueError("NAME=COLUMN, such as instruction=question,output=answer")
        if ours not in TARGETS:
            raise ValueError(
                f"a name that a column can be read as{suggest(ours, TARGETS)}, of "
                f"{', '.join(TARGETS)}; found {ours!r}"
            )
        if ours in names or theirs in columns:
            raise ValueError("each name and each column at most once")
        names |= {ours} - {IGNORE}
        columns.add(theirs)
    return entries


@dataclass(frozen=True)
class Columns:
    """Which fields are read under which name: pairs of (our name, the file's)."""

    pairs: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, entries: Iterable[str]) -> Columns:
        """Return the columns that the entries of ``--columns`` name."""
        halves = [entry.partition("=") for entry in entries]
        return cls(tuple((ours.strip(), theirs.strip()) for ours, _, theirs in halves))

    @functools.cached_property
    def _ours(self) -> Mapping[str, str]:
        return {theirs: ours for ours, theirs in self.pairs}

    def absent(self, names: Iterable[str]) -> list[tuple[str, str]]:
        """The pairs whose column is not among ``names``; nothing to be ignored is missed."""
        known = {one for name in map(plain_name, names) for one in (name, name.lower())}
        return [pair for pair in self.pairs if pair[1] not in known and pair[0] != IGNORE]

    def name_of(self, name: str) -> str:
        """What a field is read as, by itself."""
        plain = plain_name(name)
        given = self._given(name)
        if given is not None:
            return given
        return plain.lower() if plain.lower() in _ANY_CASE else plain

    def _given(self, name: str) -> str | None:
        """What ``--columns`` says of a field."""
        plain = plain_name(name)
        return self._ours.get(plain) or self._ours.get(plain.lower())

    def renamed(self, where: str, row: dict[str, Any]) -> JsonObject:
        """Return the row with our names.

        Raises:
            DataError: two of its fields would be read as one.
        """
        found = JsonObject()
        # Fields that have the right name go first, so that one in other letters keeps its own.
        for name in sorted(row, key=lambda name: self.name_of(name) != name):
            ours = self.name_of(name)
            given = self._given(name) is not None
            if ours == IGNORE and given:
                continue
            if found.get(ours) is not None and ours != name:
                if given and row[name] is not None:
                    raise DataError(
                        f"{where}: --columns reads {name!r} as {ours!r}, and the row has a field "
                        f"{ours!r}; name another, or add --columns {IGNORE}={ours}"
                    )
                ours = name
            found[ours] = row[name]
        return found


def plain_name(name: str) -> str:
    """A field's name without what programs put around it unseen."""
    return name.strip("\ufeff \t\r\n")


def check_columns(columns: Columns, files: Mapping[str, Iterable[str]]) -> None:
    """See that every column of ``--columns`` stands in one of the files.

    Args:
        columns: what was asked for.
        files: what the files are called → the names of their fields.

    Raises:
        OptionError: one does not; the line names the nearest that does.
    """
    names = {name for fields in files.values() for name in fields}
    for ours, theirs in columns.absent(names):
        found = ", ".join(map(repr, sorted(names)))
        raise OptionError(
            f"--columns {ours}={theirs}: no row of {' or '.join(files)} has a field {theirs!r}"
            f"{suggest(theirs, names)}; found {found:.200}"
        )
