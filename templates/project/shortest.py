"""A strategy of your own: show the rows with the shortest answers.

A strategy is a pure function from (training pool, seed) to an adaptation. Its fields are settings.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from adaptbench import Adaptation, Example, Strategy


@dataclass(frozen=True)
class Shortest(Strategy):
    """The n rows with the shortest answers, whatever the seed."""

    name = "shortest"
    n: int = 2

    def adapt(self, pool: Sequence[Example], seed: int) -> Adaptation:
        shown = sorted(pool, key=lambda row: (len(row.output), row.id))[: self.n]
        return Adaptation(demonstrations=tuple(shown))
