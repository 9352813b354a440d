"""Checking the values of ``[qlora]``: what each setting may be, said in one line if it is not.

The settings themselves are :class:`harness.core.TrainingSettings`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from harness.config.flags import QUANTIZATIONS
from harness.core import TrainingSettings
from harness.errors import OptionError, suggest
from harness.training.optimizers import OPTIMIZERS

Check = Callable[[Any], Any]

SCHEDULES = (
    "cosine",
    "linear",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
)
DTYPES = ("auto", "float32", "bfloat16", "float16")


def is_number(value: Any) -> bool:
    """Whether it is a finite number that a float can hold."""
    try:
        return not isinstance(value, bool | str) and math.isfinite(value)
    except (OverflowError, TypeError):
        return False


def whole(low: int, also: int | None = None) -> Check:
    """Accept whole numbers from ``low`` on, and ``also``."""
    what = f"a whole number from {low}" + (f", or {also}" if also is not None else "")

    def check(value: Any) -> int:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not is_whole or not (value >= low or value == also):
            raise ValueError(what)
        return int(value)

    return check


def number(low: float, high: float = math.inf, *, open_low: bool = False) -> Check:
    """Accept finite numbers from ``low`` (or above it) to below ``high``."""
    what = f"a number {'above' if open_low else 'from'} {low:g}"
    what += "" if math.isinf(high) else f" to below {high:g}"

    def check(value: Any) -> float:
        if not is_number(value) or not low <= value < high or (open_low and value == low):
            raise ValueError(what)
        return float(value)

    return check


def one_of(*known: str) -> Check:
    """Accept one of some names."""

    def check(value: Any) -> str:
        if value not in known:
            raise ValueError(f"one of {', '.join(known)}{suggest(str(value), known)}")
        return str(value)

    return check


def switch(value: Any) -> bool:
    """Accept true and false."""
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def every(value: Any) -> float:
    """Accept a number of steps, or a share of all of them."""
    is_steps = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not is_steps and not (is_number(value) and 0 < value < 1):
        raise ValueError("a whole number of steps from 1, or a share of all steps between 0 and 1")
    return float(value)


def _modules(value: Any) -> str | tuple[str, ...]:
    if value == "all-linear":
        return str(value)
    # peft takes a text for a regular expression; names are what is meant.
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
    if isinstance(names, list) and names and all(isinstance(x, str) and x for x in names):
        return tuple(names)
    raise ValueError('"all-linear", or a list of names of layers')


def _share(value: Any) -> float:
    if not is_number(value) or not 0 < value <= 1:
        raise ValueError("a number above 0, and up to 1")
    return float(value)


def _optional(check: Check) -> Check:
    return lambda value: None if value == "none" else check(value)


CHECKS: dict[str, Check] = {
    "r": whole(1),
    "lora_alpha": number(0, open_low=True),
    "lora_dropout": number(0, 1),
    "target_modules": _modules,
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
    "max_length": _optional(whole(2)),
    "eval_steps": _optional(every),
    "save_steps": every,
    "save_total_limit": whole(1),
    "holdout_rows": whole(1),
    "gradient_checkpointing": switch,
}
assert set(CHECKS) == {field.name for field in fields(TrainingSettings)} - {"seed"}


GENERATION: dict[str, Check] = {
    "rows": whole(0),
    "max_new_tokens": whole(1),
    "do_sample": switch,
    "temperature": number(0, open_low=True),
    "top_p": _share,
    "repetition_penalty": number(0, open_low=True),
}


def check_table(
    where: str, table: Any, checks: Mapping[str, Check], aside: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the values of a table, each one checked.

    Args:
        where: what an error line begins with.
        table: what was read.
        checks: key → what accepts its value, or raises ValueError saying what is right.
        aside: key → what to say of it where it stands somewhere else.

    Raises:
        OptionError: a key that is not known, with the nearest one that is, or an unusable value.
    """
    if not isinstance(table, Mapping):
        raise OptionError(f"{where}: expected a table of settings, found {table!r:.60}")
    values = {}
    for key, value in table.items():
        if aside and key in aside:
            raise OptionError(f"{where}: {key}: {aside[key]}")
        if key not in checks:
            raise OptionError(
                f"{where}: no setting {key!r}{suggest(key, checks)}; known: {', '.join(checks)}"
            )
        try:
            values[key] = checks[key](value)
        except OptionError as error:  # of a table inside this one
            raise OptionError(f"{where}: {key}: {error}") from None
        except ValueError as error:
            raise OptionError(f"{where}: {key} = {value!r:.60}: expected {error}") from None
    return values


def check_settings(where: str, table: Any) -> dict[str, Any]:
    """Return the checked values of a table ``[qlora]``.

    Raises:
        OptionError: as :func:`check_table`.
    """
    aside = {"seed": "each cell trains with its own seed; name them with seeds"}
    return check_table(where, table, CHECKS, aside)
