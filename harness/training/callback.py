"""What happens between the steps of a training run: evaluating, saving, showing, stopping."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.errors import DivergenceError
from harness.files import publish_folder, temporary
from harness.training import checkpoints
from harness.training.schedule import at_steps
from harness.training.state import TrainingState

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState

    from harness.training.trainer import AnswerTraining


class StepCallback:
    """Transformers' callback, but for its base class, which would have to be imported here.

    Says what is due after a step, shows progress, stops at a loss that is not finite. The
    arguments of its methods are those that transformers calls every callback with.

    Args:
        state: the training run.
        trainer: the trainer, which knows the rows of the step.
    """

    def __init__(self, state: TrainingState, trainer: AnswerTraining) -> None:
        total, settings = len(state.steps), state.settings
        self.training_run, self.trainer, self.before = state, trainer, state.seconds
        self.started = time.perf_counter()
        self.evaluate = at_steps(settings.eval_steps, total)
        # After the last step, the adapter itself is written.
        self.save = at_steps(settings.save_steps, total) - {total}

    def _seconds(self) -> float:
        return self.before + time.perf_counter() - self.started

    def on_step_end(
        self, args: object, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Ask for what is due."""
        self.training_run.seconds = self._seconds()
        control.should_evaluate = state.global_step in self.evaluate
        control.should_save = state.global_step in self.save

    def on_log(
        self,
        args: object,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **_: object,
    ) -> None:
        """Show the step.

        Raises:
            DivergenceError: its loss is not finite.
        """
        self.training_run.log = state.log_history
        if not logs or "loss" not in logs:
            return
        note = f"steps  loss {logs['loss']:.3f}"
        self.training_run.progress(state.global_step, state.max_steps, note)
        if not math.isfinite(logs["loss"]):
            step, rate = state.global_step, logs.get("learning_rate", 0.0)
            rows = self.trainer.row_ids
            raise diverged(self.training_run, step, logs["loss"], rate, rows)

    def on_save(
        self, args: object, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Mark the checkpoint as complete, and remove what it replaces."""
        folder = self.training_run.folder
        done = folder / f"checkpoint-{state.global_step}"
        checkpoints.mark(done, round(self._seconds(), 3))
        checkpoints.prune(folder, self.training_run.settings.save_total_limit)
        prune_best(self.training_run)

    def on_train_end(
        self, args: object, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Stop the clock."""
        self.training_run.seconds = self._seconds()


def keep_if_best(state: TrainingState, step: int) -> None:
    """Keep the adapter if its evaluation, the latest, is the best so far."""
    best = state.best
    if best is None or best.step != step:
        return
    target = state.best_folder(step)
    draft = temporary(target)
    state.save(draft)
    publish_folder(draft, target)


def prune_best(state: TrainingState) -> None:
    """Remove adapters that were the best once; a checkpoint knows of a better one by now."""
    best = state.best
    for other in state.folder.glob("best-*"):
        if best is not None and other != state.best_folder(best.step):
            shutil.rmtree(other, ignore_errors=True)


def diverged(
    state: TrainingState, step: int, loss: float, rate: float, row_ids: Sequence[str]
) -> DivergenceError:
    """The error of a step whose loss is not finite: with its learning rate and its rows."""
    shown = ", ".join(map(repr, row_ids[:8])) + (", …" if len(row_ids) > 8 else "")
    return DivergenceError(
        f"training on {state.spec.name}: the loss is {loss} at step {step} of {len(state.steps)} "
        f"(learning rate {rate:.3g}, rows {shown}); lower qlora.learning_rate, or look at these "
        f"rows"
    )
