"""Ask plainly: no demonstrations, no training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.core import Adaptation, Example, Strategy


@dataclass(frozen=True)
class ZeroShot(Strategy):
    """The model as it is; what other strategies are compared with unless asked otherwise."""

    name = "zeroshot"

    @property
    def title(self) -> str:
        return "zero-shot"

    def adapt(self, pool: Sequence[Example], seed: int) -> Adaptation:
        return Adaptation()
