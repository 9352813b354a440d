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

from harness.places import TEMPLATES
from harness.report import formatting as render
from harness.report.formatting import to_toml

STYLE, SCRIPT = "html/style.css", "html/script.js"
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{}'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)
FILTERS = (
    render.number,
    render.percent,
    render.plus_minus,
    render.flat,
    render.visible,
    render.lines,
    render.interval,
    render.change,
    render.ratio,
    render.percent_of,
    render.share,
    render.p_value,
    render.difference,
)
OF_TRAININGS = ("curve", "rows")  # figures that stand with their training
ORDER = ("k", "distribution", "rowwise", "cost")  # the others; what is not named here comes last
_HAN = re.compile("[\u2e80-\u2fdf\u3005\u3007\u3021-\u3029\u3400-\u9fff\uf900-\ufaff𠀀-\U0003ffff]")

Tables = Mapping[str, Mapping[str, Any]]


def page(
    content: Mapping[str, Any],
    figures: Mapping[str, tuple[str, str]],
    tables: Tables | None = None,
    overrides: Path | None = None,
) -> str:
    """Render the report.

    Args:
        content: what a report says (:func:`harness.report.content.build`).
        figures: name → (heading, SVG to stand inside HTML).
        tables: a figure's name → its ``headers`` and ``rows``.
        overrides: a folder laid out as ``templates/`` is; its files come before ours.
    """
    import jinja2
    from markupsafe import Markup

    folders = [folder for folder in (overrides, TEMPLATES) if folder is not None]
    loader = jinja2.ChoiceLoader([jinja2.FileSystemLoader(folder) for folder in folders])
    environment = jinja2.Environment(
        loader=loader,
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update({name.__name__: name for name in FILTERS})
    environment.filters.update(lang=lang, sortable=sortable, shown=shown)
    style, script = (loader.get_source(environment, name)[0] for name in (STYLE, SCRIPT))
    varying = [name for name in render.VARYING if name not in content["constant"]]
    known = {
        **content,
        "conclusions": content.get("conclusions", []),
        "varying": varying,
        "trained": any(group["training_tokens"] for group in content["groups"]),
        "figures": {
            # Made by our own drawing code, which escapes what it is given.
            name: (heading, Markup(svg))  # noqa: S704
            for name, (heading, svg) in figures.items()
        },
        "pictures": pictures(figures),
        "tables": tables or {},
        "chosen_on_test": render.chosen_on_test(content),
        "recipe_toml": to_toml(content["recipe"]),
        # Ours, or the user's own: neither is a template, neither holds anything of a row.
        "policy": Markup(POLICY.format(digest(script))),  # noqa: S704
        "style": Markup(style),  # noqa: S704
        "script": Markup(script),  # noqa: S704
        "data": Markup(block({**content["explorer"], **_first(content), "varying": varying})),  # noqa: S704
    }
    return environment.get_template("report.html.j2").render(known)


def digest(script: str) -> str:
    """What a policy calls an inline script by."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def block(value: Any) -> str:
    """JSON for a script element: nothing in it is markup, ends a line, or can not be seen."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    unsafe = {ord(c): json.dumps(c)[1:-1] for c in set(text) if not c.isprintable()}
    return text.translate({**unsafe, **{ord(c): f"\\u{ord(c):04x}" for c in "<>&"}})


def pictures(names: Mapping[str, Any]) -> list[str]:
    """The figures that belong to no training, in the order in which they are read."""

    def place(name: str) -> int:
        kind = name.partition("-")[0]
        return ORDER.index(kind) if kind in ORDER else len(ORDER)

    rest = (name for name in names if name.partition("-")[0] not in OF_TRAININGS)
    return sorted(rest, key=lambda name: (place(name), name))


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
    return render.number(value) if isinstance(value, float) else render.visible(str(value))


def _first(content: Mapping[str, Any]) -> dict[str, Any]:
    """Which two cells are compared at first: the best strategy's first seed, and zero-shot's."""
    cells = content["explorer"]["cells"]
    groups = [group for group in content["groups"] if group["mean"] is not None]
    best: Sequence[Mapping[str, Any]] = sorted(groups, key=lambda group: group["mean"])
    if not best:
        return {"first": 0, "other": min(1, len(cells) - 1)}
    rivals = [
        group
        for group in groups
        if group["strategy"] == "zeroshot"
        and all(group[name] == best[0][name] for name in ("model", "prompt"))
    ]
    rivals.sort(key=lambda group: group["quantization"] != best[0]["quantization"])
    others = [group for group in (*rivals, *best[1:], *best) if group is not best[0]] or best[:1]
    return {"first": _place(cells, best[0]), "other": _place(cells, others[0])}


def _place(cells: Sequence[Mapping[str, Any]], group: Mapping[str, Any]) -> int:
    """Where a group's first cell stands."""
    names = ("label", *render.VARYING)
    found = (i for i, cell in enumerate(cells) if all(cell[name] == group[name] for name in names))
    return next(found, 0)
