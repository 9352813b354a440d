"""From rows and settings to a trained adapter and the record of its training."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.config.training_settings import PLAIN_KIN
from harness.core import Example, ModelSpec, PromptTemplate, TrainingSpec
from harness.errors import OptionError, one_line
from harness.files import sha256
from harness.models.encoding import Encoded, Encoder
from harness.models.fingerprint import version
from harness.models.loading import base_shape, load_base, load_encoder, quiet
from harness.models.memory import free
from harness.prompts.rendering import render
from harness.records import StageRecord, TrainingRecord
from harness.results.adapter_files import ADAPTER, write_record
from harness.training.schedule import Part, Row, plan_steps
from harness.training.state import Fit, Progress
from harness.training.trainer import optimizer_name, run


class TrainingWarning(UserWarning):
    """A training is not done exactly as it was asked for."""


@dataclass(frozen=True)
class Job:
    """What is to be trained.

    Attributes:
        spec: the base as it is trained and later scored.
        base: the base model's files.
        template: the prompt, shown without demonstrations.
        training: rows and settings.
        test: rows that the training is evaluated on, where its settings ask for that.
    """

    spec: ModelSpec
    base: Path
    template: PromptTemplate
    training: TrainingSpec
    test: tuple[Example, ...]


def train(draft: Path, work: Path, job: Job, progress: Progress) -> None:
    """Train an adapter into the folder ``draft``, from where an earlier process came to.

    Args:
        draft: where the finished adapter and its record are written.
        work: where checkpoints are kept.
        job: what is to be trained.
        progress: called with (step, steps, a short text).

    Raises:
        OptionError: settings that do not fit the rows or the model.
        DivergenceError: the loss was not finite.
    """
    spec, training = job.spec, job.training
    encoder = load_encoder(spec, job.base)
    limited = training.settings.max_length is not None
    encoded = encode_rows(encoder, job.template, training.examples, limited=not limited)
    rows, left_out = _rows_that_fit(encoded, training, encoder.max_length)
    _check_optimizer(training, spec)
    free()  # what an earlier training held before it failed
    model = load_base(spec, job.base)
    shape = base_shape(model)
    model.name_or_path = spec.name  # what the adapter's config calls its base
    parts = _parts(rows, training)
    watched = training.settings.eval_steps is not None
    fit = Fit(
        model=_with_adapter(model, training),
        spec=spec,
        encoder=encoder,
        settings=training.settings,
        rows=rows,
        parts=parts,
        steps=plan_steps([Row(row.prompt.id, len(row)) for row in rows], parts, training.settings),
        test=encode_rows(encoder, job.template, job.test) if watched else [],
        holdout=encode_rows(encoder, job.template, training.holdout) if watched else [],
        folder=work,
        progress=progress,
    )
    run(fit)
    best = fit.best
    if best is None:
        # Saved before any forward in eval mode: see harness/models/loading.py.
        fit.model.save_pretrained(str(draft), save_embedding_layers=False)
    else:
        shutil.copytree(fit.best_folder(best.step), draft)
    write_record(draft, _record(fit, training, left_out, sha256(draft / ADAPTER), shape))


def _check_optimizer(training: TrainingSpec, spec: ModelSpec) -> None:
    """Say if another optimizer is used than was asked for, or none can be."""
    name = training.settings.optim
    used = optimizer_name(training.settings, spec.device)
    if used != name:
        warnings.warn(
            TrainingWarning(
                f"optimizer {name} needs CUDA; on the {spec.device.upper()} its plain kin {used} "
                f"is used"
            ),
            stacklevel=5,
        )
    if spec.device == "cuda" and name in PLAIN_KIN and version("bitsandbytes") == "none":
        raise OptionError(
            f"qlora.optim={name}: needs bitsandbytes, which is not installed; install it, or use "
            f"{PLAIN_KIN[name]}"
        )


def _rows_that_fit(
    rows: list[Encoded], training: TrainingSpec, longest: int | None
) -> tuple[list[Encoded], list[str]]:
    """Leave out rows longer than ``max_length``: cut, they would teach a wrong ending."""
    limit = training.settings.max_length
    if limit is not None and longest is not None:
        limit = min(limit, longest)
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


def _record(
    fit: Fit,
    training: TrainingSpec,
    left_out: list[str],
    sha: str,
    base: Mapping[str, Any],
) -> TrainingRecord:
    seen = [row for step in fit.steps for batch in step.batches for row in batch]
    best = fit.best
    return TrainingRecord(
        adapter="",  # the folder has a name once it is published
        sha256=sha,
        base=base,
        settings=asdict(training.settings),
        optimizer=optimizer_name(training.settings, fit.spec.device),
        rows=len(fit.rows),
        tokens=sum(map(len, fit.rows)),
        trained_rows=len(seen),
        trained_tokens=sum(len(fit.rows[row]) for row in seen),
        steps=len(fit.steps),
        losses=tuple(fit.losses),
        evaluations=fit.evaluations,
        best_step=None if best is None else best.step,
        select_on=None if best is None else "holdout" if fit.holdout else "test",
        ids=_ids(fit.rows),
        left_out=tuple(left_out),
        holdout_ids=_ids(fit.holdout),
        stages=_stages(fit) if training.stages else (),
        trainable_parameters=sum(p.numel() for p in fit.model.parameters() if p.requires_grad),
        seconds=round(fit.seconds, 3),
        resumed_from=fit.resumed_from,
    )


def _stages(fit: Fit) -> tuple[StageRecord, ...]:
    return tuple(
        StageRecord(
            steps=sum(step.stage == number for step in fit.steps),
            learning_rate=part.learning_rate,
            num_train_epochs=part.num_train_epochs,
            ids=_ids(fit.rows[row] for row in part.rows),
        )
        for number, part in enumerate(fit.parts)
    )


def _ids(rows: Iterable[Encoded]) -> tuple[str, ...]:
    return tuple(row.prompt.id for row in rows)


def encode_rows(
    encoder: Encoder,
    template: PromptTemplate,
    examples: Sequence[Example],
    limited: bool = True,
) -> list[Encoded]:
    """Encode rows as zero-shot prompts, exactly as scoring does.

    Raises:
        PromptError: a row is longer than the model can read, where they are ``limited`` to that.
    """
    return [
        encoder.encode(render(template, example, chat_template=encoder.chat), limited)
        for example in examples
    ]
