"""What changed between two runs: which cells, which rows, how surely."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.errors import GateError
from harness.gate.decision import check_metric, check_rows
from harness.gate.verdict import ALPHA, Difference
from harness.report.formatting import difference, p_value, percent, ratio, visible
from harness.report.terminal import DOUBTFUL, Writer
from harness.results.reading import matched, snapshot
from harness.results.snapshot import Rows, differences

TOKENS, BITS = "geometric mean perplexity", "bits per byte"


@dataclass(frozen=True)
class Change:
    """One cell before and after.

    ``metric`` says what ``ratio`` (estimate, low, high) is of; ``word`` is ``better``, ``worse``
    or ``no difference shown``; ``rows`` are those whose share in it is largest, each with the rise
    of its log perplexity, or for bits per byte of its NLL.
    """

    cell: str
    metric: str
    ratio: tuple[float, float, float]
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


def changes(before: Path, after: Path) -> Changes:
    """Compare two results directories or baselines.

    Cells with the same tokens are compared by perplexity, others by bits per byte; all of them
    are one family for the adjustment of p.

    Raises:
        StoreError: one can not be read.
        GateError: they are not about the same rows, or have no cell in common.
    """
    old, new = snapshot(before), snapshot(after)
    check_metric(old, new.metric)
    check_rows(old, new.task, new.rows, remedy="")
    pairs = matched(new, old)
    if not pairs:
        raise GateError(f"{after}: has no cell in common with {before}")
    whole = {name: pair for name, pair in pairs.items() if not any(r.nonfinite for r in pair)}
    used = {id(rows) for pair in pairs.values() for rows in pair}
    return Changes(
        cells=tuple(_changes(whole, list(new.rows))),
        only_before=tuple(name for name, rows in old.cells.items() if id(rows) not in used),
        only_after=tuple(name for name, rows in new.cells.items() if id(rows) not in used),
        differences=tuple(differences(new, old)),
        skipped=tuple(name for name in pairs if name not in whole),
    )


def _changes(pairs: dict[str, tuple[Rows, Rows]], ids: Sequence[str]) -> list[Change]:
    import numpy as np

    from harness.statistics.family import compare_bits, compare_perplexity
    from harness.statistics.paired import holm

    alike = {name: pair for name, pair in pairs.items() if pair[0].tokens == pair[1].tokens}
    other = {name: pair for name, pair in pairs.items() if name not in alike}
    found: dict[str, dict[str, Any]] = {}
    for kind, compare in ((alike, compare_perplexity), (other, compare_bits)):
        if kind:
            found |= dict(zip(kind, compare(list(kind.values()), len(pairs)), strict=True))
    adjusted = dict(zip(found, holm([facts["p"] for facts in found.values()]), strict=True))
    changed = []
    for name in pairs:
        facts, p = found[name], adjusted[name]
        word = "no difference shown"
        if p < ALPHA:
            word = "worse" if facts["ratio"][0] > 1 else "better"
        parts = facts["parts"]
        largest = np.argsort(-np.abs(parts), kind="stable")[:3]
        changed.append(
            Change(
                cell=name,
                metric=TOKENS if name in alike else BITS,
                ratio=facts["ratio"],
                p=p,
                word=word,
                rows=tuple((ids[i], float(parts[i])) for i in largest if parts[i]),
            )
        )
    return changed


def show(writer: Writer, found: Changes) -> None:
    """Show it in a terminal."""
    from tabulate import tabulate

    def rows(change: Change) -> str:
        bits = change.metric == BITS
        return ", ".join(
            f"{name!r} " + (f"{part:+.1f} nats" if bits else percent(math.expm1(part)))
            for name, part in change.rows
        )

    lines = [
        [
            visible(change.cell),
            change.word,
            ratio(change.ratio),
            p_value(change.p),
            visible(rows(change)),
        ]
        for change in found.cells
    ]
    headers = ["cell", "", "geometric mean", "p", "rows that moved most"]
    writer.write_line(tabulate(lines, headers=headers, tablefmt="simple", disable_numparse=True))
    bits = [change.cell for change in found.cells if change.metric == BITS]
    if bits:
        writer.write_line(
            visible(f"By bits per byte, because the tokenizers differ: {', '.join(bits)}"),
            **DOUBTFUL,
        )
    for name in found.skipped:
        writer.write_line(visible(f"{name}: not compared, because a row is not finite"), **DOUBTFUL)
    for word, names in (("before", found.only_before), ("after", found.only_after)):
        for name in names:
            writer.write_line(visible(f"only {word}: {name}"))
    for entry in found.differences:
        writer.write_line(difference(asdict(entry)))
