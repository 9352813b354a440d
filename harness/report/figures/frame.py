"""What the report's pictures have in common: their frame, looks, and names beside what they name.

A picture is less than six inches wide, so that its text can still be read on a telephone. Names
come from outside: matplotlib draws placeholders, and room is left for about the names' widths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.report.figures.labels import HEIGHT, SIZE, Box, Place, apart, beside, shortened, width
from harness.report.figures.svg import (
    BLUE,
    DASHES,
    GREEN,
    NEUTRAL,
    PURPLE,
    VERMILLION,
    drawable_words,
    figure,
    placeholder,
    scale,
)
from harness.report.language import ENGLISH, Language

WIDE = 5.6
COLORS = (BLUE, VERMILLION, GREEN, PURPLE)
MARKERS = "osD^v"
CONTROL = -1  # the style of what the others are compared with: neutral


@dataclass(frozen=True)
class Caption:
    """What stands around a picture: its name, title, second line and description."""

    slug: str
    title: str
    head: str
    note: str
    description: str
    texts: list[str] = field(default_factory=list)  # from outside, in the picture
    language: Language = ENGLISH

    def picture(self, high: float, draw: Any, wide: float = WIDE) -> str:
        """Draw a picture of so many inches."""
        return figure(
            *(self.slug, self.title, self.note, [self.description], high, draw),
            wide=wide,
            head=self.head,
            texts=self.texts,
            language=self.language,
        )

    def said(self, message: str) -> str:
        """A text of ours in the picture's language."""
        return str(self.language.of(message))

    def words(self, message: str) -> str:
        """The same for matplotlib to draw."""
        return drawable_words(self.said(message), self.texts)

    def write(self, canvas: Any, at: Place, text: str, **look: Any) -> None:
        """Write a text from outside at a place in points, on the middle of its line."""
        x, y = canvas.transFigure.inverted().transform(at)
        look = {"va": "center_baseline", "fontsize": SIZE, **look}
        canvas.text(x, y, placeholder(text, self.texts), **look)


def look(style: int) -> dict[str, Any]:
    """Colour and marker of a strategy: twenty that differ, and zero-shot's."""
    if style == CONTROL:
        return {"color": NEUTRAL, "marker": "o"}
    return {"color": COLORS[style % 4], "marker": MARKERS[style % 5]}


def dash(style: int) -> Any:
    """How a strategy's line is broken."""
    return (0, (2, 1.6)) if style == CONTROL else DASHES[style % 5]


def axes_in(canvas: Any, *, left: float, right: float, bottom: float, top: float) -> Any:
    """Axes with so many points around them."""
    across, up = 72 * canvas.get_figwidth(), 72 * canvas.get_figheight()
    canvas.subplots_adjust(left / across, bottom / up, 1 - right / across, 1 - top / up)
    axes = canvas.subplots()
    axes.tick_params(labelsize=SIZE)
    axes.xaxis.label.set_size(SIZE)
    axes.margins(0.04, 0.1)
    return axes


def fit_left(axes: Any, title: str, more: float = 0) -> None:
    """Room for the numbers beside the axes, and what they are of above these, from the left."""
    low, high = axes.get_ylim()
    words = axes.yaxis.get_major_formatter()
    shown = [words(value) for value in axes.get_yticks() if low <= value <= high]
    left = 14 + more + max(map(width, shown), default=0)
    axes.figure.subplots_adjust(left=left / (72 * axes.figure.get_figwidth()))
    x, y = axes.figure.transFigure.inverted().transform((7, axes.bbox.y1 + 8))
    axes.figure.text(x, y, title, fontsize=SIZE)


def plot(axes: Any, points: Sequence[Place], gid: str, **more: Any) -> None:
    """Draw a line or dots under a name of their own, if there are any."""
    if points:
        axes.plot(*zip(*points, strict=True), gid=gid, **{"clip_on": False, **more})


def path(axes: Any, points: Sequence[Place], gid: str, **more: Any) -> None:
    """Draw a line through places in points."""
    to = axes.figure.transFigure
    line = [tuple(to.inverted().transform(point)) for point in points]
    plot(axes, line, gid, transform=to, **more)


def log_axis(axes: Any, side: str, low: float, high: float) -> None:
    """A logarithmic axis for perplexities from one to another."""
    room = max(1.12, (high / low) ** 0.04)
    axes.set(**{f"{side}scale": "log", f"{side}lim": (low / room, high * room)})
    scale(axes, side, [low / room, high * room], ratio=1)


def linear_axis(axes: Any, side: str, low: float, high: float) -> None:
    """A plain axis from one value to another."""
    room = 0.04 * (high - low) or 0.5
    axes.set(**{f"{side}lim": (low - room, high + room)})
    scale(axes, side, [])


def names_at_right(
    caption: Caption, axes: Any, names: Sequence[str], ends: Sequence[Place], styles: Sequence[int]
) -> None:
    """A name right of the axes for the end of each line, and a thin line to it from there."""
    box = axes.get_window_extent()
    heights = apart([y for _, y in ends], 1.15 * HEIGHT, box.y0 + 3, box.y1 - 3)
    for i, ((x, y), style, to) in enumerate(zip(ends, styles, heights, strict=True)):
        corners = [(x + 5 * (x < box.x1 - 1), y), (box.x1 + 6, y), (box.x1 + 16, to)]
        line = {"color": look(style)["color"], "lw": 0.8}
        path(axes, [*corners, (box.x1 + 21, to)], f"name-{i}", **line)
        caption.write(axes.figure, (box.x1 + 24, to), names[i])


def names_beside(
    caption: Caption, axes: Any, names: Sequence[Sequence[str]], points: Sequence[Place],
    taken: Sequence[Box],
) -> None:  # fmt: skip
    """A name of one or more lines near each point, clear of what is taken and each other."""
    box = axes.get_window_extent()
    labels = [[shortened(line, 190) for line in lines] for lines in names]
    sizes = [(max(map(width, lines)), HEIGHT * len(lines)) for lines in labels]
    room = (box.x0 + 2, box.y0 + 2, box.x1 + 10, box.y1 + 6)
    boxes = beside(points, sizes, taken, room)
    for i, ((x, y), (left, bottom, right, top)) in enumerate(zip(points, boxes, strict=True)):
        near = min(max(x, left), right), min(max(y, bottom), top)
        far = math.dist((x, y), near)
        if far > 12:
            start = x + 6 * (near[0] - x) / far, y + 6 * (near[1] - y) / far
            path(axes, [start, near], f"name-{i}", color=NEUTRAL, lw=0.6, alpha=0.6)
        side = "left" if left >= x else "right" if right <= x else "center"
        at = {"left": left, "right": right, "center": (left + right) / 2}[side]
        for line, text in enumerate(labels[i]):
            caption.write(axes.figure, (at, top - HEIGHT * (line + 0.5)), text, ha=side)


def in_lines(names: Sequence[str]) -> list[tuple[str, int, float]]:
    """Names for a key, each with its line and where it begins; as many lines as it takes."""
    found, line, x = [], 0, 14.0
    for name in names:
        text = shortened(name, 72 * WIDE - 46)
        if x > 14 and x + width(text) + 18 > 72 * WIDE:
            line, x = line + 1, 14.0
        found.append((text, line, x))
        x += width(text) + 26
    return found


def key(
    caption: Caption, axes: Any, places: Sequence[tuple[str, int, float]], styles: Sequence[int]
) -> None:
    """Above the axes the names of lines, from below the second line of the caption."""
    top = 72 * axes.figure.get_figheight() - 45
    for i, ((text, line, x), style) in enumerate(zip(places, styles, strict=True)):
        y = top - 16 * line
        path(axes, [(x, y)], f"key-{i}", **look(style), ms=6, ls="")
        caption.write(axes.figure, (x + 8, y), text)
