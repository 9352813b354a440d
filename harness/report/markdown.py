"""Reports in Markdown, by Jinja templates in which every value is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.places import TEMPLATES
from harness.report.columns import (
    body,
    cell_columns,
    columns,
    joined,
    lines,
    verdict_columns,
    verdict_table,
    versus,
)
from harness.report.formatting import FILTERS, better, in_markdown
from harness.report.language import ENGLISH, Language, suffixed, translate, translated
from harness.report.nouns import Report, called
from harness.report.recipes import to_toml

Figures = Mapping[str, tuple[str, str]]  # name → (heading, SVG to stand inside HTML)


def known_to_templates(report: Report) -> dict[str, object]:
    """What the templates of both formats can name."""
    metrics = [section.metric for section in report.sections]
    gate = report.gate
    return {
        **{name: getattr(report, name) for name in report.__dataclass_fields__},
        "report": report,
        "metric": report.headline.metric,
        "conclusions": report.conclusions,
        "chosen_on_test": report.chosen_on_test,
        "decodings_on_test": report.decodings_on_test,
        "several_models": len({(one.model, one.prompt) for one in report.groups}) > 1,
        "recipe_toml": to_toml(report.recipe),
        "columns": columns,
        "body": body,
        "lines": lines,
        "cell_columns": cell_columns,
        "joined": joined,
        "versus": versus,
        "verdicts": verdict_table(gate, metrics) if gate and not gate.problem else [],
        "tested": verdict_columns(metrics),
        "called": called,
        "better": better,
    }


def render(
    template: str,
    report: Report,
    figures: Figures | None = None,
    overrides: Path | None = None,
    language: Language = ENGLISH,
) -> str:
    """Render one of the Markdown templates.

    Args:
        template: its file name.
        report: what it says.
        figures: name → (heading, SVG).
        overrides: a folder whose files stand in for the project's templates.
        language: what it is written in.
    """
    import jinja2

    environment = jinja2.Environment(  # noqa: S701  # Markdown has an escaping of its own
        loader=jinja2.FileSystemLoader([*([overrides] if overrides else []), TEMPLATES]),
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: in_markdown(language.of(value)),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(translated(FILTERS, language))
    environment.filters["file"] = lambda name: suffixed(f"{name}.svg", language.tag)
    translate(environment, language, in_markdown)
    known = {**known_to_templates(report), "figures": figures or {}, "language": language.tag}
    return environment.get_template(template).render(known)
