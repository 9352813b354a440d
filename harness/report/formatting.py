"""How a report's content is shown: Jinja templates for files, tabulate for the terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.places import TEMPLATES

NA = "n/a"


def render(
    template: str,
    content: Mapping[str, Any],
    figures: Mapping[str, tuple[str, str]] | None = None,
    overrides: Path | None = None,
) -> str:
    """Render one of the Markdown templates; every value is escaped.

    Args:
        template: its file name.
        content: what a report says.
        figures: name → (heading, SVG).
        overrides: a folder whose files stand in for the project's templates.
    """
    import jinja2

    environment = jinja2.Environment(  # noqa: S701  # Markdown has an escaping of its own
        loader=jinja2.FileSystemLoader([*([overrides] if overrides else []), TEMPLATES]),
        undefined=jinja2.StrictUndefined,
        finalize=_markdown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        number=number,
        percent=percent,
        plus_minus=plus_minus,
        flat=flat,
        indented=indented,
        interval=interval,
        change=change,
        ratio=ratio,
        percent_of=percent_of,
        share=share,
        p_value=p_value,
        difference=difference,
    )
    return environment.get_template(template).render(
        **content,
        varying=[name for name in VARYING if name not in content["constant"]],
        figures=figures or {},
        chosen_on_test=chosen_on_test(content),
        recipe_toml=to_toml(content["recipe"]),
    )


_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|<>~$&])")


def _markdown(value: Any) -> Any:
    """Escape text so that Markdown shows it as text, on one line; markup stays as it is."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return _MARKDOWN.sub(r"\\\1", visible(value))


def visible(text: str) -> str:
    """Make line breaks and invisible or direction-changing characters visible."""
    shown = text.replace("\n", "⏎").replace("\r", "⏎").replace("\t", " ")
    return "".join(c if c.isprintable() or c == " " else f"‹U+{ord(c):04X}›" for c in shown)


def indented(text: str) -> Any:
    """A block of code for Markdown; unlike a fence, no text can end it."""
    from markupsafe import Markup

    return Markup("\n".join(f"    {visible(line)}" for line in text.splitlines()))  # noqa: S704


def lines(text: str) -> str:
    """Several lines for HTML, with invisible characters made visible."""
    return "\n".join(map(visible, text.splitlines()))


def number(value: float | None, digits: int = 2) -> str:
    """Format a metric; ``n/a`` where there is none, scientific where it is huge."""
    if value is None:
        return NA
    return f"{value:.{digits}f}" if abs(value) < 100_000 else f"{value:.3e}"


def plus_minus(mean: float | None, std: float | None) -> str:
    """``mean ± std``, with n/a where one value says nothing about a spread."""
    return f"{number(mean)} ± {number(std)}"


def percent(value: float | None) -> str:
    """A signed relative change in percent; a dash where there is nothing to compare with."""
    return "–" if value is None else f"{100 * value:+.1f} %".replace("-", "−")


def interval(limits: Sequence[float] | None) -> str:
    """``[low, high]``, or n/a."""
    return NA if limits is None else f"[{number(limits[0])}, {number(limits[1])}]"


def ratio(value: Sequence[float] | None) -> str:
    """A ratio with its interval as changes in percent; a dash where there is none."""
    if value is None:
        return "–"
    estimate, *limits = (percent(None if one is None else one - 1) for one in value)
    return f"{estimate} [{', '.join(limit.removesuffix(' %') for limit in limits)}]"


def change(versus: Mapping[str, Any] | None) -> str:
    """A group's change against its rival: for unseen seeds where several were run."""
    return ratio(None if versus is None else versus["seeds_ratio"] or versus["ratio"])


def percent_of(value: float | None) -> str:
    """A share in percent with two digits that count; a dash where there is none."""
    return "–" if value is None else f"{100 * value:.2g} %"


def difference(entry: Mapping[str, Any]) -> str:
    """What is not as it was, in one line."""
    values = "others" if entry["before"] is None else f"{entry['before']} → {entry['after']}"
    cells = f"{entry['cells']} cell{'s' if entry['cells'] > 1 else ''}"
    return visible(f"{entry['what']}: {values} ({cells})")


def share(value: float) -> str:
    """A share in percent, with the digits that it was given."""
    return f"{100 * value:g} %"


def p_value(value: float | None) -> str:
    """Two digits, or the power of ten it is below."""
    if value is None:
        return "–"
    return f"{value:.2g}" if value >= 0.001 else "<0.001"


def flat(settings: Mapping[str, Any]) -> str:
    """``a = 1, b = 2`` of a mapping."""
    return ", ".join(f"{name} = {value}" for name, value in settings.items())


VARYING = ("model", "quantization", "dtype", "prompt")  # columns only where they tell rows apart
COLUMNS = ("strategy", "seeds", "mean ± std", "95 %", "geometric", "vs zero-shot", "p", "bits/byte")


def table(content: Mapping[str, Any]) -> str:
    """The main table for a terminal."""
    from tabulate import tabulate

    groups = content["groups"]
    varying = [name for name in VARYING if name not in content["constant"]]
    lines = [
        [
            group["label"],
            *(group[name] for name in varying),
            _seeds(group),
            plus_minus(group["mean"], group["std"]),
            interval(group["mean_seeds_interval"] or group["mean_interval"]),
            number(group["geometric_mean_perplexity"]),
            change(group["versus"]),
            p_value(group["versus"] and group["versus"]["p"]),
            number(group["bits_per_byte"], 3),
        ]
        for group in groups
    ]
    headers = [COLUMNS[0], *varying, *COLUMNS[1:]]
    return tabulate(
        lines,
        headers=headers,
        tablefmt="simple",
        disable_numparse=True,
        colalign=["left"] * (1 + len(varying)) + ["right"] * (len(headers) - 1 - len(varying)),
    )


def verdict_lines(gate: Mapping[str, Any], baseline: str) -> list[tuple[str, str]]:
    """The gate's word for a terminal: (status, line), the worst first.

    ``PASSED`` or ``FAILED`` stands before the first line, which names the ``baseline``.
    """
    word = "PASSED" if gate["passed"] else "FAILED"
    if gate["problem"]:
        return [(word, visible(gate["problem"]))]
    counts = ", ".join(f"{count} {status}" for status, count in gate["counts"].items())
    found = [(word, visible(f"against {baseline}: {counts}"))]
    found += [
        (verdict["status"], visible(f"{verdict['cell']}: {verdict['line']}"))
        for verdict in gate["verdicts"]
        if verdict["status"] != "OK"
    ]
    found += [("WARN", visible(note)) for note in gate["notes"]]
    found += [("changed", difference(entry)) for entry in gate["differences"]]
    return found


def chosen_on_test(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The trainings whose checkpoint was chosen by the rows that it is then scored on."""
    return [entry for entry in content["trainings"] if entry["select_on"] == "test"]


def _seeds(group: Mapping[str, Any]) -> str:
    if group["n_seeds"] < group["n_seeds_planned"]:
        return f"{group['n_seeds']} of {group['n_seeds_planned']}"
    return str(group["n_seeds"]) if group["seeds"] else "–"


def to_toml(recipe: Mapping[str, Any]) -> str:
    """Write a recipe as TOML."""
    import tomli_w

    return "# What this run was asked for; pytest suites/ --recipe=FILE asks again.\n" + (
        tomli_w.dumps(recipe)
    )
