"""Train a LoRA adapter on a 4-bit base (QLoRA, Dettmers et al. 2023, arXiv:2305.14314)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType

from harness.core import Adaptation, Example, Strategy, TrainingSettings, TrainingSpec
from harness.data.selection import Curriculum, Subset, choose, make_stages
from harness.training.settings import ROWS, TRAINING


@dataclass(frozen=True)
class QLoRA(TrainingSettings, Strategy):
    """Training on the pool or a part of it; the seed sets initialization and row order.

    Attributes:
        subset: which rows of the pool are trained on; None for all.
        curriculum: the stages of a training run; None for one.
    """

    subset: Subset | None = None
    curriculum: Curriculum | None = None

    name = "qlora"
    checks = MappingProxyType({**TRAINING, **ROWS})

    @property
    def stochastic(self) -> bool:
        return True

    def adapt(self, pool: Sequence[Example], seed: int) -> Adaptation:
        rows = choose(pool, self.subset)
        settings = {one.name: getattr(self, one.name) for one in fields(TrainingSettings)}
        return Adaptation(
            training=TrainingSpec(
                examples=rows,
                settings=TrainingSettings(**(settings | {"seed": seed})),
                stages=make_stages(rows, self.curriculum),
            )
        )
