"""What the end of a run shows in a terminal, through pytest's reporter or a plain stream."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Protocol

from harness.gate.compare import Change, Changes
from harness.gate.verdict import Gate
from harness.report import github
from harness.report.columns import verdict_columns
from harness.report.formatting import (
    change,
    difference,
    p_value,
    percent,
    relative,
    verdict_lines,
    visible,
)
from harness.report.nouns import Report
from harness.report.tables import table

BAD, DOUBTFUL, GOOD = {"red": True, "bold": True}, {"yellow": True}, {"green": True}
COLORS = {
    "FAILED": BAD,
    "FAIL": BAD,
    "MISSING": BAD,
    "WARN": DOUBTFUL,
    "INCONCLUSIVE": DOUBTFUL,
    "PASSED": GOOD,
    "IMPROVED": GOOD,
}
ESCAPES = {"red": "31", "green": "32", "yellow": "33", "bold": "1"}


class Writer(Protocol):
    """The part of pytest's terminal reporter that is used here."""

    def section(self, title: str, sep: str = "=", **markup: bool) -> None: ...

    def write(self, content: str, **markup: bool) -> None: ...

    def write_line(self, line: str, **markup: bool) -> None: ...


class Plain:
    """A writer for a stream, in colours if it is for a terminal and nobody minds."""

    def __init__(self, stream: IO[str], colours: bool) -> None:
        self.stream = stream
        self.colours = colours and "NO_COLOR" not in os.environ

    def section(self, title: str, sep: str = "=", **markup: bool) -> None:
        self.write_line(title, **markup)

    def write(self, content: str, **markup: bool) -> None:
        codes = [code for name, code in ESCAPES.items() if markup.get(name)]
        if codes and self.colours:
            content = f"\x1b[{';'.join(codes)}m{content}\x1b[0m"
        self.stream.write(content)

    def write_line(self, line: str, **markup: bool) -> None:
        self.write(line, **markup)
        self.stream.write("\n")


def show_gate(
    writer: Writer, gate: Gate | None, trouble: str | None = None, updated: Sequence[str] = ()
) -> None:
    """Show what CI has to act on: the verdicts, or what became of a new baseline."""
    if gate is not None:
        writer.section("adaptbench: gate", "=", **(GOOD if gate.passed else BAD))
        for status, line in verdict_lines(gate, gate.baseline):
            writer.write(status, **COLORS.get(status, {}))
            writer.write_line(f" {line}")
        for command in github.commands(gate):
            writer.write_line(command)
    elif trouble is not None:
        writer.section("adaptbench: gate", "=", **BAD)
        writer.write_line(visible(trouble), red=True)
    elif updated:
        writer.section("adaptbench: new baseline")
        for line in updated:
            writer.write_line(visible(line))


def show_report(writer: Writer, report: Report, files: Sequence[Path], here: Path) -> None:
    """Show the main tables, what is missing or should be known, and where the reports are.

    Args:
        writer: where to.
        report: what the reports say.
        files: the reports.
        here: the folder that their paths are shown relative to.
    """
    for section in report.sections:
        metric = section.metric
        writer.section(f"adaptbench: {metric.title}, {metric.better} is better")
        if section.groups:
            writer.write_line(table(report, section))
    for line in (*_missing(report), *_chosen(report), *_judges(report), *report.warnings):
        writer.write_line("")
        writer.write_line(visible(line), yellow=True)
    writer.write_line("")
    for path in files:
        writer.write_line(_relative(path, here))
    trouble = github.add_job_summary(report)
    if trouble is not None:
        writer.write_line(trouble, yellow=True)


def show_so_far(writer: Writer, report: Report, files: Sequence[Path], here: Path) -> None:
    """Show the first table of a run that goes on, and where its report, with all of them, is.

    Arguments are those of :func:`show_report`.
    """
    planned = len(report.cells) + len(report.missing)
    for section in [one for one in report.sections if one.groups][:1]:
        title = f"so far, {len(report.cells)} of {planned} cells: {section.metric.title}"
        writer.section(f"adaptbench: {title}", "-")
        writer.write_line(table(report, section))
    for path in files:
        writer.write_line(_relative(path, here))


def _missing(report: Report) -> list[str]:
    missing = report.missing
    if not missing:
        return []
    names = ", ".join(entry.id for entry in missing[:3]) + (", …" if len(missing) > 3 else "")
    return [f"{len(missing)} of {len(missing) + len(report.cells)} cells are missing: {names}"]


def _judges(report: Report) -> list[str]:
    """What is to be known of every judge."""
    return [
        f"{one.name}, asked by {one.rubric}: {' '.join([*one.exam.sentences, one.took])}".strip()
        for one in report.judges
    ]


def _chosen(report: Report) -> list[str]:
    chosen = dict.fromkeys(entry.label for entry in report.chosen_on_test)
    lines = []
    if report.decodings_on_test:
        lines.append(
            f"{', '.join(report.decodings_on_test)} are compared on the test rows, which flatters "
            f"the best of them; for a claim use --choose-decoding=64"
        )
    if not chosen:
        return lines
    return [
        *lines,
        f"{', '.join(chosen)}: the checkpoint was chosen on the test set, which flatters its "
        f"numbers; for a claim use --select-on=holdout",
    ]


def show_changes(writer: Writer, found: Changes) -> None:
    """Show what changed between two runs."""
    from tabulate import tabulate

    several = len({change.metric.name for change in found.cells}) > 1
    lines = [
        [
            visible(one.cell),
            *([one.metric.name] if several else []),
            one.word,
            relative(one.effect) if one.by_total else change(one.effect, one.metric),
            p_value(one.p),
            visible(_moved(one)),
        ]
        for one in found.cells
    ]
    tested = verdict_columns([one.metric for one in found.cells]) or "geometric mean"
    headers = ["cell", *(["metric"] if several else []), "", tested, "p", "rows that moved most"]
    writer.write_line(tabulate(lines, headers=headers, tablefmt="simple", disable_numparse=True))
    totals: dict[str, list[str]] = {}
    for one in found.cells:
        if one.by_total:
            totals.setdefault(one.what, []).append(one.cell)
    for what, cells in totals.items():
        line = f"By {what}, because the tokenizers differ: {', '.join(cells)}"
        writer.write_line(visible(line), **DOUBTFUL)
    for name in found.skipped:
        writer.write_line(visible(f"{name}: not compared, because a row is not finite"), **DOUBTFUL)
    for word, names in (("before", found.only_before), ("after", found.only_after)):
        for name in names:
            writer.write_line(visible(f"only {word}: {name}"))
    for entry in found.differences:
        writer.write_line(difference(entry))


def _moved(one: Change) -> str:
    """The rows that moved most, each with how much."""

    def size(part: float) -> str:
        if one.by_total:
            return f"{part:+.1f} nats"
        if one.metric.scale == "log":
            return percent(math.expm1(part))
        return f"{part:+.3g}"

    return ", ".join(f"{name!r} {size(part)}" for name, part in one.rows)


def _relative(path: Path, base: Path) -> str:
    try:
        return str(path.relative_to(base))
    except ValueError:
        return str(path)
