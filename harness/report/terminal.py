"""What the end of a run shows in a terminal, through pytest's reporter or a plain stream."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from harness.gate.verdict import Gate
from harness.report import formatting as render
from harness.report import github

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
        content = gate.content()
        writer.section("adaptbench: gate", "=", **(GOOD if gate.passed else BAD))
        for status, line in render.verdict_lines(content, gate.baseline):
            writer.write(status, **COLORS.get(status, {}))
            writer.write_line(f" {line}")
        for command in github.commands(content):
            writer.write_line(command)
    elif trouble is not None:
        writer.section("adaptbench: gate", "=", **BAD)
        writer.write_line(render.visible(trouble), red=True)
    elif updated:
        writer.section("adaptbench: new baseline")
        for line in updated:
            writer.write_line(render.visible(line))


def show_report(
    writer: Writer, content: Mapping[str, Any], files: Sequence[Path], here: Path
) -> None:
    """Show the main table, what is missing or should be known, and where the reports are.

    Args:
        writer: where to.
        content: what the reports say.
        files: the reports.
        here: the folder that their paths are shown relative to.
    """
    writer.section("adaptbench: mean perplexity, lower is better")
    if content["groups"]:
        writer.write_line(render.table(content))
    warnings = [*_missing(content), *_chosen(content)]
    for line in warnings:
        writer.write_line("")
        writer.write_line(line, yellow=True)
    writer.write_line("")
    for path in files:
        writer.write_line(_relative(path, here))
    trouble = github.add_job_summary(content)
    if trouble is not None:
        writer.write_line(trouble, yellow=True)


def _missing(content: Mapping[str, Any]) -> list[str]:
    missing = content["missing"]
    if not missing:
        return []
    names = ", ".join(entry["id"] for entry in missing[:3]) + (", …" if len(missing) > 3 else "")
    return [f"{len(missing)} of {len(missing) + len(content['cells'])} cells are missing: {names}"]


def _chosen(content: Mapping[str, Any]) -> list[str]:
    chosen = dict.fromkeys(entry["label"] for entry in render.chosen_on_test(content))
    if not chosen:
        return []
    return [
        f"{', '.join(chosen)}: the checkpoint was chosen on the test set, which flatters its "
        f"numbers; for a claim use --select-on=holdout"
    ]


def _relative(path: Path, base: Path) -> str:
    try:
        return str(path.relative_to(base))
    except ValueError:
        return str(path)
