"""The report's picture of single rows: how its metric is distributed within each group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.messages import say
from harness.report.figures.frame import WIDE, Caption, axes_in, linear_axis, log_axis, plot
from harness.report.figures.kept import drawn_once
from harness.report.figures.labels import SIZE, shortened, width
from harness.report.figures.svg import BLUE, GREEN, NEUTRAL, VERMILLION
from harness.report.formatting import number

PITCH = 36.0  # points from strip to strip
MEANS: Sequence[dict[str, Any]] = (
    {"label": say("median"), "marker": "|", "ms": 11, "mew": 2, "color": NEUTRAL, "ls": ""},
    {"label": say("geometric mean"), "marker": "D", "ms": 5.5, "color": GREEN, "ls": "", "mew": 0},
    {
        "label": say("arithmetic mean"),
        "marker": "o",
        "ms": 7,
        "color": VERMILLION,
        "ls": "",
        "mew": 0,
    },
)


@dataclass(frozen=True)
class Rows:
    """What is shown of a group's rows, of all seeds, and its middles by what they are called."""

    name: str
    values: Sequence[float]
    means: Mapping[str, float | None]

    @property
    def pull(self) -> tuple[float, float] | None:
        """Geometric and arithmetic mean, where there are both."""
        geometric, mean = self.means.get("geometric mean"), self.means.get("arithmetic mean")
        return (geometric, mean) if geometric and mean else None


@drawn_once
def draw(caption: Caption, noun: str, groups: Sequence[Rows], *, log: bool) -> str:
    """One strip per group: density, all values as ticks, quartiles and kinds of mean.

    Args:
        caption: what stands around it.
        noun: what one row has.
        groups: from top to bottom.
        log: whether the axis is logarithmic.
    """
    names = [shortened(rows.name, 168) for rows in groups]
    under = [caption.said(_pull(rows)) for rows in groups]
    top, bottom, end = 60, 34, 72 * WIDE - 14
    left = 18 + max(*map(width, names), *(width(text, SIZE - 1.5) for text in under))
    high = PITCH * len(groups) + top + bottom
    kinds = [mean for mean in MEANS if mean["label"] in groups[0].means]

    def paint(canvas: Any) -> None:
        axes = axes_in(canvas, left=left, right=14, bottom=bottom, top=top)
        axes.set(ylim=(PITCH * (len(groups) - 0.7), -0.7 * PITCH), yticks=[])
        told = say("{noun} of a row (thick: half of the rows, thin: 90 %)", noun=noun)
        axes.set_xlabel(caption.words(told), loc="right")
        axes.grid(visible=True, axis="x")
        every = [value for rows in groups for value in rows.values]
        (log_axis if log else linear_axis)(axes, "x", min(every), max(every))
        for i, rows in enumerate(groups):
            _strip(axes, i, PITCH * i, rows, log)
            y = high - top - PITCH * (i + 0.7)
            caption.write(canvas, (7, y + 4 * bool(under[i])), names[i])
            caption.write(canvas, (7, y - 8), under[i], fontsize=SIZE - 1.5, alpha=0.8)
        keys = [axes.plot([], [], **mean)[0] for mean in kinds]
        at = canvas.transFigure.inverted().transform((end, high - 37))
        said = [caption.words(mean["label"]) for mean in kinds]
        canvas.legend(keys, said, loc="upper right", ncols=len(kinds),
                      bbox_to_anchor=at, fontsize=SIZE, handletextpad=0.2)  # fmt: skip

    return caption.picture(high / 72, paint)


def _pull(rows: Rows) -> str:
    """How far the tail pulls the arithmetic mean."""
    if rows.pull is None:
        return ""
    geometric, mean = rows.pull
    return say("{mean} = {factor} × geometric", mean=number(mean), factor=number(mean / geometric))


def _strip(axes: Any, i: int, y: float, rows: Rows, log: bool) -> None:
    """One group at the height y: density upwards, quartiles on it, ticks of its rows below."""
    values = np.sort(np.array(rows.values, dtype=float))
    to, back = (np.log, np.exp) if log else (np.asarray, np.asarray)
    scaled = to(values)
    _density_and_ticks(axes, i, y, scaled, back)
    low, first, third, high = back(np.quantile(scaled, (0.05, 0.25, 0.75, 0.95)))
    plot(axes, [(low, y), (high, y)], f"most-{i}", color=NEUTRAL, lw=0.9)
    plot(axes, [(first, y), (third, y)], f"half-{i}", color=NEUTRAL, lw=3, alpha=0.45)
    if rows.pull is not None:
        pull = [(value, y) for value in rows.pull]
        plot(axes, pull, f"pull-{i}", color=VERMILLION, lw=2, solid_capstyle="butt")
    for mean in MEANS:
        value = rows.means.get(mean["label"])
        if value is not None:
            plot(axes, [(value, y)], f"{mean['label'].replace(' ', '-')}-{i}", **mean)


def _density_and_ticks(axes: Any, i: int, y: float, scaled: Any, back: Any) -> None:
    from matplotlib.colors import to_rgba
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    xs, heights = _density(scaled)
    top = y - 0.5 * PITCH * heights / max(float(heights.max()), 1e-300)
    outline = Path([*zip(back(xs), top, strict=True)])
    outline.should_simplify = False
    look = {"fc": to_rgba(BLUE, 0.3), "ec": BLUE, "lw": 0.9, "gid": f"density-{i}"}
    axes.add_patch(PathPatch(outline, **look))
    # Ticks that fall on the same point are one tick.
    places = axes.transData.transform([(value, y) for value in back(scaled)])[:, 0]
    values = back(scaled)[np.unique(np.round(places), return_index=True)[1]]
    ends = [(value, y + PITCH * share) for value in values for share in (0.08, 0.19)]
    ticks = Path(ends, [Path.MOVETO, Path.LINETO] * len(values))
    ticks.should_simplify = False
    axes.add_patch(PathPatch(ticks, ec=BLUE, lw=0.7, alpha=0.8, fill=False, gid=f"rows-{i}"))


def _density(values: Any) -> tuple[Any, Any]:
    """A Gaussian kernel's density, with Silverman's bandwidth."""
    std = float(np.std(values))
    middle = float(np.subtract(*np.quantile(values, (0.75, 0.25)))) / 1.34
    band = 0.9 * (min(std, middle) or std or 0.02) * len(values) ** -0.2
    xs = np.linspace(values[0] - band, values[-1] + band, 90)
    return xs, np.exp(-0.5 * ((xs[:, None] - values) / band) ** 2).sum(1)
