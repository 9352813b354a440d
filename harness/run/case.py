"""A case: one pytest parameter, before any model has been looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.core import (
    Adaptation,
    DecodingSpec,
    Observed,
    PromptTemplate,
    Quantization,
    Strategy,
    TrainingSettings,
    TrainingSpec,
)
from harness.judging.rubric import Rubric
from harness.models.sources import Source

AS_TRAINED = "trained"


def as_suffix(score_as: str) -> str:
    """What a name ends with where an adapter is not scored as it was trained."""
    return "" if score_as == AS_TRAINED else f"-{score_as}"


@dataclass(frozen=True)
class Judging:
    """A judge, what it is asked, and the case whose answers it rates.

    ``other`` is the case whose answers it compares them with; None where it rates each alone.
    """

    source: Source
    dtype: str
    rubric: Rubric
    answered: Case
    other: Case | None = None

    @property
    def remote(self) -> bool:
        """Whether the judge stands behind an endpoint, rather than being a model here."""
        return self.source.kind == "endpoint"


@dataclass(frozen=True)
class Case:
    """One pytest parameter: what to measure, before any model has been looked at."""

    id: str
    source: Source
    model_name: str
    quantization: Quantization
    dtype: str
    device: str
    adapter: Path | None
    template: PromptTemplate
    strategy: Strategy
    variant: str  # the strategy's label, and its settings where several variants have that label
    seed: int | None
    adaptation: Adaptation
    settings: TrainingSettings  # how 4-bit weights are loaded, with or without training
    decoding: DecodingSpec | None = None  # how answers are written; None: likelihoods
    candidates: tuple[DecodingSpec, ...] = ()  # decodings of which the best is chosen first
    score_as: str = AS_TRAINED
    judging: Judging | None = None  # who rates its answers

    @property
    def label(self) -> str:
        """The variant's label, and how the adapter is scored if not as trained."""
        return self.variant + as_suffix(self.score_as)

    @property
    def short(self) -> str:
        """Label, decoding and seed, for a line that must be short."""
        seed = None if self.seed is None else f"s{self.seed}"
        judged = None if self.judging is None else "judged"
        judged = f"vs-{self.against}" if self.against else judged
        return "-".join(part for part in (self.label, self.decoding_name, seed, judged) if part)

    @property
    def against(self) -> str:
        """The label of what its answers are compared with; empty where they are not."""
        other = None if self.judging is None else self.judging.other
        return "" if other is None else other.label

    @property
    def observes(self) -> Observed:
        """What is observed of each row."""
        if self.judging is not None:
            return "preference" if self.against else "rating"
        return "likelihood" if self.decoding is None else "answer"

    @property
    def decoding_name(self) -> str:
        """The decoding's name; empty where there is none."""
        return "" if self.decoding is None else self.decoding.name

    @property
    def training(self) -> TrainingSpec | None:
        return self.adaptation.training
