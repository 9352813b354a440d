"""How often the gate raises a false alarm, and how often it finds a real change.

Rows are drawn with replacement from a real run. What a change that means nothing does to each
row is taken from two real measurements of the same thing (two seeds of a strategy, or a run before
and after a perturbation): their log ratios, with their mean taken off. Which of the two came first
says nothing, so each row's ratio points either way; or, ``centred``, all of them one way, which is
harder: one outlying row then stands against a shift of all others, and where it is not drawn, the
shift is real. A known change is then added to one cell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.errors import GateError
from harness.gate.decision import check_metric, check_rows
from harness.gate.verdict import ALPHA, regressed
from harness.results.reading import matched, snapshot
from harness.results.snapshot import Rows, Snapshot
from harness.statistics.intervals import Array
from harness.statistics.paired import holm, permutation_p

EFFECTS = (0.0, 0.01, 0.02, 0.03, 0.05, -0.01, -0.02, -0.03, -0.05)
SIZES = (1, 12)
FLIPS = 1_999
PLAIN = 0.02  # the plain threshold that the gate is compared with


@dataclass(frozen=True)
class Rate:
    """Shares of simulated runs, for one kind of change, family size and effect.

    ``alarm``: the gate fails; ``plain``: the mean perplexity of a cell rose by more than the plain
    threshold; ``improved``: the gate says of the changed cell that it got better. ``spread`` is the
    standard deviation of the rows' log ratios.
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
        StoreError, GateError: they can not be read, or there is nothing to pair.
    """
    kinds = _pairs(snapshot(where), snapshot(after) if after else None, str(where))
    rng = np.random.default_rng(seed)
    return [
        rate
        for kind, (base, noise) in kinds.items()
        for cells in SIZES
        for rate in _rates(kind, base, noise, cells, rows, runs, tolerance, centred, rng)
    ]


def _pairs(
    before: Snapshot, after: Snapshot | None, where: str
) -> Mapping[str, tuple[Array, Array]]:
    """Kind of change → (log perplexities, centred log ratios), each of shape (rows, pairs)."""
    found: dict[str, list[tuple[Rows, Rows]]] = {}
    if after is not None:
        check_metric(before, after.metric)
        check_rows(before, after.task, after.rows, remedy="")
        found["after the change"] = list(matched(after, before).values())
    else:
        by_label: dict[str, list[Rows]] = {}
        for name, rows in before.cells.items():
            stem, _, last = name.rpartition("-")
            if last[:1] == "s" and last[1:].isdigit():
                by_label.setdefault(stem, []).append(rows)
        for label, seeds in by_label.items():
            pairs = [(b, a) for i, a in enumerate(seeds) for b in seeds[i + 1 :]]
            if pairs:
                found[f"another seed of {label}"] = pairs
    usable = {kind: [pair for pair in pairs if _alike(*pair)] for kind, pairs in found.items()}
    found = {kind: pairs for kind, pairs in usable.items() if pairs}
    if not found:
        lack = "a cell in common" if after else "a strategy with two seeds or more"
        raise GateError(f"{where}: nothing to pair, which takes {lack}, finite on the same tokens")
    kinds = {}
    for kind, pairs in found.items():
        base = np.array([old.logs for _, old in pairs]).T
        noise = np.array([new.logs for new, _ in pairs]).T - base
        kinds[kind] = base, noise - noise.mean(axis=0)
    return kinds


def _alike(one: Rows, other: Rows) -> bool:
    return one.tokens == other.tokens and not one.nonfinite and not other.nonfinite


def _rates(
    kind: str,
    base: Array,
    noise: Array,
    cells: int,
    rows: int,
    runs: int,
    tolerance: float,
    centred: bool,
    rng: np.random.Generator,
) -> list[Rate]:
    counts = np.zeros((len(EFFECTS), 3))
    for run in range(runs):
        drawn = rng.integers(0, len(base), rows)
        pairs = (run + np.arange(cells)) % base.shape[1]
        signs = rng.choice([-1.0, 1.0], (1 if centred else rows, cells))
        before, change = base[drawn][:, pairs], noise[drawn][:, pairs] * signs
        counts += _outcomes(before, change, tolerance, run)
    spread = float(noise.std(ddof=1))
    return [
        Rate(kind, spread, cells, effect, *(float(share) for share in counts[place] / runs))
        for place, effect in enumerate(EFFECTS)
    ]


def _outcomes(before: Array, change: Array, tolerance: float, seed: int) -> Array:
    """One simulated run under every effect on its first cell.

    Returns:
        Shape (effects, 3), 0 or 1: the gate fails, the plain threshold is passed, the first cell
        is called improved.
    """
    shifted = change[:, :1] + np.log1p(EFFECTS)
    columns = np.concatenate([change, shifted, -shifted], axis=1)
    p = permutation_p(columns, resamples=FLIPS, seed=seed)
    cells = change.shape[1]
    rises, falls = p[cells : cells + len(EFFECTS)], p[cells + len(EFFECTS) :]
    found = np.zeros((len(EFFECTS), 3))
    for place, rise in enumerate(rises):
        changed = change.copy()
        changed[:, 0] = shifted[:, place]
        ratios = np.exp(changed.mean(axis=0))
        means = np.exp(before + changed).mean(axis=0) / np.exp(before).mean(axis=0)
        adjusted = holm([rise, *p[1:cells]])
        # The other cells did not fall: their p on that side is not what is looked at here.
        better = holm([falls[place], *[1.0] * (cells - 1)])[0]
        found[place] = (
            any(regressed(*each, tolerance) for each in zip(adjusted, ratios, strict=True)),
            (means > 1 + PLAIN).any(),
            better < ALPHA and ratios[0] < 1 / (1 + tolerance),
        )
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
