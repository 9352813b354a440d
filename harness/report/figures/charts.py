"""The report's pictures of groups as points: against k, row by row, and what they cost.

They take plain numbers and names from outside, and know nothing of a report's content.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from harness.messages import listed, say
from harness.metrics.base import Metric
from harness.report.figures.frame import (
    Caption,
    axes_in,
    dash,
    fit_left,
    in_lines,
    key,
    linear_axis,
    log_axis,
    look,
    names_at_right,
    names_beside,
    plot,
)
from harness.report.figures.kept import drawn_once
from harness.report.figures.labels import SIZE, Box, Place, shortened, width
from harness.report.figures.svg import BLUE, NEUTRAL, VERMILLION, scale
from harness.report.formatting import number

RATIO = 5  # values that span more than this stand on a logarithmic axis
FAINT = 0.55
DOTS = 2_000  # in a picture of rows


@dataclass(frozen=True)
class Curve:
    """A strategy over its numbers of demonstrations: (k, mean, the seeds' means)."""

    name: str
    style: int
    points: Sequence[tuple[int, float, Sequence[float]]]


@dataclass(frozen=True)
class Level:
    """A strategy without demonstrations."""

    name: str
    style: int
    mean: float
    seeds: Sequence[float]


@dataclass(frozen=True)
class Price:
    """A group's prompt tokens and its headline with its limits."""

    names: Sequence[str]  # one line each
    style: int
    trained: bool
    tokens: float
    mean: float
    limits: Sequence[float] | None


@drawn_once
def against_k(
    caption: Caption, title: str, curves: Sequence[Curve], levels: Sequence[Level]
) -> str:
    """Every seed a dot, the mean a line; what has no k is a level across."""
    ones = [*(c for c in curves if len(c.points) == 1)]
    names = [c.name + f"  {number(c.points[0][1])}" * (c in ones) for c in curves]
    names = [shortened(name, 165) for name in (*names, *map(_named, levels))]
    values = [y for c in curves for _, mean, seeds in c.points for y in (mean, *seeds)]
    values += [y for level in levels for y in (level.mean, *level.seeds)]
    ks = sorted({k for curve in curves for k, *_ in curve.points})

    def draw(canvas: Any) -> None:
        axes = axes_in(canvas, left=38, right=32 + max(map(width, names)), bottom=36, top=56)
        axes.set(xlabel=caption.words(say("demonstrations in the prompt (k)")))
        axes.update_datalim([(ks[0], y) for y in values])
        scale(axes, "y", values, ratio=RATIO)
        axes.autoscale_view(scalex=False)
        fit_left(axes, caption.words(title))
        _across(axes, ks)
        ends = [
            _curve(axes, i, curve, shift=3.6 * (i - (len(curves) - 1) / 2))
            for i, curve in enumerate(curves)
        ]
        for i, level in enumerate(levels, len(curves)):
            _level(axes, i, level)
            ends.append((axes.bbox.x1, axes.transData.transform((ks[0], level.mean))[1]))
        styles = [c.style for c in curves] + [level.style for level in levels]
        names_at_right(caption, axes, names, ends, styles)

    return caption.picture(3.5, draw)


def _curve(axes: Any, i: int, curve: Curve, shift: float) -> Place:
    """Draw one, so many points beside its place; return where it ends."""
    from matplotlib.transforms import ScaledTranslation

    aside = ScaledTranslation(shift / 72, 0, axes.figure.dpi_scale_trans)
    more = {**look(curve.style), "transform": axes.transData + aside}
    dots = [(float(k), y) for k, _, seeds in curve.points for y in seeds]
    plot(axes, dots, f"seeds-{i}", **more, ls="", ms=3.6, mfc="none", mew=0.8)
    means = [(float(k), mean) for k, mean, _ in curve.points]
    plot(axes, means, f"curve-{i}", **more, ls=dash(curve.style), lw=1.7, ms=5.5)
    x, y = axes.transData.transform(means[-1])
    return x + shift, y


def _level(axes: Any, i: int, level: Level) -> None:
    """Draw one from side to side, its seeds at the right."""
    style, across = look(level.style), {"transform": axes.get_yaxis_transform()}
    ends, dots = [(0.0, level.mean), (1.0, level.mean)], [(1.0, y) for y in level.seeds]
    plot(axes, ends, f"level-{i}", color=style["color"], lw=1.4, ls=dash(level.style), **across)
    plot(axes, dots, f"seeds-{i}", **style, ls="", ms=4, mfc="none", mew=0.8, **across)


def rows_per_dot(rows: int) -> int:
    """How many of so many rows one dot stands for: a browser takes a second for 20,000 dots."""
    return max(1, -(-rows // DOTS))


@drawn_once
def rowwise(
    caption: Caption, metric: Metric, pairs: Sequence[Place], names: tuple[str, str]
) -> str:
    """Row by row, one group against another: on the diagonal both are the same."""
    sign = metric.worsening
    good = [(x, y) for x, y in pairs if sign * y < sign * x]
    bad = [(x, y) for x, y in pairs if sign * y >= sign * x]
    same = sum(x == y for x, y in pairs)
    low, high = min(map(min, pairs)), max(map(max, pairs))

    def draw(canvas: Any) -> None:
        axes = axes_in(canvas, left=48, right=16, bottom=36, top=56)
        for side in "xy":
            (log_axis if metric.scale == "log" else linear_axis)(axes, side, low, high)
        fit_left(axes, "")
        x, y = ((axes.bbox.x0 + axes.bbox.x1) / 2, 9), (7, axes.bbox.y1 + 11)
        for name, at, side in zip(names, (x, y), ("center", "left"), strict=True):
            said = caption.said(say("{noun} of a row, {name}", noun=metric.noun, name=name))
            text = shortened(said, 290)
            caption.write(canvas, at, text, ha=side)
        axes.grid(visible=True, axis="both")
        ends = axes.get_xlim()
        plot(axes, list(zip(ends, ends, strict=True)), "same", color=NEUTRAL, lw=1, alpha=0.7)
        dot = {"marker": "o", "ls": "", "ms": 4.2, "mew": 0.8}
        every = rows_per_dot(len(pairs))
        plot(axes, bad[::every], "worse", **dot, color=VERMILLION, mfc="none")
        plot(axes, good[::every], "better", **dot, color=BLUE, alpha=0.75)
        place = {"transform": axes.transAxes, "fontsize": SIZE}
        n, every_row = f"{len(good):,}", f"{len(pairs):,}"
        better = caption.words(say("better on {n} of {rows} rows", n=n, rows=every_row))
        worse = caption.words(_worse(len(bad) - same, same))
        under, over = (better, worse) if sign > 0 else (worse, better)
        axes.text(0.98, 0.03, under, ha="right", **place)
        axes.text(0.02, 0.95, over, **place)

    return caption.picture(4.6, draw, wide=4.6)


def _worse(worse: int, same: int) -> str:
    told = say("worse on {n}", n=f"{worse:,}")
    alike = say("the same on {n}", n=f"{same:,}")
    return listed((told, alike)) if same else told


@drawn_once
def cost(
    caption: Caption,
    title: str,
    prices: Sequence[Price],
    series: Sequence[tuple[str, int]],
    published: Sequence[tuple[str, float]] = (),
) -> str:
    """The headline with its interval against the prompt tokens that a query costs.

    Args:
        caption: what stands around it.
        title: what the headline is called.
        prices: the groups.
        series: name and style of those that are joined by a line.
        published: names and values of what was measured elsewhere, which are lines across.
    """
    ys = [y for p in prices for y in (p.mean, *(p.limits or ()))]
    ys += [value for _, value in published]
    xs = [p.tokens for p in prices]
    names = in_lines([name for name, _ in series])
    top = 58 + 16 * (names[-1][1] + 1 if names else 0)

    def draw(canvas: Any) -> None:
        axes = axes_in(canvas, left=38, right=16, bottom=36, top=top)
        axes.set(xlabel=caption.words(say("prompt tokens per query")))
        axes.update_datalim([(x, y) for x in xs for y in ys])
        scale(axes, "y", ys, ratio=RATIO)
        scale(axes, "x", xs, ratio=8 * RATIO)
        axes.autoscale_view()
        if axes.get_xscale() == "linear":
            axes.set_xlim(0, 1.1 * max(xs) or 1)
        fit_left(axes, caption.words(title))
        taken: list[Box] = _published(caption, axes, published)
        for i, (_, style) in enumerate(series):
            line = sorted((p.tokens, p.mean) for p in prices if p.style == style)
            plot(axes, line, f"series-{i}", color=look(style)["color"], lw=1, alpha=FAINT)
            taken += _along(axes.transData.transform(line).tolist())
        points = [tuple(axes.transData.transform((p.tokens, p.mean)).tolist()) for p in prices]
        for i, (price, point) in enumerate(zip(prices, points, strict=True)):
            taken += _price(axes, i, price, point)
        names_beside(caption, axes, [price.names for price in prices], points, taken)
        key(caption, axes, names, [style for _, style in series])

    return caption.picture(3.1 + top / 72, draw)


def _published(caption: Caption, axes: Any, levels: Sequence[tuple[str, float]]) -> list[Box]:
    """Draw lines across with their names at the right; return the room that these take."""
    found: list[Box] = []
    for i, (name, value) in enumerate(levels):
        line = {"color": NEUTRAL, "lw": 1, "ls": (0, (4, 3)), "alpha": 0.8}
        across = {"transform": axes.get_yaxis_transform()}
        plot(axes, [(0.0, value), (1.0, value)], f"published-{i}", **line, **across)
        text = shortened(f"{name}  {number(value)}", 190)
        x, y = axes.bbox.x1, axes.transData.transform((0, value))[1] + SIZE / 2 + 2
        caption.write(axes.figure, (x, y), text, ha="right")
        found.append((x - width(text), y - SIZE, x, y + SIZE / 2))
    return found


def _price(axes: Any, i: int, price: Price, point: Place) -> list[Box]:
    """Draw one with its interval; return the room that they take."""
    more = {**look(price.style), "ms": 6}
    bar = [(price.tokens, end) for end in price.limits or ()]
    plot(axes, bar, f"interval-{i}", color=more["color"], lw=1.3)
    more |= {"marker": "*", "ms": 12} if price.trained else {}
    plot(axes, [(price.tokens, price.mean)], f"group-{i}", **more, ls="")
    (x, y), half = point, 8 if price.trained else 5
    taken = [(x - half, y - half, x + half, y + half)]
    if bar:
        low, high = axes.transData.transform(bar)[:, 1].tolist()
        taken.append((x - 3, low, x + 3, high))
    return taken


def _named(level: Level) -> str:
    return f"{level.name}  {number(level.mean)}"


def _along(corners: Sequence[Sequence[float]]) -> list[Box]:
    """Small boxes on a line, so that no name is written across it."""
    found = []
    for (a, b), (c, d) in pairwise(corners):
        steps = max(2, int(math.dist((a, b), (c, d)) / 6))
        for step in range(1, steps):
            x, y = a + (c - a) * step / steps, b + (d - b) * step / steps
            found.append((x - 1, y - 1, x + 1, y + 1))
    return found


def _across(axes: Any, ks: Sequence[int]) -> None:
    """Ticks at the numbers of demonstrations there are, as far as they can be told apart."""
    low, high = ks[0], ks[-1]
    if high > 10 * low:
        axes.set_xscale("log", base=2)
        room = (high / low) ** 0.06
        axes.set_xlim(low / room, high * room)
    else:
        room = 0.06 * (high - low) or 0.5
        axes.set_xlim(low - room, high + room)
    shown: list[int] = []
    last = -math.inf
    for k in ks:
        x = axes.transData.transform((k, 1))[0]
        if x - last >= width(f"{k:,}") + 8:
            shown, last = [*shown, k], x
    axes.set_xticks(shown, [f"{k:,}" for k in shown])
    axes.minorticks_off()
