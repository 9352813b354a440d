"""Train a LoRA adapter on a 4-bit base (QLoRA, Dettmers et al. 2023, arXiv:2305.14314)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.core import Adaptation, Example, Strategy, TrainingSpec


@dataclass(frozen=True)
class QLoRA(Strategy):
    """One epoch over the whole pool; the seed sets the adapter's initialization and row order."""

    name = "qlora"

    @property
    def stochastic(self) -> bool:
        return True

    def adapt(self, pool: Sequence[Example], seed: int) -> Adaptation:
        return Adaptation(training=TrainingSpec(examples=tuple(pool), seed=seed))
