"""Train a LoRA adapter on a 4-bit base (QLoRA, Dettmers et al. 2023, arXiv:2305.14314)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.core import Adaptation, Example, Strategy, TrainingSettings, TrainingSpec
from harness.data.selection import Curriculum, Subset, choose, make_stages

if TYPE_CHECKING:
    from harness.config.options import Options


@dataclass(frozen=True)
class QLoRA(Strategy):
    """Training on the pool or a part of it; the seed sets initialization and row order."""

    settings: TrainingSettings = TrainingSettings()
    subset: Subset | None = None
    curriculum: Curriculum | None = None

    name = "qlora"

    @classmethod
    def variants(cls, options: Options) -> Iterable[QLoRA]:
        yield cls(options.qlora, options.subset, options.curriculum)

    @property
    def stochastic(self) -> bool:
        return True

    def adapt(self, pool: Sequence[Example], seed: int) -> Adaptation:
        rows = choose(pool, self.subset)
        return Adaptation(
            training=TrainingSpec(
                examples=rows,
                settings=replace(self.settings, seed=seed),
                stages=make_stages(rows, self.curriculum),
            )
        )
