"""Numbers and texts as a reader sees them; the filters of both reports' templates."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from harness.gate.verdict import Gate
from harness.messages import listed, say, say_number
from harness.metrics.base import Effect, Metric
from harness.results.snapshot import Difference
from harness.statistics.exams import kind
from harness.statistics.unseen import detectable_rate

NA = "n/a"
NONE = "–"


MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|<>~$&])")


def in_markdown(value: Any) -> Any:
    """Escape text so that Markdown shows it as text, on one line; markup stays as it is."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return MARKDOWN.sub(r"\\\1", visible(value))


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


def plus_minus(mean: float | None, std: float | None, digits: int = 2) -> str:
    """``mean ± std``, with n/a where one value says nothing about a spread."""
    return f"{number(mean, digits)} ± {number(std, digits)}"


def percent(value: float | None) -> str:
    """A signed relative change in percent; a dash where there is nothing to compare with."""
    return "–" if value is None else f"{100 * value:+.1f} %".replace("-", "−")


def interval(limits: Sequence[float] | None, digits: int = 2) -> str:
    """``[low, high]``, or n/a."""
    if limits is None:
        return NA
    return f"[{number(limits[0], digits)}, {number(limits[1], digits)}]"


def relative(effect: Effect | None) -> str:
    """A relative change with its interval, in percent; a dash where there is none."""
    if effect is None:
        return NONE
    shown = [percent(_known(x)) for x in (effect.estimate, effect.low, effect.high)]
    return f"{shown[0]} [{', '.join(limit.removesuffix(' %') for limit in shown[1:])}]"


def absolute(effect: Effect | None) -> str:
    """A difference with its interval, in the metric's unit; a dash where there is none."""
    if effect is None:
        return NONE
    estimate, low, high = (_signed(x) for x in (effect.estimate, effect.low, effect.high))
    return f"{estimate} [{low}, {high}]"


def change(effect: Effect | None, metric: Metric) -> str:
    """An effect as the metric's scale has it: in percent, or in its unit."""
    return relative(effect) if metric.scale == "log" else absolute(effect)


def _known(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


def _signed(value: float) -> str:
    return NONE if _known(value) is None else f"{value:+.3g}".replace("-", "−")


def percent_of(value: float | None) -> str:
    """A share in percent with two digits that count; a dash where there is none."""
    return "–" if value is None else f"{100 * value:.2g} %"


def difference(entry: Difference) -> str:
    """What is not as it was, in one line."""
    known = {"what": visible(entry.what), "values": say("others")}
    if entry.before is not None:
        known["values"] = visible(f"{entry.before} → {entry.after}")
    return say_number(
        entry.cells, "{what}: {values} ({count} cell)", "{what}: {values} ({count} cells)", **known
    )


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
    return listed(listed((name, f"{value}"), " = ") for name, value in settings.items())


def verdict_lines(gate: Gate, baseline: str) -> list[tuple[str, str]]:
    """The gate's word for a terminal: (status, line), the worst first.

    ``PASSED`` or ``FAILED`` stands before the first line, which names the ``baseline``.
    """
    word = "PASSED" if gate.passed else "FAILED"
    if gate.problem:
        return [(word, visible(gate.problem))]
    counts = ", ".join(f"{count} {status}" for status, count in gate.counts.items())
    found = [(word, visible(f"against {baseline}: {counts}"))]
    found += [
        (verdict.status, visible(f"{gate.name_of(verdict)}: {verdict.line}"))
        for verdict in gate.verdicts
        if verdict.status != "OK"
    ]
    found += [("WARN", visible(note)) for note in gate.notes]
    found += [("changed", difference(entry)) for entry in gate.differences]
    return found


# Of the templates of both reports; each writes what it is given, and escapes nothing.
def filled(values: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that say something."""
    return {name: value for name, value in values.items() if value != ""}


def rate(value: float | None) -> str:
    """A share of rows, in percent; a dash where it is not known."""
    return NONE if value is None else f"{100 * value:.1f} %".replace(".0 %", " %")


def rates(limits: Sequence[float]) -> str:
    """``[low, high]`` of a share, in percent."""
    return f"[{', '.join(f'{100 * one:.0f}' for one in limits)}] %"


def unseen_rate(rows: int) -> str:
    """How far from a half a win rate has to be, that so many rows show it."""
    if rows < 2:
        return ""
    found = detectable_rate(rows)
    return say(
        "With {rows} rows, a win rate is known to ±{half} points at worst, and one that is "
        "{detectable} points from a half is found four times of five.",
        rows=rows,
        half=f"{100 * found.half_width:.1f}",
        detectable=f"{100 * found.detectable:.1f}",
    )


def better(metric: Metric) -> str:
    """Which direction is better."""
    return say("lower is better") if metric.better == "lower" else say("higher is better")


FAULTS: Mapping[str, str] = {
    "empty": say("empty"),
    "truncated": say("truncated"),
    "looping": say("looping"),
    "copied": say("copied"),
    "wrong_script": say("wrong script"),
    "leaked": say("leaked"),
}


def fault(name: str) -> str:
    """What the metric of a fault is called in a column."""
    return FAULTS.get(name, name.replace("_", " "))


def kinds(names: str) -> str:
    """``better > worse`` of an examination in words."""
    return listed(map(kind, names.split(" > ")), " > ")


FILTERS = {
    one.__name__: one
    for one in (
        number, percent, plus_minus, flat, visible, lines, indented, interval, relative, change,
        percent_of, share, p_value, difference, filled, rate, rates, unseen_rate, fault, kind,
        kinds,
    )
}  # fmt: skip
