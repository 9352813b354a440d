"""A report's files: summary.json, Markdown, HTML, figures, tables and the recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import OptionError, one_line
from harness.files import write_atomically
from harness.gate.decision import hold
from harness.gate.verdict import Gate, Terms
from harness.metrics.base import Metric
from harness.places import languages
from harness.records import Measurement
from harness.report.conclusions import pays_off
from harness.report.content import build
from harness.report.figures.svg import standalone
from harness.report.html import Tables
from harness.report.language import ENGLISH, Language, suffixed, written
from harness.report.learning import draw
from harness.report.markdown import Figures
from harness.report.nouns import Report
from harness.report.recipes import to_toml
from harness.report.summary import summary
from harness.results.manifest import Manifest
from harness.results.reading import metrics_of, read_run
from harness.results.snapshot import take

Drawn = tuple[Language, Figures, Tables]


@dataclass(frozen=True)
class Style:
    """How a report is written besides what it says.

    Attributes:
        formats: ``csv`` and ``latex``, of the main table.
        templates: a folder whose files stand in for the project's own.
        languages: tags of the languages of the Markdown and HTML reports.
    """

    formats: tuple[str, ...] = ()
    templates: Path | None = None
    languages: tuple[str, ...] = (ENGLISH.tag,)


def compose(
    manifest: Manifest,
    measured: Mapping[str, Measurement],
    metrics: Sequence[Metric],
    gate: Gate | None = None,
) -> Report:
    """Assemble a report with all its sentences.

    Args:
        manifest: the run.
        measured: entry id → measurement.
        metrics: what is read from the observations, the headline first.
        gate: what the gate said, if it was asked.
    """
    from harness.report.figures.select import break_even

    report = build(manifest, measured, metrics, gate)
    first = report.headline
    more = pays_off(first.groups, first.metric, break_even(report))
    first = replace(first, conclusions=(*first.conclusions, *more))
    return replace(report, sections=(first, *report.sections[1:]))


def publish(
    folder: Path,
    manifest: Manifest,
    measured: Mapping[str, Measurement],
    metrics: Sequence[Metric],
    gate: Gate | None = None,
    style: Style = Style(),
) -> tuple[Report, list[Path]]:
    """Write everything that is derived from a run.

    Args:
        folder: the results directory.
        manifest: the run.
        measured: entry id → measurement.
        metrics: what is read from the observations, the headline first.
        gate: what the gate said, if it was asked.
        style: how it is written.

    Returns:
        What the reports say, and the files that a reader opens first.

    Raises:
        StoreError: a file cannot be written.
        OptionError: one of the user's templates does not work.
    """
    from harness.report.figures.kept import keeping
    from harness.report.figures.select import pictures

    report = compose(manifest, measured, metrics, gate)
    drawn: list[Drawn] = []
    with keeping():
        for language in _languages(folder, style):
            pictured, tables = pictures(report, language)
            trained = draw(report.trainings, manifest.scored_pool, language)
            drawn.append((language, {**pictured, **trained}, tables))
    return report, write(folder, report, drawn, style)


def _languages(folder: Path, style: Style) -> Sequence[Language]:
    """Those asked for, and those of reports that stand there: none is left out of date."""
    there = (tag for tag in languages() if (folder / suffixed("report.html", tag)).exists())
    return written((*style.languages, *there))


def write(
    folder: Path, report: Report, drawn: Sequence[Drawn], style: Style = Style()
) -> list[Path]:
    """Write a report's files, each atomically; all of them are made before the first is written.

    Args:
        folder: the results directory.
        report: what they say.
        drawn: each language with its figures, name → (heading, SVG), and the numbers behind them.
        style: how it is written.

    Returns:
        The files that a reader opens first.

    Raises:
        StoreError: a file cannot be written.
        OptionError: one of the user's templates does not work.
    """
    plain = json.dumps(summary(report), ensure_ascii=False, indent=1, allow_nan=False)
    first = {
        "summary.json": plain + "\n",
    }
    others = {"recipe.toml": to_toml(report.recipe)}
    for language, figures, tables in drawn:
        first |= _rendered(report, figures, tables, style.templates, language)
        others |= {
            f"figures/{suffixed(f'{name}.svg', language.tag)}": standalone(svg)
            for name, (_, svg) in figures.items()
        }
    first |= _tables(report, style.formats)
    for name, text in {**others, **first}.items():
        write_atomically(folder / name, text)
    for path in (folder / "figures").glob("*.svg"):
        if f"figures/{path.name}" not in others:  # of an earlier report
            path.unlink(missing_ok=True)
    return [folder / name for name in first]


def _rendered(
    report: Report, figures: Figures, tables: Tables, templates: Path | None, language: Language
) -> dict[str, str]:
    from jinja2 import TemplateError

    from harness.report.html import page
    from harness.report.markdown import render

    try:
        return {
            suffixed("report.md", language.tag): render(
                "report.md.j2", report, figures, templates, language
            ),
            suffixed("report.html", language.tag): page(
                report, figures, tables, templates, language
            ),
        }
    except TemplateError as error:
        if templates is None:
            raise
        where = getattr(error, "name", None) or "a template"
        number = getattr(error, "lineno", None)
        line = f", line {number}" if number else ""
        raise OptionError(f"--templates={templates}: {where}{line}: {one_line(error)}") from None


def _tables(report: Report, formats: tuple[str, ...]) -> dict[str, str]:
    if not formats:
        return {}
    from harness.report.tables import to_csv, to_latex

    made = {"csv": ("report.csv", to_csv), "latex": ("report.tex", to_latex)}
    return {made[name][0]: made[name][1](report) for name in formats}


def rebuild(
    folder: Path, terms: Terms | None, style: Style = Style()
) -> tuple[Report, list[Path], Gate | None]:
    """Write a results directory's reports anew.

    Args:
        folder: the results directory.
        terms: what to hold the run to; None for no gate.
        style: how they are written.

    Returns:
        What the reports say, their files, and the gate's word.

    Raises:
        StoreError: the run cannot be read or the reports not be written.
        MetricError: one of its metrics is not there.
    """
    manifest, measured = read_run(folder)
    metrics = metrics_of(manifest, folder)
    gate = None
    if terms is not None:
        gate = hold(terms, take(str(folder), manifest, measured, metrics), metrics)
    report, files = publish(folder, manifest, measured, metrics, gate, style)
    return report, files, gate
