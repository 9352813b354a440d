"""What changed between two runs: which cells, which rows, how surely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness.errors import GateError
from harness.gate.comparable import check_metrics, check_rows
from harness.gate.words import Words
from harness.metrics.base import Effect, Metric
from harness.metrics.find import find_metric
from harness.results.reading import matched, snapshot
from harness.results.snapshot import Difference, Rows, differences
from harness.statistics.family import Pair, Shift, compare_totals, compare_values
from harness.statistics.paired import ALPHA, holm

LARGEST = 3  # rows that are named


@dataclass(frozen=True)
class Change:
    """One cell before and after, under one metric.

    Attributes:
        cell: its name.
        metric: what was compared.
        what: what ``effect`` is of, in words.
        by_total: whether totals were compared, because the denominators differ.
        effect: after against before, with its 95 % interval.
        p: two-sided, adjusted for all cells and metrics.
        word: ``better``, ``worse`` or ``no difference shown``.
        rows: those whose part in it is largest, each with its rise on the scale that is tested, or
            of its total.
    """

    cell: str
    metric: Metric
    what: str
    by_total: bool
    effect: Effect
    p: float
    word: str
    rows: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Changes:
    """All cells that two runs share, what only one of them has, and what else is different."""

    cells: tuple[Change, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    differences: tuple[Difference, ...]
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class _Case:
    """A cell under a metric."""

    cell: str
    metric: Metric
    after: Rows
    before: Rows

    @property
    def pair(self) -> Pair:
        before, after = (
            rows.metrics[self.metric.name].tested for rows in (self.before, self.after)
        )
        return Pair(self.metric, before, after)

    @property
    def alike(self) -> bool:
        """Whether the values have the same denominators."""
        name = self.metric.name
        one, other = (rows.metrics[name].denominators for rows in (self.before, self.after))
        return one == other


def changes(before: Path, after: Path) -> Changes:
    """Compare two results directories or baselines.

    Values with the same denominators are compared as they are, others by their totals (perplexity
    by bits per byte); all of them are one family for the adjustment of p.

    Raises:
        StoreError: one cannot be read.
        GateError: they are not about the same rows, or have no cell or no metric in common.
    """
    old, new = snapshot(before), snapshot(after)
    shared = {name: words for name, words in new.definitions.items() if name in old.definitions}
    if not shared:
        raise GateError(f"{after}: has no metric in common with {before}")
    check_metrics(replace(old, definitions={n: old.definitions[n] for n in shared}), shared)
    check_rows(old, new.task, new.rows, remedy="")
    pairs = matched(new, old)
    if not pairs:
        raise GateError(f"{after}: has no cell in common with {before}")
    metrics = [
        find_metric(name, f"{after}: metric {name!r}", words) for name, words in shared.items()
    ]
    whole = {name: pair for name, pair in pairs.items() if not any(r.nonfinite for r in pair)}
    used = {id(rows) for pair in pairs.values() for rows in pair}
    cases = [
        _Case(name, metric, *pair)
        for name, pair in whole.items()
        for metric in metrics
        if all(metric.name in rows.metrics for rows in pair)
    ]
    return Changes(
        cells=tuple(_changes(cases, list(new.rows))),
        only_before=tuple(name for name, rows in old.cells.items() if id(rows) not in used),
        only_after=tuple(name for name, rows in new.cells.items() if id(rows) not in used),
        differences=tuple(differences(new, old)),
        skipped=tuple(name for name in pairs if name not in whole),
    )


def _changes(cases: Sequence[_Case], ids: Sequence[str]) -> list[Change]:
    usable = [case for case in cases if case.alike or case.metric.total is not None]
    found = _shifts(usable)
    adjusted = dict(zip(found, holm([shift.p for shift in found.values()]), strict=True))
    return [_change(case, found[place], adjusted[place], ids) for place, case in enumerate(usable)]


def _shifts(cases: Sequence[_Case]) -> Mapping[int, Shift]:
    """Place of a case → its comparison; those with equal denominators first."""
    alike = [place for place, case in enumerate(cases) if case.alike]
    other = [place for place, case in enumerate(cases) if not case.alike]
    found: dict[int, Shift] = {}
    if alike:
        shifts = compare_values([cases[place].pair for place in alike], len(cases))
        found |= dict(zip(alike, shifts, strict=True))
    if other:
        after = [cases[p].after.metrics[cases[p].metric.name].totals for p in other]
        before = [cases[p].before.metrics[cases[p].metric.name].totals for p in other]
        found |= dict(zip(other, compare_totals(after, before, len(cases)), strict=True))
    return found


def _change(case: _Case, shift: Shift, p: float, ids: Sequence[str]) -> Change:
    word, metric = "no difference shown", case.metric
    if p < ALPHA:
        word = "worse" if metric.worsening * shift.effect.estimate > 0 else "better"
    largest = np.argsort(-np.abs(shift.parts), kind="stable")[:LARGEST]
    total = None if case.alike or metric.total is None else metric.total.replace("_", " ")
    return Change(
        cell=case.cell,
        metric=metric,
        what=total or Words(metric).what,
        by_total=total is not None,
        effect=shift.effect,
        p=p,
        word=word,
        rows=tuple((ids[i], float(shift.parts[i])) for i in largest if shift.parts[i]),
    )
