"""From a file to examples: every row read in its layout, and every fault kept with its place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.core import Example, digest
from harness.data.columns import Columns, check_columns
from harness.data.directions import Patterns, compiled, direction_of
from harness.data.faults import Fault, fault_of, left_out, refuse
from harness.data.json_rows import RawRows, kind_of
from harness.data.layouts import read_layout
from harness.data.readers import read_rows
from harness.data.unread import unread_fields
from harness.data.validation import check_once, id_of, score_of, text_of
from harness.errors import DataError


@dataclass(frozen=True)
class Reading:
    """How files of rows are to be read.

    Attributes:
        format: one of :data:`harness.data.readers.FORMATS`.
        columns: entries of ``--columns``: "instruction=question".
        patterns: entries of ``--direction-pattern``: "classical=REGEX".
        skip_bad_rows: leave out rows that cannot be used, and say so.
        references: whether every row has to have an answer; one without has an empty output.
    """

    format: str = "auto"
    columns: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    skip_bad_rows: bool = False
    references: bool = True


@dataclass(frozen=True)
class Unread:
    """A field that no layout read: in how many rows it says something, and first where.

    ``said`` is whether a reader of the numbers has to know.
    """

    name: str
    rows: int
    place: str
    said: bool


@dataclass(frozen=True)
class Inspected:
    """What was understood of a file.

    Attributes:
        path: the file.
        container: what holds the rows, in words.
        total: rows of the file, usable or not.
        examples: the usable rows.
        faults: the others, in the order of the file.
        layouts: layout → usable rows in it.
        unread: fields that were not read.
        fields: the names of all fields, as they stand there.
    """

    path: Path
    container: str
    total: int
    examples: tuple[Example, ...]
    faults: tuple[Fault, ...]
    layouts: dict[str, int]
    unread: tuple[Unread, ...]
    fields: tuple[str, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Lines that a reader of the numbers has to know."""
        lines = [left_out(self.path, self.faults, self.total)] if self.faults else []
        for one in self.unread:
            if one.said:
                lines.append(
                    f"{self.path}: field {one.name!r} is not read ({one.rows} of {self.total} "
                    f"rows, first {one.place}); if it is part of the question, name it with "
                    f"--columns input={one.name}; --columns ignore={one.name} says it is not"
                )
        marked = [row.id for row in self.examples if "\ufeff" in row.instruction + row.output]
        if marked:
            lines.append(
                f"{self.path}: {len(marked)} of {self.total} rows have a byte order mark (U+FEFF) "
                f"in their text, first {marked[0]!r}; it is scored like any other character"
            )
        return tuple(lines)

    def usable(self, skip_bad_rows: bool) -> tuple[Example, ...]:
        """Return the usable rows.

        Raises:
            DataError: there are others, and they are not to be left out; or there is none.
        """
        if self.faults and not (skip_bad_rows and self.examples):
            raise refuse(self.path, self.faults, self.total, skip_bad_rows)
        return self.examples


def inspect_rows(path: Path, how: Reading | None = None) -> Inspected:
    """Read a file and return what was understood of it, faults of rows included.

    If no row has an ``id``, ids are the first 12 hex digits of a SHA-256 over the row's history,
    instruction and output; repeats of a row get ``-2``, ``-3`` and so on.

    Raises:
        DataError: the file as a whole cannot be read, or holds no row.
        OptionError: no such format.
    """
    how = how or Reading()
    columns = Columns.of(how.columns)
    found = read_rows(path, how.format, columns)
    if not found.rows:
        raise DataError(f"{path}: no rows; expected at least one")
    reader = _Rows(path, how, columns, _are_named(found.rows, columns))
    for place, row in found.rows:
        reader.take(place, row)
    examples = reader.examples if reader.named else _with_content_ids(reader.examples)
    return Inspected(
        path=path,
        container=found.container,
        total=len(found.rows),
        examples=tuple(examples),
        faults=tuple(reader.faults),
        layouts=dict(reader.layouts.most_common()),
        unread=tuple(reader.unread.values()),
        fields=tuple(
            dict.fromkeys(n for _, row in found.rows if isinstance(row, dict) for n in row)
        ),
    )


def load_rows(path: Path, how: Reading | None = None) -> list[Example]:
    """Return the rows of a file; see :func:`inspect_rows`.

    Raises:
        DataError: one line naming the file, the row and the field; several rows, several lines.
        OptionError: no such format, or ``--columns`` names a field that no row has.
    """
    how = how or Reading()
    found = inspect_rows(path, how)
    check_columns(Columns.of(how.columns), {str(path): found.fields})
    return list(found.usable(how.skip_bad_rows))


def _are_named(rows: RawRows, columns: Columns) -> bool:
    """Whether any row has an id."""
    return any(
        value is not None
        for _, row in rows
        if isinstance(row, dict)
        for name, value in row.items()
        if columns.name_of(name) == "id"
    )


class _Rows:
    """Takes raw rows one by one, and keeps examples and faults."""

    def __init__(self, path: Path, how: Reading, columns: Columns, named: bool) -> None:
        self.path, self.how, self.columns, self.named = path, how, columns, named
        self.patterns: Patterns = compiled(how.patterns)
        self.examples: list[Example] = []
        self.faults: list[Fault] = []
        self.layouts: Counter[str] = Counter()
        self.unread: dict[str, Unread] = {}
        self._places: dict[str, str] = {}  # id → the row that has it

    def take(self, place: str, row: Any) -> None:
        """Read one row, or note its fault."""
        named = ""
        if isinstance(row, dict) and type(row.get("id")) in (str, int):
            named = f" (id {row['id']!r:.80})"
        try:
            self._read(place, named, row)
        except DataError as error:
            self.faults.append(fault_of(self.path, place, named, error))

    def _read(self, place: str, named: str, row: Any) -> None:
        where = f"{self.path}, {place}{named}"
        if isinstance(row, DataError):
            raise row
        if not isinstance(row, dict):
            raise DataError(f"{where}: expected an object with fields, found {kind_of(row)}")
        check_once(where, row)
        row = self.columns.renamed(where, row)
        name = id_of(where, row) if self.named else ""
        asked = read_layout(where, row, self.how.format, self.how.references)
        before = "\n".join([*(text for _, text in asked.history), asked.instruction])
        beside = unread_fields(where, row, asked.fields, before, asked.output)
        tag = row.get("direction")
        if tag is not None:
            direction: str | None = text_of(where, row, "direction")
        else:
            direction = direction_of(asked.instruction, self.patterns)
        tags = (("direction", direction),) if direction is not None else ()
        score = score_of(where, row)
        self._check_distinct(place, name)
        self.examples.append(
            Example(name, asked.instruction, asked.output, tags, asked.history, score)
        )
        self.layouts[asked.layout] += 1
        for field, said in (*beside, *((f"{one} of a turn", True) for one in asked.beside)):
            seen = self.unread.get(field, Unread(field, 0, place + named, said))
            self.unread[field] = replace(seen, rows=seen.rows + 1, said=seen.said or said)

    def _check_distinct(self, place: str, name: str) -> None:
        if not self.named:
            return
        if name in self._places:
            raise DataError(
                f"{self.path}, {place}, field 'id': {name!r} also stands in "
                f"{self._places[name]}; ids must be unique"
            )
        self._places[name] = place


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
