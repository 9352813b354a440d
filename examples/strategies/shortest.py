"""A strategy with a setting: show the shortest rows of the pool before every question.

adaptbench run --strategy=zeroshot,shortest --set 'shortest.n=[2,4]'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adaptbench import Adaptation, Example, Strategy


@dataclass(frozen=True)
class Shortest(Strategy):
    """The rows with the shortest outputs.

    Attributes:
        n: how many are shown.
    """

    n: int = 2

    name = "shortest"

    @property
    def label(self) -> str:
        return f"shortest-n{self.n:02d}"

    def adapt(self, pool: Sequence[Example], seed: int) -> Adaptation:
        ordered = sorted(pool, key=lambda row: (len(row.output), row.id))
        return Adaptation(demonstrations=tuple(ordered[: self.n]))
