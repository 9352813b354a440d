"""Which rows of the pool are trained on, and in what order: pure functions.

Rows are measured by their ``length`` (characters of the answer, which is what is learnt) and
their ``score`` (what the data set says of their quality). Several measures are mixed by rank, so
that neither unit nor outliers matter: for row i and measure m with weight w_m,

    value_i = Σ_m  w_m · rank_m(i) / (n − 1)

where rank_m counts from 0 (least) to n − 1, and equal rows share the mean of their ranks. A
negative weight prefers what is less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from harness.core import Example, Stage
from harness.errors import OptionError
from harness.naming import counted

MEASURES = ("length", "score")
Weights = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Subset:
    """Train on the ``top`` rows only: those with the largest mix of measures.

    Attributes:
        top: how many rows.
        by: ``length`` (characters of the answer), ``score`` (the row's field), or a table of
            weights of both; a negative weight prefers less.
    """

    top: int
    by: Weights = (("length", 1.0),)


@dataclass(frozen=True)
class StagePlan:
    """One stage of a curriculum, and what differs from the rest of the training run.

    Attributes:
        levels: those it trains on; 1 is the easiest.
        num_train_epochs: how often every row of these levels is trained on.
        learning_rate: the peak of its own warm-up and decay.
    """

    levels: tuple[int, ...]
    num_train_epochs: float | None = None
    learning_rate: float | None = None


@dataclass(frozen=True)
class Curriculum:
    """Train in stages, from the least to the largest mix of measures.

    Attributes:
        levels: parts of equal size.
        by: what orders the rows, as in ``[subset]``.
        stages: which levels each stage trains on; without any, each level is a stage, in order.
    """

    levels: int = 2
    by: Weights = (("length", 1.0),)
    stages: tuple[StagePlan, ...] = ()

    def __post_init__(self) -> None:
        for stage in self.stages:
            if max(stage.levels) > self.levels:
                raise ValueError(
                    f"a stage trains on level {max(stage.levels)}, and there are only "
                    f"{self.levels}; raise levels"
                )


def measure(example: Example, name: str) -> float:
    """A row's length or score.

    Raises:
        OptionError: the row has no score.
    """
    if name == "length":
        return float(len(example.output))
    if example.score is None:
        raise OptionError(
            f"by score: training row {example.id!r} has no score; give every row a field "
            f'"score", or choose by length'
        )
    return example.score


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 0 to n − 1, ascending; equal values share the mean of their ranks."""
    order = sorted(range(len(values)), key=lambda index: values[index])
    found = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for index in order[start : end + 1]:
            found[index] = (start + end) / 2
        start = end + 1
    return found


def ascending(rows: Sequence[Example], by: Weights) -> list[Example]:
    """Rows from the least to the largest mix of measures; equal ones by their ids.

    Raises:
        OptionError: a row without a score, where the score counts.
    """
    last = max(1, len(rows) - 1)
    mixed = [0.0] * len(rows)
    for name, weight in by:
        for index, rank in enumerate(ranks([measure(row, name) for row in rows])):
            mixed[index] += weight * rank / last
    order = sorted(range(len(rows)), key=lambda index: (mixed[index], rows[index].id))
    return [rows[index] for index in order]


def choose(pool: Sequence[Example], subset: Subset | None) -> tuple[Example, ...]:
    """The rows to train on, in the pool's order.

    Raises:
        OptionError: the pool has fewer rows than asked for, or a row has no score.
    """
    if subset is None:
        return tuple(pool)
    if subset.top > len(pool):
        raise OptionError(
            f"subset.top={subset.top}: the training pool has only {counted(len(pool), 'row')}; "
            f"use a number up to {len(pool)}, or a larger --train-data"
        )
    chosen = {row.id for row in ascending(pool, subset.by)[-subset.top :]}
    return tuple(row for row in pool if row.id in chosen)


def split_levels(rows: Sequence[Example], levels: int, by: Weights) -> list[list[Example]]:
    """Cut rows, ordered from the least to the largest, into parts of (nearly) equal size.

    Raises:
        OptionError: fewer rows than levels.
    """
    if levels > len(rows):
        raise OptionError(
            f"curriculum.levels={levels}: there is not a row for each, but only "
            f"{counted(len(rows), 'row')}; use fewer"
        )
    ordered = ascending(rows, by)
    bounds = [len(ordered) * level // levels for level in range(levels + 1)]
    return [ordered[low:high] for low, high in pairwise(bounds)]


def make_stages(rows: Sequence[Example], curriculum: Curriculum | None) -> tuple[Stage, ...]:
    """The stages of a curriculum over ``rows``; none where there is no curriculum.

    Raises:
        OptionError: fewer rows than levels, or a row without a score.
    """
    if curriculum is None:
        return ()
    parts = split_levels(rows, curriculum.levels, curriculum.by)
    plans = curriculum.stages or tuple(StagePlan((level + 1,)) for level in range(len(parts)))
    return tuple(
        Stage(
            examples=tuple(row for level in plan.levels for row in parts[level - 1]),
            num_train_epochs=plan.num_train_epochs,
            learning_rate=plan.learning_rate,
        )
        for plan in plans
    )
