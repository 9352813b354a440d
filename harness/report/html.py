"""The HTML report: one file that asks nothing of a network, and holds still under hostile rows.

The parts stand in ``templates/html/``. Style and script are put in as they are, so that no brace in
them is a template's; the page's policy names the one script by its hash, and the rows reach it as
JSON in which no character can end the block that it stands in.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.metrics.base import Metric
from harness.metrics.corpus import CorpusMetric
from harness.places import TEMPLATES
from harness.report.figures.nouns import Table
from harness.report.formatting import FAULTS, FILTERS, number, visible
from harness.report.language import ENGLISH, Language, translate, translated
from harness.report.markdown import Figures, known_to_templates
from harness.report.nouns import (
    FIELDS,
    Explorer,
    ExplorerCell,
    ExplorerRow,
    Group,
    Report,
    Section,
    named,
)

STYLE, SCRIPT = "html/style.css", "html/script.js"
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{}'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)
OF_TRAININGS = ("curve", "rows")  # figures that stand with their training
ORDER = ("k", "distribution", "rowwise", "cost")  # the others; what is not named here comes last
FEW = 100  # characters that are faster replaced one after the other
_SAID = re.compile(r'\bsay(?:Number)?\((?:\w+, )?"([^"]*)"')
_HAN = re.compile("[\u2e80-\u2fdf\u3005\u3007\u3021-\u3029\u3400-\u9fff\uf900-\ufaff𠀀-\U0003ffff]")

Tables = Mapping[str, Table]


def page(
    report: Report,
    figures: Figures,
    tables: Tables | None = None,
    overrides: Path | None = None,
    language: Language = ENGLISH,
) -> str:
    """Render the report.

    Args:
        report: what it says.
        figures: name → (heading, SVG to stand inside HTML).
        tables: a figure's name → the numbers behind it.
        overrides: a folder laid out as ``templates/`` is; its files come before ours.
        language: what it is written in.
    """
    from markupsafe import Markup

    environment = _environment(overrides, language)
    style, script = (_source(environment, name) for name in (STYLE, SCRIPT))
    known = {
        **known_to_templates(report),
        "language": language.tag,
        "trained": any(group.training_tokens for group in report.groups),
        # Made by our own drawing code, which escapes what it is given.
        "figures": {name: (text, Markup(svg)) for name, (text, svg) in figures.items()},  # noqa: S704
        "pictures": pictures(figures),
        "later": [section.metric for section in report.sections[1:]],
        "tables": tables or {},
        # Ours, or the user's own: neither is a template, neither holds anything of a row.
        "policy": Markup(POLICY.format(digest(script))),  # noqa: S704
        "style": Markup(style),  # noqa: S704
        "script": Markup(script),  # noqa: S704
        "data": Markup(block(_data(report, language, script))),  # noqa: S704
    }
    text: str = environment.get_template("report.html.j2").render(known)
    return text


def _environment(overrides: Path | None, language: Language) -> Any:
    """Jinja's, with our filters, over the user's templates and ours."""
    import jinja2
    from markupsafe import escape

    folders = [folder for folder in (overrides, TEMPLATES) if folder is not None]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.FileSystemLoader(folder) for folder in folders]),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        finalize=language.of,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(translated(FILTERS, language), lang=lang, sortable=sortable)
    environment.filters.update(translated({"shown": shown}, language))
    translate(environment, language, escape)
    environment.tests["of_any"] = of_any
    return environment


def _source(environment: Any, name: str) -> str:
    source: str = environment.loader.get_source(environment, name)[0]
    return source


def _data(report: Report, language: Language, script: str) -> dict[str, Any]:
    """What the page's script paints, and the words that it says in another language."""
    explorer = report.explorer
    return {
        **_plain(explorer),
        "rows": [_plain(row) for row in explorer.rows],
        "cells": [_cell(cell, language) for cell in explorer.cells],
        "strings": tuple(map(language.of, explorer.strings)),
        "metrics": [
            {
                "title": language.of(section.metric.title),
                "noun": language.of(section.metric.noun),
                "relative": section.metric.scale == "log",
                "sign": section.metric.worsening,
                "observes": section.metric.observes,
                "corpus": isinstance(section.metric, CorpusMetric),
                "varying": section.varying,
                **_first(report, section),
            }
            for section in report.sections
        ],
        **({"words": words(script, language)} if language.texts else {}),
    }


def words(script: str, language: Language) -> dict[str, Sequence[str]]:
    """What a script says, by ``say("…")`` and ``sayNumber(n, "…", "…")``: English → all forms."""
    said = {*_SAID.findall(script), *map(str, FIELDS), *FAULTS.values()}
    return {one: language.texts[one] for one in sorted(said) if one in language.texts}


def _cell(cell: ExplorerCell, language: Language) -> dict[str, Any]:
    """A cell, with what it says of answers and prompts in the language."""
    plain = _plain(cell)
    if not language.texts:
        return plain
    told = tuple(
        tuple((place, language.of(how), tokens) for place, how, tokens in row)
        for row in cell.answers
    )
    return {**plain, "answers": told, "note": language.of(cell.note)}


def digest(script: str) -> str:
    """What a policy calls an inline script by."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def block(value: Any) -> str:
    """JSON for a script element: nothing in it is markup, ends a line, or cannot be seen."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    unsafe = {c: json.dumps(c)[1:-1] for c in set(text) if not c.isprintable()}
    unsafe |= {c: f"\\u{ord(c):04x}" for c in "<>&"}
    if len(unsafe) > FEW:
        return text.translate({ord(c): instead for c, instead in unsafe.items()})
    for character, instead in unsafe.items():  # which holds none of the others
        text = text.replace(character, instead)
    return text


def pictures(names: Mapping[str, Any]) -> list[str]:
    """The figures that belong to no training, in the order in which they are read."""

    def place(name: str) -> int:
        kind = name.partition("-")[0]
        return ORDER.index(kind) if kind in ORDER else len(ORDER)

    rest = (name for name in names if name.partition("-")[0] not in OF_TRAININGS)
    return sorted(rest, key=lambda name: (place(name), name))


def of_any(figure: str, metrics: Sequence[Metric]) -> bool:
    """Whether a figure, by its name, is of one of the metrics after the headline."""
    return any(figure.endswith(f"-{metric.name}") for metric in metrics)


def lang(text: str) -> Any:
    """An attribute that asks for Chinese glyphs, where there is Chinese to show."""
    from markupsafe import Markup

    return Markup(' lang="zh-Hant"' if _HAN.search(text) else "")  # noqa: S704


def sortable(value: Any) -> str:
    """What a column is sorted by; empty where there is no value, and that comes last."""
    return "" if value is None else f"{value:.8g}"


def shown(value: Any) -> str:
    """A value of a figure's table."""
    if value is None:
        return "–"
    return number(value) if isinstance(value, float) else visible(str(value))


def _plain(noun: ExplorerRow | ExplorerCell | Explorer) -> dict[str, Any]:
    """The fields of a noun; unlike ``asdict``, this does not walk through every row."""
    return {name: getattr(noun, name) for name in noun.__dataclass_fields__}


def _first(report: Report, section: Section) -> dict[str, int]:
    """Which two cells are compared at first: the best strategy's first seed, and the control's."""
    cells, sign = report.explorer.cells, section.metric.worsening
    own = [place for place, cell in enumerate(cells) if cell.observes == section.metric.observes]
    usable = [(sign * one.mean, one.group) for one in section.groups if one.mean is not None]
    best = [group for _, group in sorted(usable, key=lambda pair: pair[0])]
    if not best:
        return {"first": own[0], "other": own[min(1, len(own) - 1)]} if own else {}
    controls = [
        group
        for group in best
        if group.label == report.control.label
        and (group.model, group.prompt, group.decoding)
        == (best[0].model, best[0].prompt, best[0].decoding)
    ]
    controls.sort(key=lambda group: group.quantization != best[0].quantization)
    others = [group for group in (*controls, *best) if group is not best[0]] or best[:1]
    places = [_place(cells, group, section.metric) for group in (best[0], others[0])]
    return dict(zip(("first", "other"), places, strict=True))


def _place(cells: Sequence[ExplorerCell], group: Group, metric: Metric) -> int:
    """Where the first cell of a group stands that the metric reads."""
    found = (
        place
        for place, cell in enumerate(cells)
        if cell.observes == metric.observes and named(cell) == group.name
    )
    return next(found, 0)
