"""The report's picture of single rows: how perplexity is distributed within each group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.report.figures.frame import WIDE, Caption, axes_in, log_axis, plot
from harness.report.figures.labels import SIZE, shortened, width
from harness.report.figures.svg import BLUE, GREEN, NEUTRAL, VERMILLION
from harness.report.formatting import number

PITCH = 36.0  # points from strip to strip
MEANS: Sequence[dict[str, Any]] = (
    {"label": "median", "marker": "|", "ms": 11, "mew": 2, "color": NEUTRAL, "ls": ""},
    {"label": "geometric mean", "marker": "D", "ms": 5.5, "color": GREEN, "ls": "", "mew": 0},
    {"label": "arithmetic mean", "marker": "o", "ms": 7, "color": VERMILLION, "ls": "", "mew": 0},
)


@dataclass(frozen=True)
class Rows:
    """A group's perplexities, of all rows and seeds, and its metrics as they are reported."""

    name: str
    values: Sequence[float]
    median: float | None
    geometric: float | None
    mean: float | None


def distribution(caption: Caption, groups: Sequence[Rows]) -> str:
    """One strip per group: density, all values as ticks, quartiles and three kinds of mean."""
    names = [shortened(rows.name, 168) for rows in groups]
    under = [_pull(rows) for rows in groups]
    top, bottom, end = 60, 34, 72 * WIDE - 14
    left = 18 + max(*map(width, names), *(width(text, SIZE - 1.5) for text in under))
    high = PITCH * len(groups) + top + bottom

    def draw(canvas: Any) -> None:
        axes = axes_in(canvas, left=left, right=14, bottom=bottom, top=top)
        axes.set(ylim=(PITCH * (len(groups) - 0.7), -0.7 * PITCH), yticks=[])
        axes.set_xlabel("perplexity of a row (thick: half of the rows, thin: 90 %)", loc="right")
        axes.grid(visible=True, axis="x")
        every = [value for rows in groups for value in rows.values]
        log_axis(axes, "x", min(every), max(every))
        for i, rows in enumerate(groups):
            _strip(axes, i, PITCH * i, rows)
            y = high - top - PITCH * (i + 0.7)
            caption.write(canvas, (7, y + 4 * bool(under[i])), names[i])
            caption.write(canvas, (7, y - 8), under[i], fontsize=SIZE - 1.5, alpha=0.8)
        keys = [axes.plot([], [], **mean)[0] for mean in MEANS]
        at = canvas.transFigure.inverted().transform((end, high - 37))
        canvas.legend(keys, [mean["label"] for mean in MEANS], loc="upper right", ncols=3,
                      bbox_to_anchor=at, fontsize=SIZE, handletextpad=0.2)  # fmt: skip

    return caption.picture(high / 72, draw)


def _pull(rows: Rows) -> str:
    """How far the tail pulls the arithmetic mean."""
    if not rows.mean or not rows.geometric:
        return ""
    return f"{number(rows.mean)} = {number(rows.mean / rows.geometric)} × geometric"


def _strip(axes: Any, i: int, y: float, rows: Rows) -> None:
    """One group at the height y: density upwards, quartiles on it, ticks of its rows below."""
    from matplotlib.colors import to_rgba
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    logs = np.log(np.sort(np.array(rows.values, dtype=float)))
    xs, heights = _density(logs)
    top = y - 0.5 * PITCH * heights / max(float(heights.max()), 1e-300)
    outline = Path([*zip(np.exp(xs), top, strict=True)])
    outline.should_simplify = False
    look_ = {"fc": to_rgba(BLUE, 0.3), "ec": BLUE, "lw": 0.9, "gid": f"density-{i}"}
    axes.add_patch(PathPatch(outline, **look_))
    # Ticks that fall on the same point are one tick.
    places = axes.transData.transform([(value, y) for value in np.exp(logs)])[:, 0]
    values = np.exp(logs)[np.unique(np.round(places), return_index=True)[1]]
    ends = [(value, y + PITCH * share) for value in values for share in (0.08, 0.19)]
    ticks = Path(ends, [Path.MOVETO, Path.LINETO] * len(values))
    ticks.should_simplify = False
    axes.add_patch(PathPatch(ticks, ec=BLUE, lw=0.7, alpha=0.8, fill=False, gid=f"rows-{i}"))
    low, first, third, high = np.exp(np.quantile(logs, (0.05, 0.25, 0.75, 0.95)))
    plot(axes, [(low, y), (high, y)], f"most-{i}", color=NEUTRAL, lw=0.9)
    plot(axes, [(first, y), (third, y)], f"half-{i}", color=NEUTRAL, lw=3, alpha=0.45)
    if rows.mean and rows.geometric:
        pull = [(rows.geometric, y), (rows.mean, y)]
        plot(axes, pull, f"pull-{i}", color=VERMILLION, lw=2, solid_capstyle="butt")
    for value, mean in zip((rows.median, rows.geometric, rows.mean), MEANS, strict=True):
        if value is not None:
            plot(axes, [(value, y)], f"{mean['label'].replace(' ', '-')}-{i}", **mean)


def _density(logs: Any) -> tuple[Any, Any]:
    """A Gaussian kernel's density, with Silverman's bandwidth."""
    std = float(np.std(logs))
    middle = float(np.subtract(*np.quantile(logs, (0.75, 0.25)))) / 1.34
    band = 0.9 * (min(std, middle) or std or 0.02) * len(logs) ** -0.2
    xs = np.linspace(logs[0] - band, logs[-1] + band, 90)
    return xs, np.exp(-0.5 * ((xs[:, None] - logs) / band) ** 2).sum(1)
