"""Pictures of a training run: its learning curve, and the pool that its rows were chosen from.

They take plain numbers, and know nothing of a report's content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from harness.report.figures.kept import drawn_once
from harness.report.figures.svg import (
    BLUE,
    DASHES,
    GREEN,
    NEUTRAL,
    PURPLE,
    VERMILLION,
    Points,
    figure,
    finite,
    scale,
)
from harness.report.formatting import number

Run = Mapping[str, Any]
Lines = Mapping[str, Sequence[Points]]  # of each kind, one per run
Look = Mapping[str, Mapping[str, Any]]  # how each kind of line is drawn

SEEDS = tuple(zip((BLUE, VERMILLION, GREEN, PURPLE, NEUTRAL), DASHES, "osD^v", strict=True))
NAMES = ("loss (nats per token)", "mean perplexity")


@drawn_once
def learning_curve(slug: str, title: str, runs: Sequence[Run], select_on: str | None) -> str:
    """How a training run went: loss above, mean perplexity (where it was evaluated) below.

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


@drawn_once
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


def _in_words(name: str, smooth: Points, tests: Points, best: Points) -> str:
    """Where one run's lines begin, and where they end or have their best."""
    text, ends = "", [*tests[:1], *(best or tests[-1:])]
    for what, points in (("mean perplexity on the test set", ends), ("training loss", smooth)):
        for (a, y), (b, z) in zip(points[:1], points[-1:], strict=True):
            verb = "falls" if z < y else "rises" if z > y else "goes"
            text += f", {what} {verb} from {number(y)} at step {a:,} to {number(z)} at step {b:,}"
    return f"{text[2:]} ({name})" if name and text else text[2:]
