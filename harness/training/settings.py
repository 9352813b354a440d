"""What the settings of a training run may be: the checks behind ``[qlora]`` and its tables.

The settings themselves are :class:`harness.core.TrainingSettings`, and
:class:`harness.data.selection.Subset` and :class:`~harness.data.selection.Curriculum` of the rows.
"""

from __future__ import annotations

from typing import Any

from harness.config.checks import (
    Check,
    check_table,
    is_number,
    number,
    one_of,
    optional,
    switch,
    whole,
)
from harness.config.flags import QUANTIZATIONS
from harness.data.selection import MEASURES, StagePlan, Weights
from harness.training.optimizers import OPTIMIZERS

SCHEDULES = (
    "cosine",
    "linear",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
)
DTYPES = ("auto", "float32", "bfloat16", "float16")


def every(value: Any) -> float:
    """Accept a number of steps, or a share of all of them."""
    is_steps = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not is_steps and not (is_number(value) and 0 < value < 1):
        raise ValueError("a whole number of steps from 1, or a share of all steps between 0 and 1")
    return float(value)


def modules(value: Any) -> str | tuple[str, ...]:
    """Accept ``all-linear``, or names of layers as a list or separated by commas."""
    if value == "all-linear":
        return str(value)
    # peft takes a text for a regular expression; names are what is meant.
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
    if isinstance(names, list) and names and all(isinstance(x, str) and x for x in names):
        return tuple(names)
    raise ValueError('"all-linear", or a list of names of layers')


class _Weights:
    """Accept a measure's name, or a table of measures and their weights."""

    def __call__(self, value: Any) -> Weights:
        table = {value: 1.0} if isinstance(value, str) else value
        what = 'a measure ("length" or "score"), or a table of weights such as {length = 0.5}'
        if not isinstance(table, dict) or not table or not set(table) <= set(MEASURES):
            raise ValueError(what)
        if not all(is_number(weight) for weight in table.values()):
            raise ValueError(what + " that are finite numbers")
        found = tuple((name, float(table[name])) for name in sorted(table))
        if not any(weight for _, weight in found):
            raise ValueError(what + ", not all of them 0")
        return found

    @staticmethod
    def write(by: Weights) -> str | dict[str, float]:
        """The value as TOML has it."""
        return by[0][0] if len(by) == 1 and by[0][1] == 1 else dict(by)


def levels(value: Any) -> tuple[int, ...]:
    """Accept one level or a list of them."""
    found = value if isinstance(value, list) else [value]
    if not found or len(set(map(str, found))) < len(found):
        raise ValueError("a list of levels in which nothing stands twice")
    return tuple(whole(1)(level) for level in found)


def stages(value: Any) -> tuple[StagePlan, ...]:
    """Accept a list of tables, each a stage with levels of its own."""
    if not isinstance(value, list) or not value:
        raise ValueError("a list of stages, [[curriculum.stages]]")
    found = []
    for place, table in enumerate(value, start=1):
        stage = check_table(f"stage {place}", table, STAGE)
        if "levels" not in stage:
            raise ValueError(f"stage {place} to have levels, a list of those it trains on")
        found.append(StagePlan(**stage))
    return tuple(found)


STAGE: dict[str, Check] = {
    "levels": levels,
    "num_train_epochs": number(0, open_low=True),
    "learning_rate": number(0, open_low=True),
}
ROWS: dict[str, Check] = {
    "subset.top": whole(1),
    "subset.by": _Weights(),
    "curriculum.levels": whole(1),
    "curriculum.by": _Weights(),
    "curriculum.stages": stages,
}
TRAINING: dict[str, Check] = {
    "r": whole(1),
    "lora_alpha": number(0, open_low=True),
    "lora_dropout": number(0, 1),
    "target_modules": modules,
    "quantization": one_of(*QUANTIZATIONS),
    "bnb_4bit_use_double_quant": switch,
    "bnb_4bit_compute_dtype": one_of(*DTYPES),
    "learning_rate": number(0, open_low=True),
    "lr_scheduler_type": one_of(*SCHEDULES),
    "warmup_ratio": number(0, 1),
    "warmup_steps": whole(0),
    "weight_decay": number(0),
    "optim": one_of(*OPTIMIZERS),
    "max_grad_norm": number(0),
    "per_device_train_batch_size": whole(1),
    "gradient_accumulation_steps": whole(1),
    "num_train_epochs": number(0, open_low=True),
    "max_steps": whole(1, also=-1),
    "max_length": optional(whole(2)),
    "eval_steps": optional(every),
    "save_steps": every,
    "save_total_limit": whole(1),
    "holdout_rows": whole(1),
    "gradient_checkpointing": switch,
    "together": whole(1),
}
