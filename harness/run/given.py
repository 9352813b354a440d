"""Answers that stand in files: cases and measurements of them, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import __version__
from harness.core import (
    Adaptation,
    Cell,
    DecodingSpec,
    Example,
    PromptTemplate,
    Strategy,
    Task,
    TrainingSettings,
)
from harness.data.predictions import read_predictions
from harness.models.sources import Source
from harness.naming import slug
from harness.records import Measurement, Provenance, Writing
from harness.run.case import Case

KIND = "given"
DECODING = DecodingSpec(KIND)
NO_PROMPT = PromptTemplate("unknown", "", "", "")


@dataclass(frozen=True)
class Given(Strategy):
    """Whatever wrote a file of answers."""

    name = "predictions"
    file: str = ""

    @property
    def label(self) -> str:
        return self.file

    def adapt(self, pool: Sequence[Example], seed: int) -> Adaptation:
        return Adaptation()


def given_cases(files: Sequence[Path]) -> list[Case]:
    """A case for each file, called by the file's name, or by its path where two have one name."""
    names = [slug(file.stem) for file in files]
    if len(set(names)) < len(names):
        names = [slug(str(file.with_suffix(""))) for file in files]
    return [
        Case(
            id=f"predictions-{name}",
            source=Source(KIND, str(file)),
            model_name="predictions",
            quantization="none",
            dtype="none",
            device="none",
            adapter=None,
            template=NO_PROMPT,
            strategy=Given(name),
            variant=name,
            seed=None,
            adaptation=Adaptation(),
            settings=TrainingSettings(),
            decoding=DECODING,
        )
        for file, name in zip(files, names, strict=True)
    ]


def is_given(case: Case) -> bool:
    """Whether a case is of answers in a file."""
    return case.source.kind == KIND


def measure_given(case: Case, cell: Cell, task: Task) -> Measurement:
    """Read the answers of a case.

    Raises:
        DataError: one line that names the file and, where it is about one, the row and the field.
    """
    return Measurement(
        cell=cell,
        observations=read_predictions(Path(case.source.reference), task.examples),
        seconds=0.0,
        provenance=Provenance(__version__, "unknown", task.pool_digest, "none"),
        writing=Writing(),
    )
