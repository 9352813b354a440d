"""The report's pictures and the tables behind them, one set for each model and prompt.

What the pictures show is read from a report's content, whose numbers they do not change; they are
drawn by :mod:`harness.report.figures.charts` and :mod:`harness.report.figures.distribution`.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from harness.report.figures import charts
from harness.report.figures import distribution as strips
from harness.report.figures.series import Content, Member, Set, drawable, finite, sets
from harness.report.formatting import number

Table = dict[str, Any]
Picture = tuple[str, str, Table]  # heading, SVG, table

TRAINED_TOKEN = 3  # what it costs in tokens that are read: forward, and backward twice that
MOST = 12  # groups in a picture of distributions


def pictures(content: Content) -> tuple[dict[str, tuple[str, str]], dict[str, Table]]:
    """Draw what can be drawn.

    Args:
        content: what :func:`harness.report.content.build` returned.

    Returns:
        A figure's name → (heading, SVG to stand inside HTML), and the same names → the data:
        ``headers`` and ``rows``.
    """
    figures, tables = {}, {}
    questions = [row["id"] for row in content["explorer"]["rows"]]
    for found in sets(content):
        drawn = {
            "k": _against_k(found),
            "distribution": _distribution(found),
            "rowwise": _rowwise(found, questions),
            "cost": _cost(found),
        }
        for kind, picture in drawn.items():
            if picture is not None:
                heading, svg, tables[f"{kind}-{found.slug}"] = picture
                figures[f"{kind}-{found.slug}"] = heading, svg
    return figures, tables


def break_even(content: Content) -> list[dict[str, Any]]:
    """After how many queries a training has cost no more tokens than longer prompts would.

    A trained token counts as three that are read. Prices, batches and memory are left out.

    Returns:
        For each trained group and each group with longer prompts: ``label``, ``rival``, ``model``,
        ``prompt``, and ``queries``, the least number at which the training has paid.
    """
    return [
        {"label": label, "rival": rival, "model": found.model, "prompt": found.prompt, "queries": n}
        for found in sets(content)
        for label, rival, n in _break_even(found)
    ]


def _break_even(found: Set) -> list[tuple[str, str, int]]:
    trained = [m for m in found.members if m.group["training_tokens"]]
    rivals = [m for m in found.members if m.group["training_tokens"] is None]
    pairs = [
        (one, other, other.group["context_tokens"] - one.group["context_tokens"])
        for one in trained
        for other in rivals
    ]
    return [
        (one.name, other.name, math.ceil(TRAINED_TOKEN * one.group["training_tokens"] / saved))
        for one, other, saved in pairs
        if saved > 0
    ]


def _against_k(found: Set) -> Picture | None:
    """Mean perplexity by k; only if there is few-shot."""
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
        f"{curve.name}: " + ", ".join(f"{number(mean)} at k = {k}" for k, mean, _ in curve.points)
        for curve in curves
    ]
    words += [f"{level.name}: {number(level.mean)}" for level in levels]
    head = "Mean perplexity by number of demonstrations"
    note = "hollow: single seeds" if any(map(_seeds, shown)) else ""
    caption = found.caption("k", head, note, words)
    numbers = sorted({seed for m in shown for seed in m.seeds if seed is not None})
    table = {
        "headers": ["strategy", "k", "mean perplexity", *(f"seed {seed}" for seed in numbers)],
        "rows": [[m.name, m.k, m.mean, *(m.seeds.get(seed) for seed in numbers)] for m in shown],
    }
    return caption.title, charts.against_k(caption, curves, levels), table


def _seeds(member: Member) -> list[float]:
    return [mean for seed, mean in member.seeds.items() if mean is not None and seed is not None]


QUANTILES = (0.0, 0.05, 0.25, 0.75, 0.95, 1.0)
OF_ROWS = ("lowest", "5 %", "25 %", "75 %", "95 %", "highest")


def _distribution(found: Set) -> Picture | None:
    """Perplexity of single rows, all seeds together."""
    values = {m.name: finite(value for rows in m.rows for value in rows) for m in found.members}
    usable = [m for m in found.members if values[m.name]]
    if not usable:
        return None
    # Where there are too many, the best are shown, and zero-shot.
    ranked = sorted(usable, key=lambda m: (not m.zeroshot, math.inf if m.mean is None else m.mean))
    chosen = {m.name for m in ranked[:MOST]}
    shown = [m for m in usable if m.name in chosen]
    names = ("median_perplexity", "geometric_mean_perplexity", "mean")
    metrics = {m.name: [drawable(m.group[name]) for name in names] for m in shown}
    drawn = [strips.Rows(m.name, values[m.name], *metrics[m.name]) for m in shown]
    words = [
        f"{name}: median {number(median)}, geometric mean {number(geometric)}, "
        f"arithmetic mean {number(mean)}"
        for name, (median, geometric, mean) in metrics.items()
    ]
    rest = [m.name for m in usable if m.name not in chosen]
    words += [f"left out: {', '.join(rest)}"] if rest else []
    gone = sum(sum(map(len, m.rows)) - len(values[m.name]) for m in shown)
    words += [f"{gone} values are not finite and left out"] if gone else []
    caption = found.caption("distribution", "Perplexity of single rows", _seeds_note(shown), words)
    table = {
        "headers": ["strategy", "values", *OF_ROWS, "median", "geometric mean", "arithmetic mean"],
        "rows": [
            [m.name, len(values[m.name]), *_quantiles(values[m.name]), *metrics[m.name]]
            for m in shown
        ],
    }
    return caption.title, strips.distribution(caption, drawn), table


def _seeds_note(members: Sequence[Member]) -> str:
    return "all rows of all seeds" if any(len(m.rows) > 1 for m in members) else "all rows"


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
    """Zero-shot against the best other group, each row's geometric mean over seeds."""
    rivals = [m for m in found.members if m.zeroshot and m.rows]
    others = [m for m in found.members if not m.zeroshot and m.rows and m.mean is not None]
    best = min(others, key=lambda m: m.mean or 0.0, default=None)
    if best is None or not rivals:
        return None
    kind = best.group["quantization"]
    rival = min(rivals, key=lambda m: m.group["quantization"] != kind)
    ids, pairs = [], []
    for name, x, y in zip(questions, _over_seeds(rival), _over_seeds(best), strict=False):
        if x is not None and y is not None:
            ids.append(name)
            pairs.append((x, y))
    if not pairs:
        return None
    better, same = sum(y < x for x, y in pairs), sum(y == x for x, y in pairs)
    middle = statistics.median(y / x for x, y in pairs)
    words = [
        f"{best.name} is better on {better} of {len(pairs)} rows, worse on "
        f"{len(pairs) - better - same}, the same on {same}",
        f"the median of its perplexity as a share of that of {rival.name} is {100 * middle:.3g} %",
    ]
    gone = len(questions) - len(pairs)
    words += [f"{gone} rows are not finite and left out"] if gone else []
    title = f"{best.name} against {rival.name}, row by row"
    caption = found.caption("rowwise", f"Row by row against {rival.name}", "", words, title)
    svg = charts.rowwise(caption, pairs, (rival.name, best.name))
    rows = [[name, x, y, y / x] for name, (x, y) in zip(ids, pairs, strict=True)]
    return caption.title, svg, {"headers": ["row", rival.name, best.name, "ratio"], "rows": rows}


def _over_seeds(member: Member) -> list[float | None]:
    """Each row's geometric mean over seeds, None where a seed's value is not finite."""
    return [_geometric(row) for row in zip(*member.rows, strict=True)]


def _geometric(row: Sequence[float | None]) -> float | None:
    values = finite(row)
    if not values or len(values) < len(row):
        return None
    if min(values) == max(values):  # exactly, so that rows that are the same count as that
        return values[0]
    return math.exp(statistics.fmean(map(math.log, values)))


def _cost(found: Set) -> Picture | None:
    """Mean perplexity against prompt tokens, and when a training pays."""
    shown = [m for m in found.members if m.mean is not None]
    if not shown:
        return None
    lines = Counter(m.line for m in shown if m.k is not None)
    prices, words = [], []
    for m in shown:
        limits = m.group["mean_seeds_interval"] or m.group["mean_interval"] or ()
        limits = finite(limits) if len(finite(limits)) == 2 else None
        name = f"k = {m.k}" if lines[m.line] > 1 else m.name
        training, tokens = _training(m.group), m.group["context_tokens"]
        place = tokens, m.mean or 0.0, limits
        prices.append(charts.Price([name, *training], found.style(m), bool(training), *place))
        said = f" [{number(limits[0])}, {number(limits[1])}]" if limits else ""
        said = f"{m.name}: {tokens:,.4g} prompt tokens, mean {number(m.mean)}{said}"
        words.append(", ".join([said, *training]))
    pays = _break_even(found)
    words += [
        f"from {n:,} queries on {one} has cost no more tokens than {other}"
        for one, other, n in pays
    ]
    joined = [name for name, count in lines.items() if count > 1]
    series = [(name, found.styles[name]) for name in joined]
    head = "Mean perplexity against prompt length"
    note = "bars: 95 % intervals" if any(p.limits for p in prices) else ""
    caption = found.caption("cost", head, note, words)
    trained = list(dict.fromkeys(one for one, *_ in pays))
    after = {(one, other): n for one, other, n in pays}
    table = {
        "headers": [
            "strategy", "prompt tokens per query", "mean perplexity", "95 % from", "to",
            "training tokens", "training seconds",
            *(f"queries until {one} costs less" for one in trained),
        ],
        "rows": [
            [
                m.name, p.tokens, p.mean, *(p.limits or (None, None)),
                m.group["training_tokens"], m.group["training_seconds"],
                *(after.get((one, m.name)) for one in trained),
            ]
            for m, p in zip(shown, prices, strict=True)
        ],
    }  # fmt: skip
    return caption.title, charts.cost(caption, prices, series), table


def _training(group: Mapping[str, Any]) -> list[str]:
    """What a training took, in a line; nothing without one."""
    if not group["training_tokens"]:
        return []
    tokens, seconds = group["training_tokens"], group["training_seconds"]
    took = "" if seconds is None else f", {seconds:,.3g} s"
    return [f"trained: {tokens:,} tokens{took}"]
