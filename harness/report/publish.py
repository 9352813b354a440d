"""A report's files: summary.json, Markdown, HTML, figures, tables and the recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import OptionError, one_line
from harness.files import write_atomically
from harness.gate.decision import hold
from harness.gate.verdict import Gate, Terms
from harness.records import Measurement
from harness.report import content as report
from harness.report.conclusions import pays_off
from harness.report.figures.svg import standalone
from harness.report.formatting import to_toml
from harness.report.learning import draw
from harness.results.manifest import Manifest
from harness.results.reading import read_run
from harness.results.snapshot import take

Figures = Mapping[str, tuple[str, str]]  # name → (heading, SVG to stand inside HTML)


@dataclass(frozen=True)
class Style:
    """How a report is written besides what it says.

    Attributes:
        formats: ``csv`` and ``latex``, of the main table.
        templates: a folder whose files stand in for the project's own.
    """

    formats: tuple[str, ...] = ()
    templates: Path | None = None


def publish(
    folder: Path,
    manifest: Manifest,
    measured: Mapping[str, Measurement],
    gate: Gate | None = None,
    style: Style = Style(),
) -> tuple[dict[str, Any], list[Path]]:
    """Write everything that is derived from a run.

    Args:
        folder: the results directory.
        manifest: the run.
        measured: entry id → measurement.
        gate: what the gate said, if it was asked.
        style: how it is written.

    Returns:
        What the reports say, and the files that a reader opens first.

    Raises:
        StoreError: a file cannot be written.
        OptionError: one of the user's templates does not work.
    """
    from harness.report.figures.select import break_even, pictures

    content = report.build(manifest, measured, gate)
    content["conclusions"] += pays_off(content["groups"], break_even(content))
    pictured, tables = pictures(content)
    figures = {**pictured, **draw(content["trainings"], manifest.scored_pool)}
    return content, write(folder, content, figures, tables, style)


def write(
    folder: Path,
    content: Mapping[str, Any],
    figures: Figures,
    tables: Mapping[str, Mapping[str, Any]],
    style: Style = Style(),
) -> list[Path]:
    """Write a report's files, each atomically; all of them are made before the first is written.

    Args:
        folder: the results directory.
        content: what :func:`harness.report.content.build` returned.
        figures: name → (heading, SVG).
        tables: name of a figure → the numbers behind it.
        style: how it is written.

    Returns:
        The files that a reader opens first.

    Raises:
        StoreError: a file cannot be written.
        OptionError: one of the user's templates does not work.
    """
    first = {
        "summary.json": json.dumps(_summary(content), ensure_ascii=False, indent=1, allow_nan=False)
        + "\n",
        **_rendered(content, figures, tables, style.templates),
        **_tables(content, style.formats),
    }
    others = {f"figures/{name}.svg": standalone(svg) for name, (_, svg) in figures.items()}
    others["recipe.toml"] = to_toml(content["recipe"])
    for name, text in {**others, **first}.items():
        write_atomically(folder / name, text)
    for path in (folder / "figures").glob("*.svg"):
        if path.stem not in figures:  # of an earlier report
            path.unlink(missing_ok=True)
    return [folder / name for name in first]


def _summary(content: Mapping[str, Any]) -> dict[str, Any]:
    """For programs: everything but the rows' texts, which the cells' files and run.json have."""
    return {name: value for name, value in content.items() if name != "explorer"}


def _rendered(
    content: Mapping[str, Any],
    figures: Figures,
    tables: Mapping[str, Mapping[str, Any]],
    templates: Path | None,
) -> dict[str, str]:
    from jinja2 import TemplateError

    from harness.report.formatting import render
    from harness.report.html import page

    try:
        return {
            "report.md": render("report.md.j2", content, figures, templates),
            "report.html": page(content, figures, tables, templates),
        }
    except TemplateError as error:
        if templates is None:
            raise
        where = getattr(error, "name", None) or "a template"
        number = getattr(error, "lineno", None)
        line = f", line {number}" if number else ""
        raise OptionError(f"--templates={templates}: {where}{line}: {one_line(error)}") from None


def _tables(content: Mapping[str, Any], formats: tuple[str, ...]) -> dict[str, str]:
    if not formats:
        return {}
    from harness.report.tables import to_csv, to_latex

    made = {"csv": ("report.csv", to_csv), "latex": ("report.tex", to_latex)}
    return {made[name][0]: made[name][1](content) for name in formats}


def rebuild(
    folder: Path, terms: Terms | None, style: Style = Style()
) -> tuple[dict[str, Any], list[Path], Gate | None]:
    """Write a results directory's reports anew.

    Args:
        folder: the results directory.
        terms: what to hold the run to; None for no gate.
        style: how they are written.

    Returns:
        What the reports say, their files, and the gate's word.

    Raises:
        StoreError: the run cannot be read or the reports not be written.
    """
    manifest, measured = read_run(folder)
    gate = hold(terms, take(str(folder), manifest, measured)) if terms else None
    content, files = publish(folder, manifest, measured, gate, style)
    return content, files, gate
