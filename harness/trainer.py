"""One training: transformers' Trainer on steps that were planned beforehand.

The Trainer keeps the optimizer, clips gradients and writes what a training can be resumed from.
Ours are the steps (:mod:`harness.schedule`), the loss on answers alone (:mod:`harness.losses`),
and watching: at every evaluation the model is scored as it will be scored in the end.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import checkpoints
from harness.attention import short_row_attention
from harness.core import ModelSpec, TrainingSettings
from harness.encoding import Encoded, Encoder
from harness.errors import DivergenceError
from harness.files import publish_folder, temporary
from harness.losses import IGNORED, mean_loss
from harness.models import LoadedModel, quiet
from harness.schedule import Part, Step, at_steps, learning_rates
from harness.scoring import scorer_for, to_scores
from harness.settings import PLAIN_KIN
from harness.stats import summarize

Progress = Callable[[int, int, str], None]


@dataclass
class Fit:
    """A training in hand.

    Attributes:
        model: the base with a fresh adapter, in training mode.
        rows: every training row.
        parts: the stages; ``steps`` what each optimizer step sees.
        test: rows on which the learning curve is drawn.
        holdout: rows that choose the checkpoint, instead of those of ``test``.
        folder: where checkpoints are kept until the training has ended.
        progress: called with (step, steps, a short text).
        log: what the training said so far: a dict for each step and each evaluation.
        resumed_from: the step after which an earlier process was killed.
        seconds: how long it took, earlier processes included.
    """

    model: Any
    spec: ModelSpec
    encoder: Encoder
    settings: TrainingSettings
    rows: list[Encoded]
    parts: list[Part]
    steps: list[Step]
    test: list[Encoded]
    holdout: list[Encoded]
    folder: Path
    progress: Progress
    log: list[dict[str, Any]] = field(default_factory=list)
    resumed_from: int | None = None
    seconds: float = 0.0

    @property
    def losses(self) -> list[float]:
        """Training loss of each step, nats per scored token."""
        return [entry["loss"] for entry in self.log if "loss" in entry]

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """The learning curve: step, loss and mean perplexity, before training and on the way."""
        return [
            {"step": entry["step"]}
            | {name: entry[f"eval_{name}"] for name in WATCHED if f"eval_{name}" in entry}
            for entry in self.log
            if "eval_mean_perplexity" in entry
        ]

    @property
    def best(self) -> dict[str, Any] | None:
        """The evaluation with the lowest perplexity where it is chosen by; the first of equals."""
        name = "holdout_perplexity" if self.holdout else "mean_perplexity"
        finite = [point for point in self.evaluations if math.isfinite(point[name])]
        return min(finite, key=lambda point: point[name], default=None)

    def best_folder(self, step: int) -> Path:
        """Where the adapter of an evaluation that was the best so far is kept."""
        return self.folder / f"best-{step}"


# Larger batches make CPUs no faster, and are what memory is needed for.
TOKENS = 1024
WATCHED = ("loss", "mean_perplexity", "holdout_loss", "holdout_perplexity")


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
                steps[0], fit.rows, TOKENS if fit.spec.device == "cpu" else None
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
                if best is not None and other != self.fit.best_folder(best["step"]):
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
    """Score the rows that the training is watched on, by the scorer of all other numbers.

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
    if best is None or best["step"] != step:
        return
    target = fit.best_folder(step)
    draft = temporary(target)
    fit.model.save_pretrained(str(draft), save_embedding_layers=False)
    publish_folder(draft, target)


def collate(rows: Sequence[Encoded]) -> dict[str, Any]:
    """Pad a batch on the right and label the answer only.

    Returns:
        ``input_ids`` and ``labels``, int64 of shape (rows, longest row); every label that is not
        an answer token or the EOS is −100. No attention mask: attention is causal and the padding
        stands last, so no labelled position can see it, and attention without a mask takes a
        faster kernel. What stands in the padding is of no account; it is the EOS.
    """
    import torch

    length = max(len(row) for row in rows)
    ids = torch.full((len(rows), length), rows[0].answer[-1])
    labels = torch.full((len(rows), length), IGNORED)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row.ids)
        labels[index, len(row.context) : len(row)] = torch.tensor(row.answer)
    return {"input_ids": ids, "labels": labels}


def collate_step(step: Step, rows: Sequence[Encoded], tokens: int | None) -> dict[str, Any]:
    """The batches of an optimizer step, its rows' ids, and how many labels it has in all.

    A batch of more than ``tokens`` tokens is cut, which changes no gradient: they are sums over
    the step's labels, divided by their number.
    """
    batches = [
        part for batch in step.batches for part in _cut([rows[number] for number in batch], tokens)
    ]
    return {
        "batches": [collate(batch) for batch in batches],
        "row_ids": [row.prompt.id for batch in batches for row in batch],
        "count": sum(len(row.answer) for batch in batches for row in batch),
    }


def _cut(batch: list[Encoded], tokens: int | None) -> list[list[Encoded]]:
    width = max(map(len, batch))
    if tokens is None or len(batch) * width <= tokens:
        return [batch]
    size = max(1, tokens // width)
    return [batch[start : start + size] for start in range(0, len(batch), size)]


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
