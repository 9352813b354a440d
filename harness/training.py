"""Training a LoRA adapter: once, under a name made of all that determines it.

An adapter is a folder under ``<results>/adapters/``; it appears there complete or not at all. A
file lock lets several processes that need the same adapter train it once. The loss is on the
answer and its EOS, by the same token layout that scoring uses.
"""

from __future__ import annotations

import gc
import json
import math
import shutil
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.attention import SHORT
from harness.core import ModelSpec, PromptTemplate, TrainingSpec, digest
from harness.encoding import Encoded, Encoder
from harness.errors import TrainingError
from harness.files import publish_folder, sha256, temporary
from harness.losses import IGNORED, mean_loss
from harness.models import RECORD, base_shape, load_base, load_encoder, quiet
from harness.prompts import render

ADAPTER = "adapter_model.safetensors"

Progress = Callable[[int, int, str], None]


def adapter_key(
    spec: ModelSpec, template: PromptTemplate, training: TrainingSpec, libraries: Sequence[Any]
) -> str:
    """SHA-256 over everything that determines the adapter's bytes."""
    return digest(
        {
            "base": [spec.digest, spec.quantization, spec.dtype, spec.device],
            "template": [template.preamble, template.query, template.chat],
            "settings": training.settings,
            "examples": [example.content for example in training.examples],
            "libraries": [list(pair) for pair in libraries],
        }
    )


class DamagedAdapterWarning(UserWarning):
    """A stored adapter is not what was trained, and is trained again."""


def is_complete(folder: Path) -> bool:
    """Whether the folder holds a finished adapter with the bytes that were trained."""
    try:
        return sha256(folder / ADAPTER) == str(read_record(folder)["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def train_once(
    folder: Path,
    spec: ModelSpec,
    base: Path,
    template: PromptTemplate,
    training: TrainingSpec,
    progress: Progress,
) -> Path:
    """Return ``folder`` with the trained adapter in it, training it if nobody has yet.

    Args:
        folder: where the adapter belongs.
        spec: the base as it is trained and later scored.
        base: the base model's files.
        template: the prompt, shown without demonstrations.
        training: rows and settings.
        progress: called with (step, steps, a short text about the loss).

    Raises:
        ModelError: the base cannot be loaded.
        PromptError: a training row does not fit the model.
        TrainingError: the loss was not finite.
    """
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not is_complete(folder):
            if folder.exists():
                warnings.warn(
                    DamagedAdapterWarning(f"adapter {folder.name} is damaged; it is trained again"),
                    stacklevel=2,
                )
            draft = temporary(folder)
            shutil.rmtree(draft, ignore_errors=True)  # of an earlier process with our number
            try:
                _train(draft, spec, base, template, training, progress)
                publish_folder(draft, folder)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return folder


def read_record(folder: Path) -> dict[str, Any]:
    """Return what is known of the training: settings, steps, losses, tokens."""
    record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return record


def _train(
    draft: Path,
    spec: ModelSpec,
    base: Path,
    template: PromptTemplate,
    training: TrainingSpec,
    progress: Progress,
) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import set_seed

    rows = encode_rows(load_encoder(spec, base), template, training)
    model = load_base(spec, base)
    shape = base_shape(model)
    if spec.device == "cpu" and max(map(len, rows)) <= SHORT:
        # torch's CPU kernel takes three times as long, forwards and backwards, on rows this short.
        model.set_attn_implementation("eager")
    model.name_or_path = spec.name  # what the adapter's config calls its base
    set_seed(training.seed)  # the adapter's initialization draws from the global generator
    targets = training.target_modules
    with quiet():
        model = get_peft_model(
            model,
            LoraConfig(
                r=training.r,
                lora_alpha=training.lora_alpha,
                lora_dropout=training.lora_dropout,
                target_modules=targets if isinstance(targets, str) else list(targets),
                task_type="CAUSAL_LM",
            ),
        )
    started = time.perf_counter()
    losses = _fit(model, rows, training, spec, draft, progress)
    # Saved before any forward in eval mode: see harness/models.py.
    # The embeddings are not trained; asking to save them if changed would ask the hub about them.
    model.save_pretrained(str(draft), save_embedding_layers=False)
    record = {
        "sha256": sha256(draft / ADAPTER),
        "base": shape,
        "settings": training.settings,
        "rows": len(rows),
        "tokens": sum(len(row) for row in rows),
        "steps": len(losses),
        "losses": losses,
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "seconds": round(time.perf_counter() - started, 3),
    }
    (draft / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    del model
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def encode_rows(
    encoder: Encoder, template: PromptTemplate, training: TrainingSpec
) -> list[Encoded]:
    """Encode the training rows as zero-shot prompts, exactly as scoring does."""
    return [
        encoder.encode(render(template, example, chat_template=encoder.chat))
        for example in training.examples
    ]


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


def _fit(
    model: Any,
    rows: list[Encoded],
    training: TrainingSpec,
    spec: ModelSpec,
    draft: Path,
    progress: Progress,
) -> list[float]:
    from transformers import Trainer, TrainerCallback
    from transformers.trainer_callback import PrinterCallback

    losses: list[float] = []

    class Watch(TrainerCallback):  # type: ignore[misc]
        """Records every step's loss, shows progress, stops at a loss that is not finite."""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                loss = float(logs["loss"])
                losses.append(loss)
                progress(state.global_step, state.max_steps, f"loss {loss:.3f}")
                if not math.isfinite(loss):
                    raise TrainingError(
                        f"training on {spec.name}: the loss is {loss} at step "
                        f"{state.global_step} of {state.max_steps} (learning rate "
                        f"{logs.get('learning_rate', 'unknown')}); lower the learning rate"
                    )

    class AnswerTrainer(Trainer):  # type: ignore[misc]
        """Computes the loss on the answers alone, without logits of anything else."""

        loss_is_scaled_for_ga = True  # divided by the labels of the whole step

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = 1
        ) -> Any:
            return mean_loss(model, inputs["input_ids"], inputs["labels"], num_items_in_batch)

    arguments = _arguments(training, spec, draft / "trainer")
    with quiet():
        trainer = AnswerTrainer(
            model=model,
            args=arguments,
            # The sampler measures "input_ids"; the collator wants the rows.
            train_dataset=[{"input_ids": row.ids, "row": row} for row in rows],
            data_collator=lambda batch: collate([item["row"] for item in batch]),
            callbacks=[Watch()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    shutil.rmtree(draft / "trainer", ignore_errors=True)
    return losses


def _arguments(training: TrainingSpec, spec: ModelSpec, folder: Path) -> Any:
    from transformers import TrainingArguments

    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=training.per_device_train_batch_size,
        gradient_accumulation_steps=training.gradient_accumulation_steps,
        num_train_epochs=training.num_train_epochs,
        max_steps=training.max_steps,
        learning_rate=training.learning_rate,
        lr_scheduler_type=training.lr_scheduler_type,
        warmup_steps=training.warmup_ratio,  # a fraction: a share of all steps
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        optim="adamw_torch",
        train_sampling_strategy="group_by_length",  # little padding
        seed=training.seed,
        use_cpu=spec.device == "cpu",
        dataloader_pin_memory=spec.device != "cpu",
        remove_unused_columns=False,
        save_strategy="no",
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
    )
    # One device trains: on machines with more, data parallelism would change the batches.
    assert arguments.device is not None
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments
