"""What of a run has still to be computed: for an engine that begins with it, and for a forecast."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from harness.core import Cell
from harness.errors import ModelError
from harness.run.bench import Bench
from harness.run.case import Case
from harness.run.choice import candidates
from harness.run.given import is_given

Known = Callable[[Bench, Case, Cell], bool]


def is_known(bench: Bench, case: Case, cell: Cell) -> bool:
    """Whether the store has a cell, as far as this run may take it from there; it is read."""
    return bench.known(case, cell) is not None


def missing(
    bench: Bench, cases: Iterable[Case], known: Known = is_known
) -> Iterator[tuple[Bench, Case, Cell]]:
    """What has to be computed so that cases can be measured, and the bench that measures it.

    Args:
        bench: of the run.
        cases: what is to be measured.
        known: whether the store has a cell.
    """
    for place, case in observed(bench, cases):
        try:
            cell = place.cell(case)
        except ModelError:
            continue  # the case's own test says so
        if not known(place, case, cell):
            yield place, case, cell


def observed(bench: Bench, cases: Iterable[Case]) -> Iterator[tuple[Bench, Case]]:
    """What a model has to observe: ratings are of answers, and some decodings are chosen first."""
    for case in cases:
        if case.judging is not None:
            sides = (case.judging.answered, case.judging.other)
            yield from observed(bench, [one for one in sides if one is not None])
        elif case.candidates:
            yield from ((bench.aside, one) for one in candidates(case))
            choice = bench.choice(case)
            if choice is not None:
                yield bench, choice.of(case)
        elif not is_given(case):
            yield bench, case
