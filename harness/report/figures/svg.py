"""Figures as SVG text: the same data give the same bytes, in any process.

matplotlib draws, with its own font, a sentinel for what is neutral, and no text from outside: a
placeholder stands for it. Then neutral becomes ``currentColor``, so that one figure serves light
and dark, text takes the fonts of its reader, and ids begin with the figure's name.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import accumulate
from typing import Any

from harness.report.figures.labels import shortened
from harness.report.formatting import number, visible

Run = Mapping[str, Any]
Points = list[tuple[float, float]]
Lines = Mapping[str, Sequence[Points]]  # of each kind, one per run
Look = Mapping[str, Mapping[str, Any]]  # how each kind of line is drawn

NEUTRAL, PAPER, INK = "#010203", "#ffffff", "#1f2328"  # the sentinel; a figure that stands alone
# Of Okabe and Ito's palette the four with a contrast of 3 on white and on black, and its black.
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1)), "-.", (0, (3, 1, 1, 1, 1, 1)))
SEEDS = tuple(zip((BLUE, VERMILLION, GREEN, PURPLE, NEUTRAL), DASHES, "osD^v", strict=True))
NAMES = ("loss (nats per token)", "mean perplexity")
STYLE = """
    font.size=9 axes.titlesize=9 axes.titlelocation=left text.color={0} xtick.color={0}
    ytick.color={0} grid.color={0} axes.labelcolor={0} axes.edgecolor={0} figure.facecolor=none
    axes.facecolor=none axes.spines.top=False axes.spines.right=False axes.spines.left=False
    ytick.major.size=0 axes.grid=True axes.grid.axis=y grid.alpha=0.16 figure.subplot.hspace=0.39
    axes.xmargin=0.015 axes.ymargin=0.2 svg.fonttype=none text.parse_math=False
    legend.frameon=False legend.borderpad=0 legend.borderaxespad=0 legend.columnspacing=1.3
    legend.labelspacing=0.8 figure.subplot.left=0.083 figure.subplot.right=0.9625 svg.hashsalt={1}
"""
FLUID = r"width: 100%; max-width: \d+px; height: auto; "
ROOT = """<svg xmlns="http://www.w3.org/2000/svg" width="{1:.0f}" height="{2:.0f}" \
viewBox="0 0 {3:g} {4:g}" role="img" aria-labelledby="{0}.title {0}.desc" \
style="width: 100%; max-width: {1:.0f}px; height: auto; stroke-linejoin: round; \
font-family: system-ui, -apple-system, 'Segoe UI', \
'Noto Sans', Arial, 'Noto Sans CJK TC', 'PingFang TC', 'Microsoft JhengHei', sans-serif">
<title id="{0}.title">{5}</title><desc id="{0}.desc">{6}</desc>
<text x="7" y="16" style="font-size: 10.5px; fill: currentColor"><tspan style="font-weight: 600">\
{7}</tspan><tspan {8} style="font-size: 9px">{9}</tspan></text>"""
CLEAN: Sequence[tuple[str, Any]] = (
    (r"(?s)^.*?</defs>", ""),  # the prolog, metadata, and a style sheet for the whole page
    (r' id="[^"]*_[^"]*"| transform="rotate\(-0 [^"]*"|font-family: [^;"]*;? ?', ""),
    (r"\s*\n\s*", "\n"),  # and then the style of markers once per line, not once per marker
    (r'<g( [^>]*)?>\n(<use [^>]*) (style="[^"]*")', r"<g \3\1>\n\2"),
    (r'<use xlink:(href="[^"]*" x="[^"]*" y="[^"]*")( style="[^"]*")?', r"<use \1"),
    (r'"[^"]*"', lambda value: re.sub(r"\d+\.\d{3,}", lambda n: f"{float(n[0]):.2f}", value[0])),
    (r"M (\S+) (\S+)\nL \1 (?=\S+[\n\"])", r"M\1 \2V"),
    (NEUTRAL, "currentColor"),
)


def learning_curve(slug: str, title: str, runs: Sequence[Run], select_on: str | None) -> str:
    """How a training went: loss above, mean perplexity (where it was evaluated) below.

    A run has ``seed``, ``losses`` (nats per token, the first at step 1), ``evaluations`` (``step``,
    ``loss``, ``mean_perplexity``, ``holdout_perplexity``), the ``best_step``, chosen by
    ``select_on``, and ``boundaries`` of stages. What is None or not finite is left out.
    """

    def evaluated(name: str) -> list[Points]:
        return [finite((row["step"], row[name]) for row in run["evaluations"]) for run in runs]

    losses = [finite(enumerate(run["losses"], 1)) for run in runs]
    smooth = [_thin(_smooth(points)) for points in losses]
    tests, holdouts = evaluated("mean_perplexity"), evaluated("holdout_perplexity")
    bests = [[p for p in tests[i] if p[0] == run["best_step"]] for i, run in enumerate(runs)]
    names = ["" if run["seed"] is None else f"seed {run['seed']:d}" for run in runs]
    told = [[f"best: step {x:,}, {number(y)}" for x, y in best] for best in bests]
    few, two = 1 < len(runs) <= len(SEEDS), any(tests) or any(holdouts)
    looks = _looks(few, len(runs))
    stages = sorted({step for run in runs for step in run["boundaries"]})
    above = {"training step": [_thin(points) for points in losses], "smoothed": smooth}
    above["evaluation"] = evaluated("loss")
    below = {"test set": tests, "holdout": holdouts, "best step": bests}

    def draw(figure: Any) -> None:
        figure.subplots_adjust(right=(4.9 if few else 6.93) / 7.2)
        panels = figure.subplots(1 + two, sharex=True, squeeze=False)[:, 0]
        for axes, name, part in zip(panels, NAMES, (above, below), strict=False):
            _draw(axes, name, part, looks, stages, ratio=3 if part is below else 0)
        right = max(1, axes.get_xlim()[1])
        axes.set(xlabel="optimizer step", xlim=(-0.015 * right, right))
        axes.xaxis.get_major_locator().set_params(integer=True)
        scale(axes, "x", [])
        if few:
            keys = [axes.plot([], [], **look["seed"])[0] for look in looks[:-1]]
            said = ["\n".join([name, *best]) for name, best in zip(names, told, strict=True)]
            axes.legend(keys, said, loc="upper left", bbox_to_anchor=(1.06, 1))
        elif any(bests):
            _mark_best(axes, bests, told, (*tests, *holdouts), right)

    words = [*filter(None, map(_in_words, names, smooth, tests, bests))]
    note = f"best step by {select_on}" if select_on and any(bests) else "no values" * (not words)
    return figure(f"curve-{slug}", title, note, words, 4.95 if two else 2.7, draw)


def _mark_best(
    axes: Any,
    bests: Sequence[Points],
    told: Sequence[Sequence[str]],
    others: Sequence[Points],
    right: float,
) -> None:
    """Write what the best of the runs' best steps says beside it, clear of the other points."""
    (y, x), text = min((p[0][::-1], t[0]) for p, t in zip(bests, told, strict=True) if p)
    under = all(y <= other for points in others for _, other in points)
    more = {"ha": "left" if x < right / 2 else "right"}
    more |= {"va": "top" if under else "bottom", "textcoords": "offset points"}
    axes.annotate(text, (x, y), (0, -7 if under else 7), **more)


def length_against_score(slug: str, title: str, points: Sequence[tuple[float, float, bool]]) -> str:
    """The training pool as dots, so thinned out that a large pool stays a small file."""
    label = f"chosen ({sum(bool(chosen) for *_, chosen in points):,} of {len(points):,})"
    rest = finite((x, y) for x, y, chosen in points if not chosen)
    best = finite((x, y) for x, y, chosen in points if chosen)
    dot: dict[str, Any] = {"marker": "o", "ls": "", "mew": 0.6}
    hollow = {**dot, "color": NEUTRAL, "ms": 3.2, "mfc": "none", "alpha": 0.45}
    look = {"not chosen": hollow, label: {**dot, "color": VERMILLION, "ms": 4, "alpha": 0.8}}

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.set(xlabel="length in characters", ymargin=0.06)
        axes.update_datalim([*rest, *best])
        scale(axes, "x", [x for x, _ in (*rest, *best)], ratio=20)
        axes.autoscale_view()
        lines = {"not chosen": [_spread(axes, rest)], label: [_spread(axes, best)]}
        _draw(axes, "score", lines, [look, look], stages=(), ratio=0)

    words = ["rows of the training pool by length in characters and score"]
    for kind, part in (("not chosen", rest), (label, best)):
        ends = [f"{min(side):,.5g} to {max(side):,.5g}" for side in zip(*part, strict=True)]
        words += [f"{kind}: {', '.join(ends)}"] if part else []
    return figure(f"pool-{slug}", title, "", words, 3.6, draw)


def standalone(svg: str) -> str:
    """The same figure as a file of its own: dark on white, of a size of its own."""
    svg = re.sub(r'(?<=style=")[^"]*', lambda style: style[0].replace("currentColor", INK), svg)
    svg = re.sub(FLUID, "", svg, count=1)
    paper = f'</desc><rect width="100%" height="100%" style="fill: {PAPER}"/>'
    return svg.replace("</desc>", paper, 1)


def finite(points: Iterable[tuple[float, float | None]]) -> Points:
    """Without what can not be drawn: None, NaN, the infinities and their neighbourhood."""
    return [(x, y) for x, y in points if y is not None and abs(x) < 1e200 and abs(y) < 1e200]


def _smooth(points: Points) -> Points:
    """The exponential mean over about a twentieth of the points."""
    rate = 2 / (max(3, len(points) // 20) + 1)
    return list(accumulate(points, lambda mean, p: (p[0], mean[1] + rate * (p[1] - mean[1]))))


def _thin(points: Points) -> Points:
    """At most 400: the lowest and the highest of each of 200 stretches."""
    step = max(2, -(-len(points) // 200))
    parts = [points[i : i + step] for i in range(0, len(points), step)]
    return [p for part in parts for p in sorted({f(part, key=lambda p: p[1]) for f in (min, max)})]


def _spread(axes: Any, points: Points) -> Points:
    """The first point in each cell of a grid over the axes, coarser until 3,600 are left."""
    places = (axes.transData - axes.transAxes).transform(points or [(1, 1)])
    for fineness in (1, 0.7, 0.5, 0.35, 0.24):
        cells = map(tuple, (places * (300 * fineness, 200 * fineness)).astype(int)[::-1].tolist())
        first = dict(zip(cells, points[::-1], strict=False))  # the last that is put in stays
        if len(first) <= 3600:
            break
    return [*first.values()]


def _looks(few: bool, runs: int) -> list[Look]:
    """One per run, and the legend's."""
    looks = [_look(SEEDS[i] if few else None, runs) for i in range(runs)]
    return [*looks, _look((NEUTRAL, "-", "o") if few else None)]


def _look(seed: tuple[str, Any, str] | None = None, runs: int = 1) -> Look:
    """Colours tell the kinds of line apart, or the seeds where there are a few."""
    color, dash, marker = seed or (BLUE, "-", "o")
    other, third = (color, color) if seed else (VERMILLION, GREEN)
    thin = 1.0 if seed or runs == 1 else 0.5
    line = {"marker": marker, "ms": 4.5 * thin, "lw": 1.2 * thin, "color": other}
    return {
        "training step": {"color": color, "lw": 0.8 * thin, "alpha": 0.45 if runs == 1 else 0.25},
        "smoothed": {"color": color, "ls": dash, "lw": 1.8 * thin},
        "seed": {**line, "ls": dash, "lw": 1.8},
        **dict.fromkeys(("evaluation", "test set"), line),
        "holdout": {**line, "color": third, "ls": (0, (4, 2)), "mfc": "none"},
        "best step": {"color": other, "marker": "*", "ms": 12 * thin, "mec": NEUTRAL, "ls": ""},
        "new stage": {"color": NEUTRAL, "ls": ":", "lw": 1, "alpha": 0.7},
    }


def _draw(
    axes: Any, title: str, lines: Lines, looks: Sequence[Look], stages: Sequence[int], ratio: float
) -> None:
    """Draw one line per kind and run; the last look is the legend's, above the axes."""
    axes.set_title(title)
    for kind, parts in lines.items():
        for i, points in enumerate(parts):
            look = {"marker": "." if len(points) == 1 else "", **looks[i][kind], "clip_on": False}
            gid = f"{kind.partition(' (')[0].replace(' ', '-')}-{i}"
            axes.plot([x for x, _ in points], [y for _, y in points], gid=gid, **look)
    scale(axes, "y", [y for parts in lines.values() for points in parts for _, y in points], ratio)
    for step in stages:
        axes.axvline(step, gid=f"{title.split()[0]}-stage-{step}", **looks[-1]["new stage"])
    shown = [kind for kind, parts in lines.items() if any(parts)] + ["new stage"] * bool(stages)
    handles = [axes.plot([], [], **looks[-1][kind])[0] for kind in shown]
    at = (6.93 / 7.2, axes.get_position().y1 + 0.07 / axes.figure.get_figheight())
    axes.figure.legend(handles, shown, loc="lower right", ncols=len(shown) or 1, bbox_to_anchor=at)


def scale(axes: Any, side: str, values: Sequence[float], ratio: float = 0) -> None:
    """Plain numbers at the ticks; logarithmic where the values span more than a ratio, if any."""
    axis, low = getattr(axes, f"{side}axis"), min(values, default=0)
    span = max(values) / low if low > 0 else 0
    if span > ratio > 0:
        axes.set(**{f"{side}scale": "log"})
        steps = (1, 2, 3, 4, 6, 8) if span < 10 else (1, 2, 5) if span < 1000 else (1,)
        axis.get_major_locator().set_params(subs=steps)
        axis.minorticks_off()
    axis.set_major_formatter(lambda value, _: f"{value:,.6g}".replace("-", "−"))


def _in_words(name: str, smooth: Points, tests: Points, best: Points) -> str:
    """Where one run's lines begin, and where they end or have their best."""
    text, ends = "", [*tests[:1], *(best or tests[-1:])]
    for what, points in (("mean perplexity on the test set", ends), ("training loss", smooth)):
        for (a, y), (b, z) in zip(points[:1], points[-1:], strict=True):
            verb = "falls" if z < y else "rises" if z > y else "goes"
            text += f", {what} {verb} from {number(y)} at step {a:,} to {number(z)} at step {b:,}"
    return f"{text[2:]} ({name})" if name and text else text[2:]


def placeholder(text: str, texts: list[str]) -> str:
    """What matplotlib draws where a text from outside is to stand; ``texts`` are for figure."""
    texts.append(text)
    return f"text-{len(texts) - 1}"


def figure(
    slug: str,
    title: str,
    note: str,
    words: list[str],
    high: float,
    draw: Any,
    *,
    wide: float = 7.2,
    head: str = "",
    texts: Sequence[str] = (),
) -> str:
    """Draw on a blank figure of so many inches, and clean up what was written.

    With a ``head`` the picture shows that instead of its title, and the note on a line of its own.
    ``texts`` may grow while drawing: they take the places of their placeholders.
    """
    slug = re.sub(r"[^A-Za-z0-9-]", lambda c: f"_{ord(c[0]):x}_", slug)
    svg = _drawn(slug, wide, high, draw)
    svg = re.sub(r"(?<=>)text-(\d+)(?=</)", lambda n: escape(visible(texts[int(n[1])])), svg)
    shown, note = visible(head or title), visible(note)
    note = shortened(note, 72 * wide - 14) if head else note[:40]
    most = int(10 * wide) - (0 if head else len(note)) - sum(c > "⺀" for c in shown[:36])
    shown = shown[:most] + "…" * (len(shown) > most)
    told = "; ".join([*words[:5], *[f"and {len(words) - 5} more"][: len(words) > 5]])
    named, described, shown, note = map(
        escape, (visible(title), f"{visible(title)}: {told or note}", shown, note)
    )
    size = 100 * wide, 100 * high, 72 * wide, 72 * high
    place = 'x="7" dy="13"' if head else 'dx="9"'
    return ROOT.format(slug, *size, named, described, shown, place, note) + svg


def _drawn(slug: str, wide: float, high: float, draw: Any) -> str:
    """What matplotlib writes of a figure, cleaned, without its root element."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), io.StringIO() as file:
        matplotlib.rcdefaults()
        parameters: Any = matplotlib.rcParams
        parameters.update(pair.split("=") for pair in STYLE.format(NEUTRAL, slug).split())
        canvas: Any = FigureCanvasSVG(Figure(figsize=(wide, high), dpi=72))
        canvas.figure.subplots_adjust(bottom=0.5 / high, top=1 - 0.6 / high)
        draw(canvas.figure)
        canvas.print_svg(file, metadata={"Date": None, "Creator": None})
        svg = file.getvalue()
    for pattern, new in (*CLEAN, (r'(?<= id=")|(?<=href="#)|(?<=url\(#)', f"{slug}.")):
        svg = re.sub(pattern, new, svg)
    return svg
