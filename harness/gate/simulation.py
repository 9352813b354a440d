"""How often the gate raises a false alarm, and how often it finds a real change.

Rows are drawn with replacement from a real run. What a change that means nothing does to each
row is taken from two real measurements of the same thing (two seeds of a strategy, or a run before
and after a perturbation): the differences of the values that the headline metric tests, with their
mean taken off. Which of the two came first says nothing, so each row's difference points either
way; or, ``centred``, all of them one way, which is harder: one outlying row then stands against a
shift of all others, and where it is not drawn, the shift is real. A known change is then added to
one cell. Under a corpus metric, what each row contributes to the corpus's value takes the place of
a row's value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.errors import GateError
from harness.gate.comparable import check_metrics, check_rows
from harness.gate.verdict import regressed
from harness.gate.words import Words
from harness.metrics.base import Array, Metric
from harness.metrics.find import find_metric
from harness.results.reading import matched, snapshot
from harness.results.snapshot import Rows, Snapshot, Values
from harness.statistics.corpus import row_values
from harness.statistics.paired import ALPHA, holm, permutation_p

EFFECTS = (0.0, 0.01, 0.02, 0.03, 0.05, -0.01, -0.02, -0.03, -0.05)
SIZES = (1, 12)
FLIPS = 1_999
PLAIN = 0.02  # the plain threshold that the gate is compared with


@dataclass(frozen=True)
class Rate:
    """Shares of simulated runs, for one kind of change, family size and effect.

    ``alarm``: the gate fails; ``plain``: the mean of a cell got worse by more than the plain
    threshold; ``improved``: the gate says of the changed cell that it got better. ``spread`` is the
    standard deviation of the rows' differences.
    """

    kind: str
    spread: float
    cells: int
    effect: float
    alarm: float
    plain: float
    improved: float


def simulate(
    where: Path,
    after: Path | None,
    rows: int,
    runs: int,
    tolerance: float,
    centred: bool = False,
    seed: int = 0,
) -> list[Rate]:
    """Simulate runs of the gate with rows of a real one.

    Args:
        where: results directory or baseline.
        after: the same after a change that is to count as none; without it, what differs between
            seeds of the same strategy counts as none.
        rows: test rows of each simulated run.
        runs: number of runs for each rate.
        tolerance: of the gate.
        centred: let all rows of a cell point one way.
        seed: of the draws.

    Raises:
        StoreError, GateError: they cannot be read, or there is nothing to pair.
    """
    before = snapshot(where)
    name = next(iter(before.definitions))
    metric = find_metric(name, f"{where}: metric {name!r}", before.definitions[name])
    kinds = _pairs(metric, before, snapshot(after) if after else None, str(where))
    rng = np.random.default_rng(seed)
    return [
        rate
        for kind, (base, noise) in kinds.items()
        for cells in SIZES
        for rate in _rates(
            _Trial(metric, kind, base, noise, cells, rows, runs, tolerance, centred), rng
        )
    ]


@dataclass(frozen=True)
class _Trial:
    """What is simulated: values before and centred differences, each of shape (rows, pairs)."""

    metric: Metric
    kind: str
    base: Array
    noise: Array
    cells: int
    rows: int
    runs: int
    tolerance: float
    centred: bool


def _pairs(
    metric: Metric, before: Snapshot, after: Snapshot | None, where: str
) -> Mapping[str, tuple[Array, Array]]:
    """Kind of change → (values, centred differences), each of shape (rows, pairs)."""
    found: dict[str, list[tuple[Rows, Rows]]] = {}
    if after is not None:
        check_metrics(before, after.definitions)
        check_rows(before, after.task, after.rows, remedy="")
        found["after the change"] = list(matched(after, before).values())
    else:
        found = _of_seeds(before)
    usable: dict[str, list[tuple[Values, Values]]] = {}
    for kind, pairs in found.items():
        read = [tuple(rows.metrics[metric.name] for rows in pair) for pair in pairs]
        alike = [(new, old) for new, old in read if _alike(new, old)]
        if alike:
            usable[kind] = alike
    if not usable:
        lack = "a cell in common" if after else "a strategy with two seeds or more"
        raise GateError(f"{where}: nothing to pair, which takes {lack}, finite on the same tokens")
    kinds = {}
    for kind, values in usable.items():
        base = np.stack([row_values(metric, old.tested) for _, old in values], axis=1)
        noise = np.stack([row_values(metric, new.tested) for new, _ in values], axis=1) - base
        kinds[kind] = base, noise - noise.mean(axis=0)
    return kinds


def _of_seeds(snapshot: Snapshot) -> dict[str, list[tuple[Rows, Rows]]]:
    """Every two seeds of each group that has several."""
    groups: dict[str, list[Rows]] = {}
    for rows in snapshot.cells.values():
        if rows.group:
            groups.setdefault(rows.group, []).append(rows)
    return {
        f"another seed of {group}": [(b, a) for i, a in enumerate(rows) for b in rows[i + 1 :]]
        for group, rows in groups.items()
        if len(rows) > 1
    }


def _alike(one: Values, other: Values) -> bool:
    same = one.denominators == other.denominators
    return same and not one.nonfinite and not other.nonfinite


def _rates(trial: _Trial, rng: np.random.Generator) -> list[Rate]:
    counts = np.zeros((len(EFFECTS), 3))
    base, noise, cells, rows = trial.base, trial.noise, trial.cells, trial.rows
    for run in range(trial.runs):
        drawn = rng.integers(0, len(base), rows)
        pairs = (run + np.arange(cells)) % base.shape[1]
        signs = rng.choice([-1.0, 1.0], (1 if trial.centred else rows, cells))
        before, change = base[drawn][:, pairs], noise[drawn][:, pairs] * signs
        counts += _outcomes(trial, before, change, run)
    spread = float(noise.std(ddof=1))
    return [
        Rate(trial.kind, spread, cells, effect, *(float(x) for x in counts[place] / trial.runs))
        for place, effect in enumerate(EFFECTS)
    ]


def _outcomes(trial: _Trial, before: Array, change: Array, seed: int) -> Array:
    """One simulated run under every effect on its first cell.

    Args:
        trial: what is simulated.
        before: values of shape (rows, cells).
        change: differences of the same shape, before any effect.
        seed: of the sign flips.

    Returns:
        Shape (effects, 3), 0 or 1: the gate fails, the plain threshold is passed, the first cell
        is called improved.
    """
    metric, allowed = trial.metric, Words(trial.metric).allowed(trial.tolerance)
    sign = metric.worsening
    shifted = change[:, :1] + sign * _shifts(metric)
    columns = sign * np.concatenate([change, shifted, -shifted], axis=1)
    p = permutation_p(columns, resamples=FLIPS, seed=seed)
    cells = change.shape[1]
    rises, falls = p[cells : cells + len(EFFECTS)], p[cells + len(EFFECTS) :]
    found = np.zeros((len(EFFECTS), 3))
    for place, rise in enumerate(rises):
        changed = change.copy()
        changed[:, 0] = shifted[:, place]
        effects = [sign * metric.effect(float(mean)) for mean in changed.mean(axis=0)]
        adjusted = holm([rise, *p[1:cells]])
        # The other cells did not fall: their p on that side is not what is looked at here.
        better = holm([falls[place], *[1.0] * (cells - 1)])[0]
        found[place] = (
            any(regressed(*each, allowed) for each in zip(adjusted, effects, strict=True)),
            (_of_means(metric, before, before + changed) > PLAIN).any(),
            better < ALPHA and effects[0] < metric.effect(-metric.bound(trial.tolerance)),
        )
    return found


def _shifts(metric: Metric) -> Array:
    """Each of the effects, for the worse, on the scale that is tested; shape (effects,)."""
    effects = np.array(EFFECTS)
    return np.log1p(effects) if metric.scale == "log" else effects * metric.span


def _of_means(metric: Metric, before: Array, after: Array) -> Array:
    """How much worse the mean of what is shown got: relative, or as a share of the span."""
    old, new = (metric.show(values).mean(axis=0) for values in (before, after))
    changed = new / old - 1 if metric.scale == "log" else (new - old) / metric.span
    found: Array = metric.worsening * changed
    return found


def table(rates: list[Rate]) -> str:
    """The rates as a Markdown table, one line for each kind, family and rule."""
    from tabulate import tabulate

    by_case: dict[tuple[str, int], dict[float, Rate]] = {}
    for rate in rates:
        by_case.setdefault((rate.kind, rate.cells), {})[rate.effect] = rate
    rules: dict[str, Callable[[Rate], float]] = {
        "gate fails": lambda rate: rate.alarm,
        f"mean +{100 * PLAIN:.0f} %": lambda rate: rate.plain,
        "gate: improved": lambda rate: rate.improved,
    }
    order = sorted(EFFECTS)
    lines = [
        [kind, f"{found[0.0].spread:.3f}", cells, rule]
        + [f"{100 * share(found[effect]):.1f} %" for effect in order]
        for (kind, cells), found in by_case.items()
        for rule, share in rules.items()
    ]
    effects = [
        "no change" if not effect else f"{100 * effect:+.0f} %".replace("-", "−")
        for effect in order
    ]
    headers = ["what counts as no change", "sd", "cells", "rule", *effects]
    align = ["left", "right", "right", "left", *["right"] * len(order)]
    return tabulate(
        lines, headers=headers, tablefmt="github", disable_numparse=True, colalign=align
    )
