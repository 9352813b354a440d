"""One training run: transformers' Trainer on steps that were planned beforehand.

The Trainer keeps the optimizer, clips gradients and writes what a training run is resumed from.
Ours are the steps (:mod:`harness.training.schedule`), the gradients of the loss on answers alone
(:mod:`harness.training.lanes`), the evaluations (:mod:`harness.training.evaluation`), and what
happens after a step (:mod:`harness.training.callback`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.models.attention import short_row_attention
from harness.models.loading import LoadedModel, quiet
from harness.training import checkpoints
from harness.training.callback import StepCallback, keep_if_best
from harness.training.collation import StepBatches, collate_step
from harness.training.evaluation import evaluate
from harness.training.lanes import Lanes
from harness.training.optimizers import optimizer_for
from harness.training.schedule import learning_rates
from harness.training.state import TrainingState

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor, nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LambdaLR
    from transformers import TrainerControl, TrainerState, TrainingArguments


def run(state: TrainingState) -> None:
    """Train to the end, from the latest complete checkpoint if there is one.

    The model is left with the weights of the last step; ``state.best`` says which evaluation was
    the best, and its adapter lies in ``state.best_folder``.

    Raises:
        DivergenceError: the loss was not finite.
    """
    import transformers

    start = checkpoints.newest(state.folder)
    if start is not None:
        state.resumed_from = checkpoints.step_of(start)
        state.seconds = checkpoints.seconds(start)
    trainer_class, callback_class = _classes()
    with quiet():
        trainer = trainer_class(
            model=state.model,
            args=arguments_of(state),
            train_dataset=state.steps,
            data_collator=lambda steps: collate_step(
                steps[0], state.rows, state.spec.device == "cpu"
            ),
        )
        trainer.training_run = state
        trainer.loaded = LoadedModel(state.spec, state.model, state.encoder)
        counts = [sum(s.stage == i for s in state.steps) for i in range(len(state.parts))]
        trainer.rates = learning_rates(state.parts, counts, state.settings)
        trainer.add_callback(callback_class(state, trainer))
        trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
        trainer.train(resume_from_checkpoint=None if start is None else str(start))


class AnswerTraining:
    """What is ours of a Trainer: planned steps, answers alone, evaluations by our scorer.

    Its base class would have to be imported here: :func:`_classes` puts the two together. The
    methods are those that transformers' Trainer calls.
    """

    training_run: TrainingState
    loaded: LoadedModel
    rates: list[float]
    row_ids: list[str]
    lanes: Lanes | None = None
    # What transformers' Trainer has.
    args: TrainingArguments
    accelerator: Any  # accelerate's, which has no types
    control: TrainerControl
    state: TrainerState
    model: PeftModel
    optimizer: Optimizer
    log: Callable[[dict[str, float]], None]

    def training_step(
        self, model: nn.Module, inputs: StepBatches, num_items_in_batch: object = None
    ) -> Tensor:
        """Add up the gradients of a step's batches and return its loss, nats per label."""
        model.train()
        self.row_ids = inputs["row_ids"]
        if self.lanes is None:  # not before, since the Trainer changes the model when it begins
            run = self.training_run
            self.lanes = Lanes(self.model, run.spec, run.settings)
        with short_row_attention(model, training=True):
            return self.lanes.add_gradients(
                model, inputs["batches"], inputs["count"], self.accelerator.backward
            )

    def create_scheduler(
        self, num_training_steps: int, optimizer: Optimizer | None = None
    ) -> LambdaLR:
        """Make the scheduler that gives each step the rate that was planned for it."""
        import torch

        optimizer = self.optimizer if optimizer is None else optimizer
        peak, rates = self.args.learning_rate, self.rates
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: rates[min(step, len(rates) - 1)] / peak
        )
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def evaluate(self, *args: object, **kwargs: object) -> dict[str, float]:
        """Evaluate, log the point of the learning curve, and keep the adapter if it is the best."""
        self.control.should_evaluate = False
        found = evaluate(self.training_run, self.loaded)
        self.log({f"eval_{name}": value for name, value in found.items()})
        self.training_run.log = self.state.log_history
        keep_if_best(self.training_run, self.state.global_step)
        return found

    def _save(self, output_dir: str | None = None, state_dict: object = None) -> None:
        self.training_run.save(Path(str(output_dir)))


@cache
def _classes() -> tuple[Any, Any]:
    """The trainer's and the callback's class; Any, since their bases are known at run time only."""
    from transformers import Trainer, TrainerCallback

    class AnswerTrainer(AnswerTraining, Trainer):  # type: ignore[misc]
        """Transformers' Trainer with what is ours."""

    class Callback(StepCallback, TrainerCallback):  # type: ignore[misc]
        """Transformers' callback with what is ours."""

    return AnswerTrainer, Callback


def arguments_of(state: TrainingState) -> TrainingArguments:
    """The settings of a training run as transformers has them."""
    from transformers import TrainingArguments

    settings, cpu = state.settings, state.spec.device == "cpu"
    arguments = TrainingArguments(
        output_dir=str(state.folder),
        # A step is one item of the data set, whatever batches it is made of.
        per_device_train_batch_size=1,
        gradient_accumulation_steps=1,
        num_train_epochs=1,
        train_sampling_strategy="sequential",
        learning_rate=max(part.learning_rate for part in state.parts),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim=optimizer_for(settings.optim, state.spec.device),
        gradient_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        eval_on_start=settings.eval_steps is not None and state.resumed_from is None,
        seed=settings.seed,
        use_cpu=cpu,
        dataloader_pin_memory=not cpu,
        remove_unused_columns=False,
        save_strategy="no",  # the callback says when
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
    )
    # One device trains: on machines with more, data parallelism would change the batches.
    assert arguments.device is not None
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments
