"""Pictures of a training run: its learning curve, and the pool that its rows were chosen from.

They take plain numbers, and know nothing of a report's content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from harness.messages import listed, say
from harness.report.figures.kept import drawn_once
from harness.report.figures.svg import (
    BLUE,
    DASHES,
    GREEN,
    NEUTRAL,
    PURPLE,
    VERMILLION,
    Points,
    drawable_words,
    figure,
    finite,
    scale,
)
from harness.report.formatting import number
from harness.report.language import ENGLISH, Language

Run = Mapping[str, Any]
Lines = Mapping[str, Sequence[Points]]  # of each kind, one per run
Look = Mapping[str, Mapping[str, Any]]  # how each kind of line is drawn

SEEDS = tuple(zip((BLUE, VERMILLION, GREEN, PURPLE, NEUTRAL), DASHES, "osD^v", strict=True))
NAMES = (say("loss (nats per token)"), say("mean perplexity"))
CHOSEN_ON: Mapping[str, str] = {one: one for one in (say("test"), say("holdout"))}
KINDS: Mapping[str, str] = {
    one: one
    for one in (
        *(say("training step"), say("smoothed"), say("evaluation"), say("test set")),
        *(say("holdout"), say("best step"), say("new stage"), say("not chosen")),
    )
}


@drawn_once
def learning_curve(
    slug: str,
    title: str,
    runs: Sequence[Run],
    select_on: str | None,
    language: Language = ENGLISH,
) -> str:
    """How a training run went: loss above, mean perplexity (where it was evaluated) below.

    A run has ``seed``, ``losses`` (nats per token, the first at step 1), ``evaluations`` (``step``,
    ``loss``, ``mean_perplexity``, ``holdout_perplexity``), the ``best_step``, chosen by
    ``select_on``, and ``boundaries`` of stages. What is None or not finite is left out.
    """
    paint = _Painter(language)
    losses = [finite(enumerate(run["losses"], 1)) for run in runs]
    smooth = [_thin(_smooth(points)) for points in losses]
    tests, holdouts = _evaluated(runs, "mean_perplexity"), _evaluated(runs, "holdout_perplexity")
    bests = [[p for p in tests[i] if p[0] == run["best_step"]] for i, run in enumerate(runs)]
    names = ["" if run["seed"] is None else paint.seed(run["seed"]) for run in runs]
    told = [[paint.best(x, y) for x, y in best] for best in bests]
    few, two = 1 < len(runs) <= len(SEEDS), any(tests) or any(holdouts)
    looks = _looks(few, len(runs))
    stages = sorted({step for run in runs for step in run["boundaries"]})
    above = {"training step": [_thin(points) for points in losses], "smoothed": smooth}
    above["evaluation"] = _evaluated(runs, "loss")
    below = {"test set": tests, "holdout": holdouts, "best step": bests}

    def draw(figure: Any) -> None:
        figure.subplots_adjust(right=(4.9 if few else 6.93) / 7.2)
        panels = figure.subplots(1 + two, sharex=True, squeeze=False)[:, 0]
        for axes, name, part in zip(panels, NAMES, (above, below), strict=False):
            paint.draw(axes, name, part, looks, stages, ratio=3 if part is below else 0)
        right = paint.steps(axes)
        if few:
            keys = [axes.plot([], [], **look["seed"])[0] for look in looks[:-1]]
            said = [paint.lines(name, *best) for name, best in zip(names, told, strict=True)]
            axes.legend(keys, said, loc="upper left", bbox_to_anchor=(1.06, 1))
        elif any(bests):
            _mark_best(axes, bests, told, (*tests, *holdouts), right, paint)

    words = [*filter(None, map(_in_words, names, smooth, tests, bests))]
    note = _note(select_on if any(bests) else None, words)
    return paint.figure(f"curve-{slug}", title, note, words, 4.95 if two else 2.7, draw)


def _evaluated(runs: Sequence[Run], name: str) -> list[Points]:
    return [finite((row["step"], row[name]) for row in run["evaluations"]) for run in runs]


def _note(select_on: str | None, words: Sequence[str]) -> str:
    if select_on is not None:
        return say("best step by {rows}", rows=CHOSEN_ON.get(select_on, select_on))
    return "" if words else say("no values")


def _mark_best(
    axes: Any,
    bests: Sequence[Points],
    told: Sequence[Sequence[str]],
    others: Sequence[Points],
    right: float,
    paint: _Painter,
) -> None:
    """Write what the best of the runs' best steps says beside it, clear of the other points."""
    (y, x), text = min((p[0][::-1], t[0]) for p, t in zip(bests, told, strict=True) if p)
    under = all(y <= other for points in others for _, other in points)
    more = {"ha": "left" if x < right / 2 else "right"}
    more |= {"va": "top" if under else "bottom", "textcoords": "offset points"}
    axes.annotate(paint.words(text), (x, y), (0, -7 if under else 7), **more)


@drawn_once
def length_against_score(
    slug: str,
    title: str,
    points: Sequence[tuple[float, float, bool]],
    language: Language = ENGLISH,
) -> str:
    """The training pool as dots, so thinned out that a large pool stays a small file."""
    paint, many = _Painter(language), sum(bool(chosen) for *_, chosen in points)
    label = say("chosen ({n} of {rows})", n=f"{many:,}", rows=f"{len(points):,}")
    rest = finite((x, y) for x, y, chosen in points if not chosen)
    best = finite((x, y) for x, y, chosen in points if chosen)
    dot: dict[str, Any] = {"marker": "o", "ls": "", "mew": 0.6}
    hollow = {**dot, "color": NEUTRAL, "ms": 3.2, "mfc": "none", "alpha": 0.45}
    look = {"not chosen": hollow, label: {**dot, "color": VERMILLION, "ms": 4, "alpha": 0.8}}

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.set(xlabel=paint.words(say("length in characters")), ymargin=0.06)
        axes.update_datalim([*rest, *best])
        scale(axes, "x", [x for x, _ in (*rest, *best)], ratio=20)
        axes.autoscale_view()
        lines = {"not chosen": [_spread(axes, rest)], label: [_spread(axes, best)]}
        paint.draw(axes, say("score"), lines, [look, look], stages=(), ratio=0)

    words: list[str] = [say("rows of the training pool by length in characters and score")]
    for kind, part in ((KINDS["not chosen"], rest), (label, best)):
        ends = [_span(side) for side in zip(*part, strict=True)]
        words += [say("{kind}: {ends}", kind=kind, ends=listed(ends))] if part else []
    return paint.figure(f"pool-{slug}", title, "", words, 3.6, draw)


def _span(side: Sequence[float]) -> str:
    return say("{low} to {high}", low=f"{min(side):,.5g}", high=f"{max(side):,.5g}")


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


@dataclass
class _Painter:
    """Draws in a language; ``texts`` are those that matplotlib has no characters for."""

    language: Language
    texts: list[str] = field(default_factory=list)

    def words(self, message: str) -> str:
        """A text for matplotlib to draw."""
        return drawable_words(str(self.language.of(message)), self.texts)

    def lines(self, *messages: str) -> str:
        """Several, one below the other."""
        return "\n".join(map(self.words, messages))

    def steps(self, axes: Any) -> float:
        """Make the axis across that of steps; return where it ends."""
        right: float = max(1, axes.get_xlim()[1])
        axes.set(xlabel=self.words(say("optimizer step")), xlim=(-0.015 * right, right))
        axes.xaxis.get_major_locator().set_params(integer=True)
        scale(axes, "x", [])
        return right

    def seed(self, seed: int) -> str:
        return say("seed {seed}", seed=f"{seed:d}")

    def best(self, step: float, value: float) -> str:
        return say("best: step {step}, {value}", step=f"{step:,}", value=number(value))

    def figure(
        self, slug: str, title: str, note: str, words: list[str], high: float, draw: Any
    ) -> str:
        """The figure, with what is said of it."""
        said, of = [str(self.language.of(one)) for one in words], self.language.of
        return figure(
            slug, title, of(note), said, high, draw, texts=self.texts, language=self.language
        )

    def draw(
        self,
        axes: Any,
        title: str,
        lines: Lines,
        looks: Sequence[Look],
        stages: Sequence[int],
        ratio: float,
    ) -> None:
        """Draw one line per kind and run; the last look is the legend's, above the axes."""
        axes.set_title(self.words(title))
        for kind, parts in lines.items():
            for i, points in enumerate(parts):
                marker = "." if len(points) == 1 else ""
                look = {"marker": marker, **looks[i][kind], "clip_on": False}
                gid = f"{kind.partition(' (')[0].replace(' ', '-')}-{i}"
                axes.plot([x for x, _ in points], [y for _, y in points], gid=gid, **look)
        values = [y for parts in lines.values() for points in parts for _, y in points]
        scale(axes, "y", values, ratio)
        for step in stages:
            axes.axvline(step, gid=f"{title.split()[0]}-stage-{step}", **looks[-1]["new stage"])
        shown = [kind for kind, parts in lines.items() if any(parts)]
        shown += ["new stage"] * bool(stages)
        handles = [axes.plot([], [], **looks[-1][kind])[0] for kind in shown]
        named = [self.words(KINDS.get(kind, kind)) for kind in shown]
        above = axes.get_position().y1 + 0.07 / axes.figure.get_figheight()
        at = (6.93 / 7.2, above)
        look = {"loc": "lower right", "ncols": len(shown) or 1, "bbox_to_anchor": at}
        axes.figure.legend(handles, named, **look)


def _in_words(name: str, smooth: Points, tests: Points, best: Points) -> str:
    """Where one run's lines begin, and where they end or have their best."""
    ends = [*tests[:1], *(best or tests[-1:])]
    told = [
        _moved(what, points[0], points[-1])
        for what, points in (
            (say("mean perplexity on the test set"), ends),
            (say("training loss"), smooth),
        )
        if points
    ]
    if not told:
        return ""
    return say("{what} ({seed})", what=listed(told), seed=name) if name else listed(told)


def _moved(what: str, first: tuple[float, float], last: tuple[float, float]) -> str:
    (a, y), (b, z) = first, last
    known = {
        "what": what,
        "before": number(y),
        "first": f"{a:,}",
        "after": number(z),
        "last": f"{b:,}",
    }
    if z < y:
        return say("{what} falls from {before} at step {first} to {after} at step {last}", **known)
    if z > y:
        return say("{what} rises from {before} at step {first} to {after} at step {last}", **known)
    return say("{what} goes from {before} at step {first} to {after} at step {last}", **known)
