"""The columns of every table of results: one list for terminal, Markdown, HTML, CSV and LaTeX.

A column knows what it shows, how it is sorted, and what it is called where it stands. :data:`ORDER`
says where that is, and in which order. CSV has every number of a line (``tables.flat_group``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.gate.verdict import Gate, Verdict
from harness.gate.words import Words
from harness.messages import listed, say
from harness.metrics.base import Effect, Metric
from harness.metrics.corpus import CorpusMetric
from harness.report.formatting import (
    NONE,
    change,
    interval,
    number,
    p_value,
    percent_of,
    plus_minus,
)
from harness.report.nouns import (
    FIELDS,
    VARYING,
    Anchor,
    CellFacts,
    CellResult,
    Group,
    GroupResult,
    Report,
    Section,
    called,
)
from harness.statistics.paired import ALPHA
from harness.statistics.uncertainty import Comparison

Value = str | int | float | None


@dataclass(frozen=True)
class Shown:
    """What stands in a table's cell.

    Attributes:
        text: the first line.
        small: a second line, where there is room for one.
        sort: what its column is sorted by; None for what comes last.
        css: what the cell is, for a style sheet.
    """

    text: str
    small: str = ""
    sort: float | None = None
    css: str = ""


def joined(shown: Shown) -> str:
    """Both lines as one."""
    return listed((shown.text, shown.small), " ") if shown.small else shown.text


@dataclass(frozen=True)
class Line:
    """A group with its result under the section's metric."""

    section: Section
    group: Group
    result: GroupResult


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: in :data:`ORDER`.
        title: what it is called.
        show: what a line shows in it.
        numeric: whether it holds numbers, which stand on the right.
        small: what its second line is called.
        titles: its title by output, where that differs.
        code: whether it shows something that is no word.
    """

    name: str
    title: str
    show: Callable[[Line], Shown]
    numeric: bool = True
    small: str = ""
    titles: Mapping[str, str] = field(default_factory=dict)
    code: bool = False

    def called(self, output: str) -> str:
        """Its title in one output."""
        return self.titles.get(output, self.title)


ORDER = {
    "terminal": ("strategy", *VARYING, "seed count", "mean", "interval", "center", "versus", "p"),
    "markdown": (
        *("strategy", "gate", "mean", "interval", "versus", "p", *VARYING, "k", "seeds"),
        *("center and interval", "more", "tokens", "nonfinite"),
    ),
    "html": (
        *("strategy", *VARYING, "gate", "mean and interval", "versus", "p"),
        *("center and interval", "columns", "k", "seeds", "tokens", "training"),
    ),
    "latex": ("strategy", *VARYING, "mean", "interval", "center", "versus", "p"),
}
# After what is named above: in a terminal and in LaTeX, what the metric puts into the main table.
LAST = {"terminal": "columns", "latex": "columns"}


def columns(report: Report, section: Section, output: str) -> list[Column]:
    """The columns of the main table in one output, in their order."""
    known = {column.name: column for column in all_columns(report, section)}
    names: list[str] = []
    for name in (*ORDER[output], *([LAST[output]] if output in LAST else [])):
        names += _expanded(name, section.metric)
    absent = {name for name in VARYING if name not in section.varying}
    if report.gate is None:
        absent.add("gate")
    if not any(result.group.training_tokens for result in section.groups):
        absent.add("training")
    return [known[name] for name in names if name in known and name not in absent]


def _expanded(name: str, metric: Metric) -> list[str]:
    """Names of aggregates that a place in the order stands for."""
    if name == "columns":
        return list(metric.columns)
    if name == "more":
        return [one.name for one in metric.more if one.name != metric.center]
    return [name]


def lines(section: Section) -> list[Line]:
    """The lines of the main table."""
    return [Line(section, result.group, result) for result in section.groups]


def body(section: Section, shown: Sequence[Column]) -> list[list[Shown]]:
    """What the main table shows, line by line, those of no model last."""
    found = [[column.show(line) for column in shown] for line in lines(section)]
    return found + [
        [_anchored(section, anchor, column) for column in shown] for anchor in section.anchors
    ]


def _anchored(section: Section, anchor: Anchor, column: Column) -> Shown:
    """What a column shows of the floor or the ceiling: its name, and the headline."""
    if column.name == "strategy":
        name = say("{name} (published)", name=anchor.name) if anchor.published else anchor.name
        return Shown(name, css="anchor")
    if column.name in ("mean", "mean and interval"):
        digits = section.metric.headline.digits
        return Shown(number(anchor.value, digits), sort=anchor.value, css="anchor")
    return Shown(NONE, css="anchor")


def all_columns(report: Report, section: Section) -> list[Column]:
    """Every column that a table of results can have."""
    metric, control = section.metric, versus(report, section)
    return [
        Column("strategy", say("strategy"), _strategy, numeric=False),
        *(Column(name, FIELDS[name], _field(name), numeric=False) for name in VARYING),
        Column("gate", say("gate"), _gate, numeric=False),
        Column("k", "k", lambda line: _count(line.group.k)),
        Column("seed count", say("seeds"), _seed_count),
        Column("seeds", say("seeds"), _seeds, numeric=False),
        *_of_means(metric),
        Column(
            "versus",
            say("vs {control}", control=control),
            lambda line: _versus(metric, line.result.comparison),
            small="95 %",
        ),
        Column("p", "p", _p, titles={"latex": "$p$"}),
        *(_aggregate(metric, one.name) for one in metric.more),
        Column("tokens", say("prompt tokens"), _tokens),
        Column("nonfinite", say("not finite"), lambda line: _count(line.result.nonfinite)),
        Column("training", say("training"), _training, small=say("tokens, seconds")),
    ]


def versus(report: Report, section: Section) -> str:
    """What the values of a section are compared with."""
    null = section.metric.null
    return called(report.control) if null is None else f"{null:g}"


def _of_means(metric: Metric) -> list[Column]:
    digits = metric.headline.digits

    def mean(line: Line) -> Shown:
        text = plus_minus(line.result.mean, line.result.std, digits)
        return Shown(text, sort=line.result.mean, css="strong")

    def both(line: Line) -> Shown:
        shown = mean(line)
        return Shown(shown.text, _below(line.result.interval, digits), shown.sort, shown.css)

    title = say("{title} ± std", title=metric.title)
    found = [
        Column("mean", title, mean, titles={"terminal": "mean ± std", "latex": metric.title}),
        Column("mean and interval", title, both, small="95 %"),
        Column(
            "interval",
            "95 %",
            lambda line: Shown(interval(line.result.interval, digits)),
            titles={"latex": "95\\,\\%"},
        ),
    ]
    if metric.center is None:
        return found
    center = metric.aggregate(metric.center)

    def value(line: Line) -> Shown:
        known = line.result.aggregates[center.name].mean
        below = _below(line.result.center_interval, center.digits)
        return Shown(number(known, center.digits), below, known)

    titles = {"html": say("{kind} mean", kind=center.title)}
    return [
        *found,
        Column("center", center.title, lambda line: Shown(value(line).text)),
        Column("center and interval", center.title, value, small="95 %", titles=titles),
    ]


def _below(limits: tuple[float, float] | None, digits: int) -> str:
    return interval(limits, digits)


def _aggregate(metric: Metric, name: str) -> Column:
    one = metric.aggregate(name)

    def show(line: Line) -> Shown:
        known = line.result.aggregates[name].mean
        return Shown(number(known, one.digits), sort=known)

    return Column(name, one.title, show)


def _strategy(line: Line) -> Shown:
    return Shown(line.group.label)


def _field(name: str) -> Callable[[Line], Shown]:
    return lambda line: Shown(line.group.value(name))


def _gate(line: Line) -> Shown:
    return Shown(line.result.verdict or NONE, css=str(line.result.verdict))


def _count(value: int) -> Shown:
    return Shown(str(value), sort=value)


def _seed_count(line: Line) -> Shown:
    group = line.group
    if group.n_seeds < group.n_seeds_planned:
        return Shown(_of(group.n_seeds, group.n_seeds_planned))
    return Shown(str(group.n_seeds) if group.seeds else NONE)


def _seeds(line: Line) -> Shown:
    group = line.group
    text = ", ".join(map(str, group.seeds)) or NONE
    if group.n_seeds < group.n_seeds_planned:
        some = _of(group.n_seeds, group.n_seeds_planned)
        text = say("{seeds} ({some})", seeds=text, some=some)
    return Shown(text, sort=group.n_seeds)


def _of(some: int, every: int) -> str:
    return say("{some} of {every}", some=some, every=every)


def _versus(metric: Metric, found: Comparison | None) -> Shown:
    """A change with its interval; coloured only where chance is ruled out."""
    if found is None:
        return Shown(NONE)
    effect = found.widest
    sure = found.p < ALPHA and not effect.low <= 0 <= effect.high
    worse = metric.worsening * effect.estimate > 0
    told = change(effect, metric).partition(" [")
    css = ("worse" if worse else "better") if sure else ""
    return Shown(told[0], f"[{told[2]}", effect.estimate, css)


def _p(line: Line) -> Shown:
    found = line.result.comparison
    p = found.p if found else None
    return Shown(p_value(p), sort=p)


def _tokens(line: Line) -> Shown:
    tokens = line.group.context_tokens
    return Shown(number(tokens, 0), sort=tokens)


def _training(line: Line) -> Shown:
    tokens, seconds = line.group.training_tokens, line.group.training_seconds
    if tokens is None:
        return Shown(NONE)
    small = "" if seconds is None else f"{number(seconds, 1 if seconds < 100 else 0)} s"
    return Shown(f"{tokens:,}", small, tokens)


# ------------------------------------------------------------------- every cell


@dataclass(frozen=True)
class CellColumn:
    """A column of the table of every cell."""

    title: str
    show: Callable[[CellFacts, CellResult], Shown]
    numeric: bool = True
    small: str = ""
    code: bool = False


def cell_columns(report: Report, section: Section, *, apart: bool) -> list[CellColumn]:
    """The columns of the table of every cell.

    Args:
        report: the report.
        section: whose metric is shown.
        apart: whether an interval has a column of its own, rather than a second line.
    """
    metric = section.metric
    found = [
        CellColumn(say("cell"), lambda cell, _: Shown(cell.id), numeric=False),
        CellColumn("k", lambda cell, _: _count(cell.k)),
        CellColumn(say("select"), lambda cell, _: Shown(cell.select or NONE), numeric=False),
        CellColumn(say("seed"), lambda cell, _: Shown(_seed(cell.seed), sort=cell.seed)),
        CellColumn("n", lambda cell, _: _count(cell.n)),
    ]
    if report.gate is not None and not apart:
        found.insert(1, CellColumn(say("gate"), _cell_gate, numeric=False))
    for one in metric.all:
        found += _cell_aggregate(metric, one.name, apart)
    return [
        *found,
        CellColumn(say("not finite"), lambda _, result: _count(result.nonfinite)),
        CellColumn(say("key"), lambda cell, _: Shown(cell.key[:12]), numeric=False, code=True),
    ]


def _seed(seed: int | None) -> str:
    return NONE if seed is None else str(seed)


def _cell_gate(cell: CellFacts, result: CellResult) -> Shown:
    return Shown(result.verdict or NONE, css=str(result.verdict))


def _cell_aggregate(metric: Metric, name: str, apart: bool) -> list[CellColumn]:
    one, first = metric.aggregate(name), name == metric.headline.name

    def limits(result: CellResult) -> str:
        return interval(result.bounds.mean if first else result.bounds.center, one.digits)

    def show(cell: CellFacts, result: CellResult) -> Shown:
        value = result.aggregates[name]
        small = limits(result) if bounded and not apart else ""
        css = "strong" if first else ""
        return Shown(number(value, one.digits), small, value, css)

    bounded = first or name == metric.center
    title = say("mean") if first and not isinstance(metric, CorpusMetric) else one.title
    below = "95 %" if bounded and not apart else ""
    column = CellColumn(title, show, small=below)
    if not bounded or not apart:
        return [column]
    return [column, CellColumn("95 %", lambda _, result: Shown(limits(result)))]


# ------------------------------------------------------------------- the gate's verdicts


@dataclass(frozen=True)
class VerdictLine:
    """A verdict as the tables of the reports show it."""

    name: str
    status: str
    effect: Shown
    p: Shown
    mean: Shown
    detectable: Shown
    why: str


def verdict_columns(metrics: Sequence[Metric]) -> str:
    """What the column of effects is called."""
    return listed(dict.fromkeys(Words(metric).tested for metric in metrics), " or ")


def verdict_table(gate: Gate, metrics: Sequence[Metric]) -> list[VerdictLine]:
    """The verdicts, the worst first."""
    known = {metric.name: metric for metric in metrics}
    return [_verdict(gate, one, known.get(one.metric, metrics[0])) for one in gate.verdicts]


def _verdict(gate: Gate, verdict: Verdict, metric: Metric) -> VerdictLine:
    seen = verdict.detectable
    if metric.scale == "log":
        detectable = percent_of(seen if seen is not None and seen < float("inf") else None)
    else:
        detectable = NONE if seen is None or seen == float("inf") else Words(metric).size(seen)
    quiet = verdict.status in ("OK", "IMPROVED")
    return VerdictLine(
        name=gate.name_of(verdict),
        status=verdict.status,
        effect=_effect(verdict.effect, metric),
        p=Shown(p_value(verdict.p), sort=verdict.p),
        mean=_effect(verdict.mean_effect, metric),
        detectable=Shown(detectable, sort=seen if seen != float("inf") else None),
        why="" if quiet else verdict.note or verdict.line,
    )


def _effect(effect: Effect | None, metric: Metric) -> Shown:
    return Shown(change(effect, metric), sort=effect.estimate if effect else None)
