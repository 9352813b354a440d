"""The state of a training run: what it is given, and what it has logged so far."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core import ModelSpec, TrainingSettings
from harness.models.encoding import Encoded, Encoder
from harness.records import Evaluation
from harness.training.schedule import Part, Step

if TYPE_CHECKING:
    from peft import PeftModel

Progress = Callable[[int, int, str], None]
ONLY = "default"  # what PEFT calls a model's only adapter
# What is logged at an evaluation, in the order of Evaluation's fields.
EVALUATED = ("loss", "mean_perplexity", "holdout_loss", "holdout_perplexity")


@dataclass
class TrainingState:
    """A training run while it goes on.

    Attributes:
        model: the base with a fresh adapter, in training mode.
        rows: every training row.
        spec: the base.
        encoder: of its tokenizer.
        settings: of the training run.
        parts: the stages, at least one.
        staged: whether the stages were asked for; else there is one over all rows.
        steps: what each optimizer step sees.
        test: rows on which the learning curve is drawn.
        holdout: rows that choose the checkpoint, instead of those of ``test``.
        folder: where checkpoints are kept until the run has ended.
        progress: called with (step, steps, a short text).
        adapter: what the model calls its adapter.
        log: what transformers' Trainer logged so far: a dict for each step and each
            evaluation.
        resumed_from: the step after which an earlier process was killed.
        seconds: how long it took, earlier processes included.
    """

    model: PeftModel
    spec: ModelSpec
    encoder: Encoder
    settings: TrainingSettings
    rows: list[Encoded]
    parts: list[Part]
    staged: bool
    steps: list[Step]
    test: list[Encoded]
    holdout: list[Encoded]
    folder: Path
    progress: Progress
    adapter: str = ONLY
    log: list[dict[str, float]] = field(default_factory=list)
    resumed_from: int | None = None
    seconds: float = 0.0

    @property
    def losses(self) -> list[float]:
        """Training loss of each step, nats per scored token."""
        return [entry["loss"] for entry in self.log if "loss" in entry]

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """The learning curve, before training and on the way."""
        return tuple(
            Evaluation(
                int(entry["step"]), *(finite(entry.get(f"eval_{name}")) for name in EVALUATED)
            )
            for entry in self.log
            if "eval_mean_perplexity" in entry
        )

    @property
    def best(self) -> Evaluation | None:
        """The evaluation with the lowest perplexity where it is chosen by; the first of equals."""
        name = "holdout_perplexity" if self.holdout else "mean_perplexity"
        known = [(getattr(point, name), point) for point in self.evaluations]
        chosen = [(value, point) for value, point in known if value is not None]
        return min(chosen, key=lambda pair: pair[0], default=(None, None))[1]

    def save(self, folder: Path) -> None:
        """Write the adapter as it is, as PEFT writes the only one of a model."""
        # Asking to save the embeddings if they changed would ask the hub about them.
        self.model.save_pretrained(
            str(folder), save_embedding_layers=False, selected_adapters=[self.adapter]
        )
        if self.adapter != ONLY:  # one of several stands in a folder of its own
            for path in (folder / self.adapter).iterdir():
                path.replace(folder / path.name)
            (folder / self.adapter).rmdir()

    def best_folder(self, step: int) -> Path:
        """Where the adapter of an evaluation that was the best so far is kept."""
        return self.folder / f"best-{step}"


def finite(value: float | None) -> float | None:
    """The value, or None where it is not finite: JSON has no NaN."""
    return value if value is not None and math.isfinite(value) else None
