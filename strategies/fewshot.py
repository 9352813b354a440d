"""Show the model k examples before the question."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from harness.core import Adaptation, Example, Strategy
from harness.errors import OptionError

if TYPE_CHECKING:
    from harness.config.options import Options


AHEAD = 32  # are drawn at once, since runs with several k ask again


class _Pool:
    """Rows, with what was drawn of them."""

    def __init__(self, rows: Sequence[Example]) -> None:
        self.rows = rows
        self._drawn: dict[int, list[Example]] = {}
        self._directions: dict[str | None, _Pool] = {}

    def directions(self) -> dict[str | None, _Pool]:
        """The rows of each direction of translation; None: of those without one."""
        if not self._directions:
            found: dict[str | None, list[Example]] = {}
            for example in self.rows:
                found.setdefault(example.tag("direction"), []).append(example)
            self._directions = {name: _Pool(rows) for name, rows in found.items()}
        return self._directions

    def draw(self, seed: int, k: int) -> list[Example]:
        if len(self._drawn.get(seed, ())) < min(k, len(self.rows)):
            self._drawn[seed] = heapq.nsmallest(
                max(k, AHEAD), self.rows, key=lambda example: _place(seed, example)
            )
        return self._drawn[seed][:k]


_IN_USE: list[_Pool] = []  # the pool of the run


def _known(pool: Sequence[Example]) -> _Pool:
    """The pool with what was drawn of it before, if it is the one that is asked all the time."""
    if not isinstance(pool, tuple):  # it may change
        return _Pool(pool)
    if not _IN_USE or _IN_USE[0].rows is not pool:
        _IN_USE[:] = [_Pool(pool)]
    return _IN_USE[0]


def sample(pool: Sequence[Example], seed: int, k: int) -> list[Example]:
    """Return the first ``k`` examples of a permutation of ``pool`` keyed on (seed, example id).

    Each example's place depends on nothing but its own id and the seed: more examples in the
    pool, or another order of them, leave the order of the rest as it was, and the draw of k is a
    prefix of the draw of k + 1.
    """
    return _known(pool).draw(seed, k)


def _place(seed: int, example: Example) -> bytes:
    return hashlib.sha256(f"{seed}\n{example.id}".encode()).digest()


def alternate(pool: Sequence[Example], seed: int, k: int) -> list[Example]:
    """Draw ``k`` examples whose directions of translation take turns.

    The direction of the very first draw goes first, so that which direction leads is part of
    what the seed decides.
    """
    known = _known(pool)
    (first,) = known.draw(seed, 1)
    parts = known.directions()
    order = sorted(parts, key=lambda name: (name != first.tag("direction"), str(name)))
    columns = [parts[name].draw(seed, k) for name in order]
    turns = (example for row in zip_longest(*columns) for example in row if example is not None)
    return [example for example, _ in zip(turns, range(k), strict=False)]


@dataclass(frozen=True)
class FewShot(Strategy):
    """``k`` demonstrations, chosen at random, alternating in direction, or named by the user."""

    k: int
    select: str = "random"
    draw: str = "run"
    demo_ids: tuple[str, ...] = ()

    name = "fewshot"
    flags = ("k", "select", "draw", "demo_ids")

    @classmethod
    def variants(cls, options: Options) -> Iterable[FewShot]:
        for select in options.select:
            if select == "fixed":
                for k in options.k if options.given("k") else (len(options.demo_ids),):
                    yield cls(k, select, demo_ids=options.demo_ids)
            else:
                for how in options.draw:
                    for k in options.k:
                        yield cls(k, select, how)

    @property
    def label(self) -> str:
        row = "-row" if self.draw == "row" else ""
        return f"{self.name}-{self.select}{row}-k{self.k:02d}"

    @property
    def stochastic(self) -> bool:
        return self.select != "fixed"

    def adapt(self, pool: Sequence[Example], seed: int) -> Adaptation:
        if self.select == "fixed":
            chosen = self._named(pool)
        elif self.k > len(pool):
            raise OptionError(
                f"--k={self.k}: the training pool has only {len(pool)} rows to show; "
                f"use a k of at most {len(pool)}, or a larger --train-data"
            )
        elif self.select == "bidirectional":
            chosen = self._alternated(pool, seed)
        else:
            chosen = sample(pool, seed, self.k)
        return Adaptation(demonstrations=tuple(chosen))

    def _alternated(self, pool: Sequence[Example], seed: int) -> list[Example]:
        counts = {name: len(part.rows) for name, part in _known(pool).directions().items()}
        if None in counts or len(counts) < 2:
            raise OptionError(
                f"--select=bidirectional: needs training rows in two directions of translation, "
                f"found {counts.get(None, 0)} of {len(pool)} rows without a recognizable direction "
                f"and {len(set(counts) - {None})} direction(s); use --select=random, or give each "
                f'row a "direction" field'
            )
        needed = (self.k + 1) // 2
        short = min(counts, key=lambda name: counts[name])
        if counts[short] < needed:
            raise OptionError(
                f"--k={self.k} with --select=bidirectional: needs {needed} rows of each direction, "
                f"the training pool has {counts[short]} of direction {short!r}"
            )
        return alternate(pool, seed, self.k)

    def _named(self, pool: Sequence[Example]) -> list[Example]:
        if self.k > len(self.demo_ids):
            raise OptionError(
                f"--k={self.k} with --select=fixed: --demo-ids names only "
                f"{len(self.demo_ids)} rows; name at least {self.k}"
            )
        by_id = {example.id: example for example in pool}
        for name in self.demo_ids:
            if name not in by_id:
                raise OptionError(
                    f"--demo-ids: no row {name!r} in the training pool "
                    f"(it may have been excluded as a near copy of a test row)"
                )
        return [by_id[name] for name in self.demo_ids[: self.k]]
