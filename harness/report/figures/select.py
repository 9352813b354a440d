"""The report's pictures and the numbers behind them, one set for each metric, model and prompt.

What the pictures show is read from a report, whose numbers they do not change; they are drawn by
:mod:`harness.report.figures.charts` and :mod:`harness.report.figures.distribution`.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence

from harness.messages import capitalized, listed, say
from harness.report.conclusions import BreakEven
from harness.report.figures import charts, distribution
from harness.report.figures.nouns import Table, Value
from harness.report.figures.series import Member, Set, drawable, finite, sets
from harness.report.formatting import number
from harness.report.language import ENGLISH, Language
from harness.report.nouns import Group, Number, Report

Picture = tuple[str, str, Table]  # heading, SVG, numbers
Figures = dict[str, tuple[str, str]]  # name → (heading, SVG to stand inside HTML)

TRAINED_TOKEN = 3  # what it costs in tokens that are read: forward, and backward twice that
MOST = 12  # groups in a picture of distributions


def pictures(report: Report, language: Language = ENGLISH) -> tuple[Figures, dict[str, Table]]:
    """Draw what can be drawn.

    Args:
        report: what it says.
        language: what the pictures say.

    Returns:
        The figures, and under the same names the numbers behind them.
    """
    figures: Figures = {}
    tables: dict[str, Table] = {}
    questions = [row.id for row in report.explorer.rows]
    for section in report.sections:
        if not section.metric.pictured:
            continue
        levels = [
            (one.name, one.value)
            for one in section.anchors
            if one.published and one.value is not None
        ]
        for found in sets(report, section, language):
            first = section is report.headline  # the others' stand folded, and cost as much
            drawn = {
                "k": _against_k(found),
                "distribution": _distribution(found) if first else None,
                "rowwise": _rowwise(found, questions),
                "cost": _cost(found, levels) if first else None,
            }
            for kind, picture in drawn.items():
                if picture is not None:
                    heading, svg, tables[f"{kind}-{found.slug}"] = picture
                    figures[f"{kind}-{found.slug}"] = heading, svg
    return figures, tables


def break_even(report: Report) -> list[BreakEven]:
    """After how many queries a training run has cost no more tokens than longer prompts would.

    A trained token counts as three that are read. Prices, batches and memory are left out.

    Returns:
        One for each trained group and each group with longer prompts.
    """
    return [
        BreakEven(label, other, found.model, found.prompt, found.decoding, queries)
        for found in sets(report, report.headline)
        for label, other, queries in _break_even(found)
    ]


def _break_even(found: Set) -> list[tuple[str, str, int]]:
    trained = [m for m in found.members if m.group.training_tokens]
    others = [m for m in found.members if m.group.training_tokens is None]
    pairs = [
        (one, other, other.group.context_tokens - one.group.context_tokens)
        for one in trained
        for other in others
    ]
    return [
        (
            one.name,
            other.name,
            math.ceil(TRAINED_TOKEN * (one.group.training_tokens or 0) / saved),
        )
        for one, other, saved in pairs
        if saved > 0
    ]


def _against_k(found: Set) -> Picture | None:
    """The headline by k; only if there is few-shot."""
    title = found.metric.title
    shown = [m for m in found.members if m.mean is not None]
    by_line: dict[str, list[Member]] = {}
    for member in shown:
        if member.k is not None:
            by_line.setdefault(member.line, []).append(member)
    if not by_line:
        return None
    curves = [
        charts.Curve(
            name,
            found.style(members[0]),
            sorted((m.k or 0, m.mean or 0.0, _seeds(m)) for m in members),
        )
        for name, members in by_line.items()
    ]
    levels = [
        charts.Level(m.name, found.style(m), m.mean or 0.0, _seeds(m)) for m in shown if m.k is None
    ]
    words = [
        _told(curve.name, listed(_at(k, mean) for k, mean, _ in curve.points)) for curve in curves
    ]
    words += [_told(level.name, number(level.mean)) for level in levels]
    head = say("{title} by number of demonstrations", title=capitalized(title))
    note = say("hollow: single seeds") if any(map(_seeds, shown)) else ""
    caption = found.caption("k", head, note, words)
    numbers = sorted({seed for m in shown for seed in m.seeds if seed is not None})
    table = Table(
        [say("strategy"), "k", title, *(say("seed {seed}", seed=seed) for seed in numbers)],
        [[m.name, m.k, m.mean, *(m.seeds.get(seed) for seed in numbers)] for m in shown],
    )
    return caption.title, charts.against_k(caption, title, curves, levels), table


def _told(name: str, what: str) -> str:
    return say("{name}: {what}", name=name, what=what)


def _at(k: int, mean: float) -> str:
    return say("{value} at k = {k}", value=number(mean), k=k)


def _seeds(member: Member) -> list[float]:
    return [mean for seed, mean in member.seeds.items() if mean is not None and seed is not None]


QUANTILES = (0.0, 0.05, 0.25, 0.75, 0.95, 1.0)
OF_ROWS = (say("lowest"), "5 %", "25 %", "75 %", "95 %", say("highest"))


def _distribution(found: Set) -> Picture | None:
    """What is shown of single rows, all seeds together."""
    metric = found.metric
    values = {
        m.name: finite(metric, (value for rows in m.rows for value in rows)) for m in found.members
    }
    usable = [m for m in found.members if values[m.name]]
    if not usable:
        return None
    shown = _best(usable)
    means = {m.name: _means(m, values[m.name]) for m in shown}
    drawn = [distribution.Rows(m.name, values[m.name], means[m.name]) for m in shown]
    words = [
        _told(name, listed(listed((kind, number(value)), " ") for kind, value in of_one.items()))
        for name, of_one in means.items()
    ]
    rest = [m.name for m in usable if m not in shown]
    words += [say("left out: {names}", names=", ".join(rest))] if rest else []
    gone = sum(sum(map(len, m.rows)) - len(values[m.name]) for m in shown)
    words += [say("{n} values are not finite and left out", n=gone)] if gone else []
    head = say("{noun} of single rows", noun=capitalized(metric.noun))
    caption = found.caption("distribution", head, _seeds_note(shown), words)
    kinds = list(means[shown[0].name])
    table = Table(
        [say("strategy"), say("values"), *OF_ROWS, *kinds],
        [
            [m.name, len(values[m.name]), *_quantiles(values[m.name]), *means[m.name].values()]
            for m in shown
        ],
    )
    log = metric.scale == "log"
    return caption.title, distribution.draw(caption, metric.noun, drawn, log=log), table


def _best(members: Sequence[Member]) -> list[Member]:
    """All in their order; where there are too many to show, the best of them and the control."""

    def rank(member: Member) -> tuple[bool, float]:
        mean = math.inf if member.mean is None else member.metric.worsening * member.mean
        return not member.control, mean

    names = {member.name for member in sorted(members, key=rank)[:MOST]}
    return [member for member in members if member.name in names]


def _means(member: Member, values: Sequence[float]) -> dict[str, Number]:
    """The middles of a group's rows: as they are reported, or of the rows themselves."""
    metric, known = member.metric, member.result.aggregates

    def of(name: str) -> Number:
        return drawable(metric, known[name].mean)

    if metric.center is None:
        return {say("median"): statistics.median(values), say("arithmetic mean"): member.mean}
    median = next((one.name for one in metric.more if one.title == "median"), None)
    return {
        say("median"): of(median) if median else statistics.median(values),
        say("geometric mean"): of(metric.center),
        say("arithmetic mean"): member.mean,
    }


def _seeds_note(members: Sequence[Member]) -> str:
    if any(len(m.rows) > 1 for m in members):
        return say("all rows of all seeds")
    return say("all rows")


def _quantiles(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    found = []
    for share in QUANTILES:
        place = share * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        found.append(ordered[low] + (place - low) * (ordered[high] - ordered[low]))
    return found


def _rowwise(found: Set, questions: Sequence[str]) -> Picture | None:
    """The control against the best other group, each row's mean over seeds."""
    metric = found.metric
    controls = [m for m in found.members if m.control and m.rows]
    others = [m for m in found.members if not m.control and m.rows and m.mean is not None]
    best = min(others, key=lambda m: metric.worsening * (m.mean or 0.0), default=None)
    if best is None or not controls:
        return None
    kind = best.group.quantization
    control = min(controls, key=lambda m: m.group.quantization != kind)
    ids, pairs = [], []
    for name, x, y in zip(questions, _over_seeds(control), _over_seeds(best), strict=False):
        if x is not None and y is not None:
            ids.append(name)
            pairs.append((x, y))
    if not pairs:
        return None
    words = _rowwise_words(found, best, control, pairs)
    gone = len(questions) - len(pairs)
    words += [say("{n} rows are not finite and left out", n=gone)] if gone else []
    title = say("{best} against {control}, row by row", best=best.name, control=control.name)
    every = charts.rows_per_dot(len(pairs))
    note = say("a dot for every {n} rows", n=every) if every > 1 else ""
    head = say("Row by row against {control}", control=control.name)
    caption = found.caption("rowwise", head, note, words, title)
    names = (control.name, best.name)
    svg = charts.rowwise(caption, metric, pairs, names)
    how = say("ratio") if metric.scale == "log" else say("difference")
    rows: list[list[Value]] = [
        [name, x, y, y / x if metric.scale == "log" else y - x]
        for name, (x, y) in zip(ids, pairs, strict=True)
    ]
    return caption.title, svg, Table([say("row"), *names, how], rows)


def _rowwise_words(
    found: Set, best: Member, control: Member, pairs: Sequence[tuple[float, float]]
) -> list[str]:
    metric = found.metric
    better = sum(metric.worsening * y < metric.worsening * x for x, y in pairs)
    same = sum(y == x for x, y in pairs)
    first = say(
        "{name} is better on {better} of {rows} rows, worse on {worse}, the same on {same}",
        name=best.name,
        better=better,
        rows=len(pairs),
        worse=len(pairs) - better - same,
        same=same,
    )
    if metric.scale == "log":
        middle = statistics.median(y / x for x, y in pairs)
        second = say(
            "the median of its {noun} as a share of that of {control} is {share}",
            noun=metric.noun,
            control=control.name,
            share=f"{100 * middle:.3g} %",
        )
    else:
        middle = statistics.median(y - x for x, y in pairs)
        second = say("the median of the differences is {value}", value=f"{middle:.3g}")
    return [first, second]


def _over_seeds(member: Member) -> list[Number]:
    """Each row's mean over seeds, None where a seed's value is not finite."""
    return [_mean(member, row) for row in zip(*member.rows, strict=True)]


def _mean(member: Member, row: Sequence[Number]) -> Number:
    """On a log scale the geometric mean."""
    values = finite(member.metric, row)
    if not values or len(values) < len(row):
        return None
    if min(values) == max(values):  # exactly, so that rows that are the same count as that
        return values[0]
    if member.metric.scale == "linear":
        return statistics.fmean(values)
    return math.exp(statistics.fmean(map(math.log, values)))


def _cost(found: Set, published: Sequence[tuple[str, float]]) -> Picture | None:
    """The headline against prompt tokens, and when a training run pays.

    Args:
        found: the groups.
        published: names and values of what was measured elsewhere.
    """
    title = found.metric.title
    shown = [m for m in found.members if m.mean is not None]
    if not shown:
        return None
    counts = Counter(m.line for m in shown if m.k is not None)
    prices = [_price(found, m, joined=counts[m.line] > 1) for m in shown]
    words = [_price_words(m, price) for m, price in zip(shown, prices, strict=True)]
    pays = _break_even(found)
    words += [
        say(
            "from {n} queries on {one} has cost no more tokens than {other}",
            n=f"{n:,}",
            one=one,
            other=other,
        )
        for one, other, n in pays
    ]
    joined = [name for name, count in counts.items() if count > 1]
    series = [(name, found.styles[name]) for name in joined]
    note = say("bars: 95 % intervals") if any(p.limits for p in prices) else ""
    words += [
        say("published: {name} {value}", name=name, value=number(value))
        for name, value in published
    ]
    head = say("{title} against prompt length", title=capitalized(title))
    caption = found.caption("cost", head, note, words)
    table = _cost_table(title, shown, prices, pays)
    return caption.title, charts.cost(caption, title, prices, series, published), table


def _price(found: Set, m: Member, *, joined: bool) -> charts.Price:
    interval = finite(m.metric, m.result.interval or ())
    training = [found.language.of(line) for line in _training(m.group)]
    return charts.Price(
        [f"k = {m.k}" if joined else m.name, *training],
        found.style(m),
        bool(training),
        m.group.context_tokens,
        m.mean or 0.0,
        interval if len(interval) == 2 else None,
    )


def _price_words(m: Member, price: charts.Price) -> str:
    mean = number(m.mean)
    if price.limits:
        mean += f" [{number(price.limits[0])}, {number(price.limits[1])}]"
    said = say(
        "{name}: {tokens} prompt tokens, mean {mean}",
        name=m.name,
        tokens=f"{price.tokens:,.4g}",
        mean=mean,
    )
    return listed([said, *_training(m.group)])


def _cost_table(
    title: str,
    shown: Sequence[Member],
    prices: Sequence[charts.Price],
    pays: Sequence[tuple[str, str, int]],
) -> Table:
    trained = list(dict.fromkeys(one for one, *_ in pays))
    after = {(one, other): n for one, other, n in pays}
    headers: list[str] = [say("strategy"), say("prompt tokens per query"), title]
    headers += [say("95 % from"), say("to"), say("training tokens"), say("training seconds")]
    return Table(
        [*headers, *(say("queries until {name} costs less", name=one) for one in trained)],
        [
            [
                *(m.name, p.tokens, p.mean, *(p.limits or (None, None))),
                *(m.group.training_tokens, m.group.training_seconds),
                *(after.get((one, m.name)) for one in trained),
            ]
            for m, p in zip(shown, prices, strict=True)
        ],
    )


def _training(group: Group) -> list[str]:
    """What a training run took, in a line; nothing without one."""
    if not group.training_tokens:
        return []
    tokens, seconds = group.training_tokens, group.training_seconds
    said = say("trained: {n} tokens", n=f"{tokens:,}")
    return [said if seconds is None else listed((said, f"{seconds:,.3g} s"))]
