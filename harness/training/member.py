"""An adapter of a group while it is trained, and what it is resumed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import DivergenceError
from harness.models.encoding import Encoded
from harness.models.loading import LoadedModel
from harness.training import checkpoints
from harness.training.callback import prune_best
from harness.training.collation import batches_of
from harness.training.grouped import Share
from harness.training.schedule import at_steps
from harness.training.state import TrainingState
from harness.training.train import Job

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.optim import Optimizer

KEPT = "joint.pt"  # what an adapter of a group is resumed from


@dataclass(frozen=True, eq=False)
class Order:
    """An adapter that is to be trained: what, where to, and where its checkpoints lie."""

    job: Job
    draft: Path
    work: Path


@dataclass
class Member:
    """An adapter of a group while it is trained.

    Attributes:
        order: what was asked for.
        place: its number in the group.
        state: of its training run.
        left_out: ids of rows that were too long.
        parameters: its matrices.
        optimizer: of these.
        rates: the learning rate of every step.
        generator: of its dropout.
        loaded: the model with this adapter, as evaluations take it.
        done: steps that it has behind it.
        error: why it ended early.
        evaluate: the steps after which it is evaluated.
        save: the steps after which it is saved.
    """

    order: Order
    place: int
    state: TrainingState
    left_out: list[str]
    parameters: list[nn.Parameter]
    optimizer: Optimizer
    rates: list[float]
    generator: torch.Generator
    loaded: LoadedModel
    done: int = 0
    error: DivergenceError | None = None
    evaluate: frozenset[int] = field(default_factory=frozenset)
    save: frozenset[int] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        total, settings = len(self.state.steps), self.state.settings
        self.evaluate = at_steps(settings.eval_steps, total)
        self.save = at_steps(settings.save_steps, total) - {total}

    @property
    def active(self) -> bool:
        """Whether it has steps before it."""
        return self.error is None and self.done < len(self.state.steps)

    def batches(self) -> list[list[Encoded]]:
        """The rows of its next step."""
        state = self.state
        return batches_of(state.steps[self.done], state.rows, state.spec.device == "cpu")

    def share(self, batch: Sequence[Encoded]) -> Share:
        """What it has of a batch in which these rows are its own."""
        dropout = float(self.state.settings.lora_dropout)
        return Share(self.place, len(batch), max(map(len, batch)), dropout, self.generator)


def dropout_of(state: TrainingState) -> torch.Generator:
    """The generator of an adapter's dropout, at the state that it has when it is trained alone.

    There transformers' Trainer seeds torch's own generator, and torch's DataLoader takes a number
    from it before the first step.
    """
    import torch

    generator = torch.Generator(device=state.spec.device)
    generator.manual_seed(state.settings.seed)
    if state.spec.device == "cpu":
        torch.empty((), dtype=torch.int64).random_(generator=generator)
    return generator


def save(member: Member) -> None:
    """Write what an adapter is resumed from, after the step that it made last."""
    import torch

    state = member.state
    folder = state.folder / f"checkpoint-{member.done}"
    folder.mkdir(parents=True, exist_ok=True)
    kept = {
        "weights": [matrix.detach().cpu() for matrix in member.parameters],
        "optimizer": member.optimizer.state_dict(),
        "generator": member.generator.get_state(),
        "log": state.log,
    }
    torch.save(kept, folder / KEPT)
    checkpoints.mark(folder, round(state.seconds, 3))
    checkpoints.prune(state.folder, state.settings.save_total_limit)
    prune_best(state)


def resume(member: Member) -> None:
    """Bring an adapter to where its latest complete checkpoint left it, if it has one."""
    import torch

    state = member.state
    start = checkpoints.newest(state.folder)
    if start is None:
        return
    kept = torch.load(start / KEPT, weights_only=True)
    with torch.no_grad():
        for matrix, saved in zip(member.parameters, kept["weights"], strict=True):
            matrix.copy_(saved)
    member.optimizer.load_state_dict(kept["optimizer"])
    member.generator.set_state(kept["generator"])
    state.log = list(kept["log"])
    member.done = len(state.losses)
    state.resumed_from = checkpoints.step_of(start)
    state.seconds = checkpoints.seconds(start)
