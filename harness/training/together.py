"""Which training runs may share a batch, as far as their settings say."""

from __future__ import annotations

from collections.abc import Hashable

from harness.core import ModelSpec, TrainingSettings


def is_joint(spec: ModelSpec, settings: TrainingSettings) -> bool:
    """Whether an adapter is trained by what trains several in one batch, be it the only one."""
    return settings.together > 1 and not reason_apart(spec, settings)


def reason_apart(spec: ModelSpec, settings: TrainingSettings) -> str:
    """Why an adapter cannot share a batch with others; empty where nothing is known against it."""
    if spec.quantization == "int8":
        return "int8 looks for outliers in all rows of a batch at once"
    if spec.gpus > 1:
        return "the base is spread over several GPUs"
    if settings.gradient_checkpointing and settings.lora_dropout:
        return "with gradient_checkpointing, lora_dropout would be drawn twice"
    return ""


def kind_of(settings: TrainingSettings) -> Hashable:
    """Equal for training runs whose adapters have equal shapes and are computed alike.

    Everything else (rates, schedule, decay, dropout, scale, rows, seed) is each adapter's own.
    """
    return settings.r, settings.target_modules, settings.gradient_checkpointing, settings.together
