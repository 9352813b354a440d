"""One training: transformers' Trainer on steps that were planned beforehand.

The Trainer keeps the optimizer, clips gradients and writes what a training can be resumed from.
Ours are the steps (:mod:`harness.training.schedule`), the loss on answers alone
(:mod:`harness.scoring.losses`), and watching: at every evaluation the model is scored as it will
be scored in the end.
"""

from __future__ import annotations

import math
import shutil
import time
from typing import Any

from harness.config.training_settings import PLAIN_KIN
from harness.core import TrainingSettings
from harness.errors import DivergenceError
from harness.files import publish_folder, temporary
from harness.metrics.perplexity import summarize
from harness.models.attention import short_row_attention
from harness.models.loading import LoadedModel, quiet
from harness.scoring.losses import mean_loss
from harness.scoring.score import scorer_for, to_scores
from harness.training import checkpoints
from harness.training.collation import CPU_TOKENS, collate_step
from harness.training.schedule import at_steps, learning_rates
from harness.training.state import Fit


def run(fit: Fit) -> None:
    """Train to the end, from the latest complete checkpoint if there is one.

    The model is left with the weights of the last step; ``fit.best`` says which evaluation was
    the best, and its adapter lies in ``fit.best_folder``.

    Raises:
        DivergenceError: the loss was not finite.
    """
    import transformers

    start = checkpoints.newest(fit.folder)
    if start is not None:
        fit.resumed_from = checkpoints.step_of(start)
        fit.seconds = float(checkpoints.notes(start)["seconds"])
    trainer_class, watch_class = _classes()
    with quiet():
        trainer = trainer_class(
            model=fit.model,
            args=_arguments(fit),
            train_dataset=fit.steps,
            data_collator=lambda steps: collate_step(
                steps[0], fit.rows, CPU_TOKENS if fit.spec.device == "cpu" else None
            ),
        )
        trainer.fit = fit
        trainer.loaded = LoadedModel(fit.spec, fit.model, fit.encoder)
        trainer.rates = learning_rates(
            fit.parts,
            [sum(s.stage == i for s in fit.steps) for i in range(len(fit.parts))],
            fit.settings,
        )
        trainer.add_callback(watch_class(fit, trainer))
        trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
        trainer.train(resume_from_checkpoint=None if start is None else str(start))


def _classes() -> tuple[Any, Any]:
    import torch
    from transformers import Trainer, TrainerCallback

    class AnswerTrainer(Trainer):  # type: ignore[misc]
        """Trains on planned steps, on the answers alone, and is evaluated by our scorer."""

        fit: Fit
        loaded: LoadedModel
        rates: list[float]

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            model.train()
            self.row_ids = inputs["row_ids"]
            total = torch.zeros((), device=self.args.device)
            for batch in inputs["batches"]:
                ids = batch["input_ids"]
                with short_row_attention(model, training=True):
                    loss = mean_loss(model, ids, batch["labels"], inputs["count"])
                    self.accelerator.backward(loss)
                total += loss.detach()
            return total

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            optimizer = self.optimizer if optimizer is None else optimizer
            peak, rates = self.args.learning_rate, self.rates
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda step: rates[min(step, len(rates) - 1)] / peak
            )
            self._created_lr_scheduler = True
            return self.lr_scheduler

        def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
            self.control.should_evaluate = False
            metrics = watch(self.fit, self.loaded)
            self.log({f"eval_{name}": value for name, value in metrics.items()})
            self.fit.log = self.state.log_history
            _keep_if_best(self.fit, self.state.global_step)
            return metrics

        def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
            # Asking to save the embeddings if they changed would ask the hub about them.
            self.model.save_pretrained(str(output_dir), save_embedding_layers=False)

    class Watch(TrainerCallback):  # type: ignore[misc]
        """Says what is due after a step, shows progress, stops at a loss that is not finite."""

        def __init__(self, fit: Fit, trainer: Any) -> None:
            total, settings = len(fit.steps), fit.settings
            self.fit, self.trainer, self.before = fit, trainer, fit.seconds
            self.started = time.perf_counter()
            self.evaluate = at_steps(settings.eval_steps, total)
            # After the last step, the adapter itself is written.
            self.save = at_steps(settings.save_steps, total) - {total}

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.fit.seconds = self.before + time.perf_counter() - self.started
            control.should_evaluate = state.global_step in self.evaluate
            control.should_save = state.global_step in self.save

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            self.fit.log = state.log_history
            if not logs or "loss" not in logs:
                return
            self.fit.progress(state.global_step, state.max_steps, f"steps  loss {logs['loss']:.3f}")
            if not math.isfinite(logs["loss"]):
                raise DivergenceError(_diverged(self.fit, state, logs, self.trainer.row_ids))

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            folder = self.fit.folder
            seconds = self.before + time.perf_counter() - self.started
            done = folder / f"checkpoint-{state.global_step}"
            checkpoints.mark(done, {"seconds": round(seconds, 3)})
            checkpoints.prune(folder, self.fit.settings.save_total_limit)
            best = self.fit.best
            for other in folder.glob("best-*"):
                if best is not None and other != self.fit.best_folder(best.step):
                    shutil.rmtree(other, ignore_errors=True)

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.fit.seconds = self.before + time.perf_counter() - self.started

    return AnswerTrainer, Watch


def _diverged(fit: Fit, state: Any, logs: dict[str, Any], row_ids: list[str]) -> str:
    shown = ", ".join(map(repr, row_ids[:8])) + (", …" if len(row_ids) > 8 else "")
    return (
        f"training on {fit.spec.name}: the loss is {logs['loss']} at step {state.global_step} of "
        f"{state.max_steps} (learning rate {logs.get('learning_rate', 0.0):.3g}, rows {shown}); "
        f"lower qlora.learning_rate, or look at these rows"
    )


def watch(fit: Fit, loaded: LoadedModel) -> dict[str, float]:
    """Likelihood the rows that the training is watched on, by the scorer of all other numbers.

    Returns:
        ``loss``, nats per scored token, and ``mean_perplexity`` of the test rows; the same of
        the held-out rows where there are any.
    """
    fit.model.eval()
    try:
        found = {}
        for prefix, name, rows in (
            ("", "mean_perplexity", fit.test),
            ("holdout_", "holdout_perplexity", fit.holdout),
        ):
            if rows:
                nlls = scorer_for(fit.spec, "fast")(loaded, rows, lambda done: None).nlls
                found[f"{prefix}loss"] = sum(nlls) / sum(len(row.answer) for row in rows)
                found[name] = summarize(to_scores(rows, nlls)).mean_perplexity
        return found
    finally:
        fit.model.train()


def _keep_if_best(fit: Fit, step: int) -> None:
    """Keep the adapter if its evaluation, the latest, is the best so far."""
    best = fit.best
    if best is None or best.step != step:
        return
    target = fit.best_folder(step)
    draft = temporary(target)
    fit.model.save_pretrained(str(draft), save_embedding_layers=False)
    publish_folder(draft, target)


def optimizer_name(settings: TrainingSettings, device: str) -> str:
    """The optimizer that is used: paged and 8-bit ones need CUDA."""
    return settings.optim if device == "cuda" else PLAIN_KIN.get(settings.optim, settings.optim)


def _arguments(fit: Fit) -> Any:
    from transformers import TrainingArguments

    settings, cpu = fit.settings, fit.spec.device == "cpu"
    arguments = TrainingArguments(
        output_dir=str(fit.folder),
        # A step is one item of the data set, whatever batches it is made of.
        per_device_train_batch_size=1,
        gradient_accumulation_steps=1,
        num_train_epochs=1,
        train_sampling_strategy="sequential",
        learning_rate=max(part.learning_rate for part in fit.parts),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim=optimizer_name(settings, fit.spec.device),
        gradient_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        eval_on_start=settings.eval_steps is not None and fit.resumed_from is None,
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
