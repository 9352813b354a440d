"""From rows and settings to a trained adapter, in a folder with the record of its training run."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core import Example, ModelSpec, PromptTemplate, TrainingSettings, TrainingSpec
from harness.errors import OptionError, one_line
from harness.files import sha256
from harness.models.adapters import BaseShape, base_shape
from harness.models.encoding import Encoded, Encoder
from harness.models.fingerprint import version
from harness.models.loading import load_encoder, quiet
from harness.models.memory import free
from harness.models.pool import FRESH, Fresh
from harness.models.soundness import check_ids
from harness.prompts.rendering import render
from harness.results.adapter_files import ADAPTER, write_record
from harness.training.optimizers import PLAIN_KIN, optimizer_for
from harness.training.record import record_of
from harness.training.schedule import Part, Row, plan_steps
from harness.training.state import ONLY, Progress, TrainingState
from harness.training.trainer import run

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class TrainingWarning(UserWarning):
    """A training run differs from what was asked for."""


@dataclass(frozen=True)
class Job:
    """What is to be trained.

    Attributes:
        spec: the base as it is trained and later scored.
        base: the base model's files.
        template: the prompt, shown without demonstrations.
        training: rows and settings.
        test: rows that the training run is evaluated on, where its settings ask for that.
        bases: where the base comes from, and where it goes afterwards.
    """

    spec: ModelSpec
    base: Path
    template: PromptTemplate
    training: TrainingSpec
    test: tuple[Example, ...]
    bases: Fresh = FRESH


def train(draft: Path, work: Path, job: Job, progress: Progress, apart: str = "") -> None:
    """Train an adapter into the folder ``draft``, resumed from the last checkpoint in ``work``.

    Args:
        draft: where the finished adapter and its record are written.
        work: where checkpoints are kept.
        job: what is to be trained.
        progress: called with (step, steps, a short text).
        apart: why it is trained alone although it should not be.

    Raises:
        OptionError: settings that do not fit the rows or the model.
        DivergenceError: the loss was not finite.
    """
    encoder = load_encoder(job.spec, job.base)
    rows, left_out = training_rows(job, encoder)
    base = base_to_train(job, encoder, rows)
    shape = base_shape(base)
    model = with_adapter(base, job.training.settings)
    state = training_state(job, work, progress, encoder, rows, model)
    run(state)
    finish(draft, state, left_out, shape, apart=apart)
    give_back(job, model)


def give_back(job: Job, model: PeftModel) -> None:
    """Hand in the base of a training run that has ended, but for one that was altered for it."""
    if not job.training.settings.gradient_checkpointing:
        job.bases.give_back(job.spec, model)


def finish(
    draft: Path,
    state: TrainingState,
    left_out: Sequence[str],
    shape: BaseShape,
    *,
    together: int = 1,
    apart: str = "",
) -> None:
    """Write the adapter of a training run that has ended, and its record, into a folder.

    Args:
        draft: the folder, which is not there yet.
        state: as the training run left it.
        left_out: ids of rows that were too long.
        shape: of the base, before it had an adapter.
        together: how many adapters were trained in one batch.
        apart: why it was trained alone, where it should not have been.
    """
    best = state.best
    if best is None:
        state.save(draft)
    else:
        shutil.copytree(state.best_folder(best.step), draft)
    record = record_of(state, left_out, sha256(draft / ADAPTER), shape)
    write_record(draft, replace(record, together=together, apart=apart))


def training_rows(job: Job, encoder: Encoder) -> tuple[list[Encoded], list[str]]:
    """The rows of a training run as token ids, and the ids of those that are too long for it.

    Raises:
        OptionError: all of them are too long, or the optimizer needs what is not there.
        PromptError: a row is longer than the model can read, and nothing says to leave it out.
    """
    settings = job.training.settings
    limited = settings.max_length is not None
    encoded = encode_rows(encoder, job.template, job.training.examples, limited=not limited)
    found = _rows_that_fit(encoded, job.training, encoder.max_length)
    _check_optimizer(settings.optim, job.spec.device)
    return found


def base_to_train(job: Job, encoder: Encoder, rows: Sequence[Encoded]) -> PreTrainedModel:
    """The frozen base of a training run.

    Raises:
        ModelError: it cannot be loaded, or has no embedding of a token of the rows.
    """
    free()  # what an earlier training run held before it failed
    model = job.bases.take(job.spec, job.base)
    check_ids(model, encoder, rows)
    model.name_or_path = job.spec.name  # what the adapter's config calls its base
    return model


def training_state(
    job: Job,
    work: Path,
    progress: Progress,
    encoder: Encoder,
    rows: list[Encoded],
    model: PeftModel,
) -> TrainingState:
    """The state of a training run before its first step.

    Raises:
        OptionError: a stage has no rows that fit.
    """
    training, settings = job.training, job.training.settings
    parts = _parts(rows, training)
    evaluated = settings.eval_steps is not None
    return TrainingState(
        model=model,
        spec=job.spec,
        encoder=encoder,
        settings=settings,
        rows=rows,
        parts=parts,
        staged=bool(training.stages),
        steps=plan_steps([Row(row.prompt.id, len(row)) for row in rows], parts, settings),
        test=encode_rows(encoder, job.template, job.test) if evaluated else [],
        holdout=encode_rows(encoder, job.template, training.holdout) if evaluated else [],
        folder=work,
        progress=progress,
    )


def _check_optimizer(name: str, device: str) -> None:
    """Warn if another optimizer is used than was asked for.

    Raises:
        OptionError: it needs a library that is not installed.
    """
    used = optimizer_for(name, device)
    if used != name:
        warnings.warn(
            TrainingWarning(
                f"optimizer {name} needs CUDA; on the {device.upper()} it falls back to {used}"
            ),
            stacklevel=6,
        )
    if device == "cuda" and name in PLAIN_KIN and version("bitsandbytes") == "none":
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
            stacklevel=6,
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


def with_adapter(
    model: PreTrainedModel | PeftModel, settings: TrainingSettings, name: str = ONLY
) -> PeftModel:
    """The base with a fresh adapter on it, beside those that it has.

    Args:
        model: the base.
        settings: of the training run.
        name: of the adapter; not part of another's.

    Raises:
        OptionError: it has no layers of the names that are to get one.
    """
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import set_seed

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
            if not isinstance(model, PeftModel):
                return get_peft_model(model, config, adapter_name=name)
            model.add_adapter(name, config)
            return model
    except ValueError as error:  # peft found no such layer
        raise OptionError(f"qlora.target_modules={targets}: {one_line(error, 160)}") from None


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
