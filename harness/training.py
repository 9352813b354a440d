"""Training a LoRA adapter: once, under a name made of all that determines it.

An adapter is a folder under ``<results>/adapters/``; it appears there complete or not at all. A
file lock lets several processes that need the same adapter train it once. The loss is on the
answer and its EOS, by the same token layout that scoring uses.
"""

from __future__ import annotations

import errno
import json
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness import checkpoints
from harness.core import Example, ModelSpec, PromptTemplate, TrainingSpec, digest
from harness.encoding import Encoded, Encoder
from harness.errors import DivergenceError, OptionError, StoreError, TrainingError, one_line
from harness.files import publish_folder, sha256, temporary
from harness.memory import free, is_out_of_memory
from harness.models import RECORD, base_shape, is_four_bit, load_base, load_encoder, quiet
from harness.prompts import render
from harness.schedule import Part, Row, plan_steps
from harness.trainer import Fit, Progress, optimizer_name, run

ADAPTER = "adapter_model.safetensors"
# Settings that do not change what is trained.
ASIDE = ("save_steps", "save_total_limit", "holdout_rows")


def adapter_key(
    spec: ModelSpec,
    template: PromptTemplate,
    training: TrainingSpec,
    libraries: Sequence[Any],
    test: Sequence[Example] = (),
) -> str:
    """SHA-256 over everything that determines the adapter's bytes.

    The ``test`` rows do where the training is evaluated: the curve is kept with the adapter, and
    the checkpoint may be chosen on them.
    """
    settings = asdict(training.settings)
    watched = settings["eval_steps"] is not None
    return digest(
        {
            "base": [
                spec.digest,
                spec.quantization,
                spec.dtype,
                spec.device,
                *([spec.double_quant, spec.compute_dtype] if is_four_bit(spec) else []),
            ],
            "template": [template.preamble, template.demonstration, template.query, template.chat],
            "settings": {name: v for name, v in settings.items() if name not in ASIDE},
            "examples": [example.content for example in training.examples],
            "stages": [
                [stage.num_train_epochs, stage.learning_rate, [e.id for e in stage.examples]]
                for stage in training.stages
            ],
            "test": [example.content for example in test] if watched else [],
            "holdout": [example.content for example in training.holdout],
            "libraries": [list(pair) for pair in libraries],
        }
    )


class DamagedAdapterWarning(UserWarning):
    """A stored adapter is not what was trained, and is trained again."""


class TrainingWarning(UserWarning):
    """A training is not done exactly as it was asked for."""


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
    test: Sequence[Example] = (),
) -> Path:
    """Return ``folder`` with the trained adapter in it, training it if nobody has yet.

    What a killed process left is gone on with. It lies beside the folder, in ``<name>.work``,
    and goes when the training has ended or can not be gone on with.

    Args:
        folder: where the adapter belongs.
        spec: the base as it is trained and later scored.
        base: the base model's files.
        template: the prompt, shown without demonstrations.
        training: rows and settings.
        progress: called with (step, steps, a short text).
        test: rows that the training is evaluated on, where its settings ask for that.

    Raises:
        ModelError: the base cannot be loaded.
        PromptError: a row does not fit the model.
        TrainingError: the loss was not finite, or memory ran out.
        StoreError: what was trained cannot be written.
    """
    from filelock import FileLock, Timeout

    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress(0, 0, "waiting for another process to train")
        lock.acquire()
    try:
        if not is_complete(folder):
            if folder.exists():
                warnings.warn(
                    DamagedAdapterWarning(f"adapter {folder.name} is damaged; it is trained again"),
                    stacklevel=2,
                )
            _train_into(folder, spec, base, template, training, progress, test)
    finally:
        lock.release()
    return folder


def _train_into(
    folder: Path,
    spec: ModelSpec,
    base: Path,
    template: PromptTemplate,
    training: TrainingSpec,
    progress: Progress,
    test: Sequence[Example],
) -> None:
    draft, work = temporary(folder), folder.with_name(f"{folder.name}.work")
    shutil.rmtree(draft, ignore_errors=True)  # of an earlier process with our number
    worthless = False
    try:
        with _explained(spec, training, work):
            _train(draft, work, spec, base, template, training, progress, test)
            publish_folder(draft, folder)
        worthless = True  # by now everything is in the folder
    except DivergenceError:
        worthless = True  # it would come to the same end again
        raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        if worthless or checkpoints.newest(work) is None:
            shutil.rmtree(work, ignore_errors=True)
        free()


@contextmanager
def _explained(spec: ModelSpec, training: TrainingSpec, work: Path) -> Iterator[None]:
    """Turn what a machine runs out of into one line that says what would help."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            settings = training.settings
            raise TrainingError(
                f"training on {spec.name}: out of memory; lower "
                f"qlora.per_device_train_batch_size ({settings.per_device_train_batch_size}; "
                f"raise qlora.gradient_accumulation_steps to keep the step), set "
                f"qlora.gradient_checkpointing=true, or lower qlora.max_length "
                f"({settings.max_length or 'the longest row'})"
            ) from None
        if not _is_disk(error):
            raise
        kept = checkpoints.newest(work)
        raise StoreError(
            f"{work.parent}: the training cannot be written: {one_line(error, 120)}; "
            + (f"what it had after step {checkpoints.step_of(kept)} is kept. " if kept else "")
            + "Make room and start again"
        ) from None


def _is_disk(error: BaseException) -> bool:
    """Whether writing failed; torch and safetensors say so in a RuntimeError or their own error."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)
    if isinstance(error, OSError):
        return error.errno in full
    words = ("No space left", "File too large", "file write failed", "PytorchStreamWriter")
    return any(word in str(error) for word in words)


def read_record(folder: Path) -> dict[str, Any]:
    """Return what is known of the training: settings, rows, steps, losses, evaluations."""
    record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return record


def _train(
    draft: Path,
    work: Path,
    spec: ModelSpec,
    base: Path,
    template: PromptTemplate,
    training: TrainingSpec,
    progress: Progress,
    test: Sequence[Example],
) -> None:
    encoder = load_encoder(spec, base)
    rows, left_out = _rows_that_fit(encode_rows(encoder, template, training.examples), training)
    model = load_base(spec, base)
    shape = base_shape(model)
    model.name_or_path = spec.name  # what the adapter's config calls its base
    parts = _parts(rows, training)
    watched = training.settings.eval_steps is not None
    if optimizer_name(training.settings, spec.device) != training.settings.optim:
        warnings.warn(
            TrainingWarning(
                f"optimizer {training.settings.optim} needs CUDA; on the {spec.device.upper()} "
                f"its plain kin {optimizer_name(training.settings, spec.device)} is used"
            ),
            stacklevel=4,
        )
    fit = Fit(
        model=_with_adapter(model, training),
        spec=spec,
        encoder=encoder,
        settings=training.settings,
        rows=rows,
        parts=parts,
        steps=plan_steps([Row(row.prompt.id, len(row)) for row in rows], parts, training.settings),
        test=encode_rows(encoder, template, test) if watched else [],
        holdout=encode_rows(encoder, template, training.holdout) if watched else [],
        folder=work,
        progress=progress,
    )
    run(fit)
    best = fit.best
    if best is None:
        # Saved before any forward in eval mode: see harness/models.py.
        fit.model.save_pretrained(str(draft), save_embedding_layers=False)
    else:
        shutil.copytree(fit.best_folder(best["step"]), draft)
    record = {"sha256": sha256(draft / ADAPTER), "base": shape, **_record(fit, training, left_out)}
    (draft / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _rows_that_fit(rows: list[Encoded], training: TrainingSpec) -> tuple[list[Encoded], list[str]]:
    """Leave out rows longer than ``max_length``: cut, they would teach a wrong ending."""
    limit = training.settings.max_length
    left_out = [row.prompt.id for row in rows if limit is not None and len(row) > limit]
    kept = [row for row in rows if limit is None or len(row) <= limit]
    if not kept:
        raise OptionError(
            f"qlora.max_length={limit}: all {len(rows)} training rows are longer (the shortest "
            f"has {min(map(len, rows))} tokens); raise it"
        )
    if left_out:
        warnings.warn(
            TrainingWarning(
                f"{len(left_out)} of {len(rows)} training rows have more than "
                f"qlora.max_length={limit} tokens and are left out: "
                f"{', '.join(left_out[:5])}{', …' if len(left_out) > 5 else ''}"
            ),
            stacklevel=5,
        )
    return kept, left_out


def _parts(rows: Sequence[Encoded], training: TrainingSpec) -> list[Part]:
    numbers = {row.prompt.id: number for number, row in enumerate(rows)}
    settings = training.settings
    parts = []
    for place, stage in enumerate(training.curriculum, start=1):
        kept = tuple(numbers[e.id] for e in stage.examples if e.id in numbers)
        if not kept:
            raise OptionError(
                f"curriculum: all rows of stage {place} are longer than "
                f"qlora.max_length={settings.max_length}; raise it"
            )
        epochs = stage.num_train_epochs or settings.num_train_epochs
        parts.append(Part(kept, epochs, stage.learning_rate or settings.learning_rate))
    return parts


def _with_adapter(model: Any, training: TrainingSpec) -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers import set_seed

    settings = training.settings
    set_seed(settings.seed)  # the adapter's initialization draws from the global generator
    targets, alpha = settings.target_modules, float(settings.lora_alpha)
    config = LoraConfig(
        r=settings.r,
        # Whole, as other tools expect it in an adapter's configuration.
        lora_alpha=int(alpha) if alpha.is_integer() else alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )
    try:
        with quiet():
            return get_peft_model(model, config)
    except ValueError as error:  # peft found no such layer
        raise OptionError(f"qlora.target_modules={targets}: {one_line(error, 160)}") from None


def _record(fit: Fit, training: TrainingSpec, left_out: list[str]) -> dict[str, Any]:
    seen = [row for step in fit.steps for batch in step.batches for row in batch]
    best = fit.best
    return {
        "settings": asdict(training.settings),
        "optimizer": optimizer_name(training.settings, fit.spec.device),
        "rows": len(fit.rows),
        "tokens": sum(map(len, fit.rows)),
        "trained_rows": len(seen),
        "trained_tokens": sum(len(fit.rows[row]) for row in seen),
        "steps": len(fit.steps),
        "losses": fit.losses,
        "evaluations": fit.evaluations,
        "best_step": None if best is None else best["step"],
        "select_on": None if best is None else "holdout" if fit.holdout else "test",
        "ids": [row.prompt.id for row in fit.rows],
        "left_out": left_out,
        "holdout_ids": [row.prompt.id for row in fit.holdout],
        "stages": [
            {
                "steps": sum(step.stage == number for step in fit.steps),
                "learning_rate": part.learning_rate,
                "num_train_epochs": part.num_train_epochs,
                "ids": [fit.rows[row].prompt.id for row in part.rows],
            }
            for number, part in enumerate(fit.parts)
            if training.stages
        ],
        "trainable_parameters": sum(p.numel() for p in fit.model.parameters() if p.requires_grad),
        "seconds": round(fit.seconds, 3),
    }


def encode_rows(
    encoder: Encoder, template: PromptTemplate, examples: Sequence[Example]
) -> list[Encoded]:
    """Encode rows as zero-shot prompts, exactly as scoring does."""
    return [
        encoder.encode(render(template, example, chat_template=encoder.chat))
        for example in examples
    ]
