"""How long a job will take, as an estimated number of FLOPs; only its proportions matter."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.core import DecodingSpec, Example, TrainingSpec
from harness.models.checkpoint import model_files
from harness.models.embedded import EMBEDDED
from harness.models.sources import Source
from harness.run.case import Case
from harness.run.plan import Plan

BYTES = 3  # of UTF-8 to a token, in most languages
ONE_BY_ONE = 4  # a token that is written takes as long as so many that are read
BACKWARD = 3  # training a token takes as long as reading three
UNKNOWN = 1e9  # parameters of a model whose name says nothing
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([bm])(?![a-z])", re.IGNORECASE)


def cell_flops(case: Case, plan: Plan) -> float:
    """What observing all rows of a case takes, its model and adapter being there."""
    draws = plan.demonstrations(case)
    shared = plan.options.scorer == "fast" and case.strategy.draw != "row"
    shown = [_tokens(draw) for draw in (draws[:1] if shared else draws)]
    tokens = sum(shown) + _tokens(plan.task.examples)
    if case.decoding is not None:
        tokens += ONE_BY_ONE * len(draws) * _written(case.decoding)
    return 2 * parameters(case.source) * tokens


def training_flops(case: Case) -> float:
    """What training the adapter of a case takes."""
    training = case.training
    assert training is not None
    return 2 * BACKWARD * parameters(case.source) * _trained(training)


def parameters(source: Source) -> float:
    """About how many a model has: by the bytes of its files, or by what its name says."""
    if source.kind in ("folder", "gguf"):
        path = Path(source.reference)
        files = model_files(path) if path.is_dir() else [path]
        return max(1.0, sum(file.stat().st_size for file in files) / 2)
    named = _SIZE.search(source.reference.rpartition("/")[2])
    if named is None:
        return 135e6 if source.reference in EMBEDDED else UNKNOWN
    return float(named[1]) * (1e9 if named[2].lower() == "b" else 1e6)


def _written(decoding: DecodingSpec) -> int:
    each = decoding.max_length or decoding.max_new_tokens
    return each * decoding.num_beams * decoding.num_return_sequences


def _trained(training: TrainingSpec) -> float:
    settings = training.settings
    tokens = rows = 0.0
    for stage in training.curriculum:
        epochs = stage.num_train_epochs or settings.num_train_epochs
        tokens += epochs * _tokens(stage.examples)
        rows += epochs * len(stage.examples)
    batch = settings.per_device_train_batch_size * settings.gradient_accumulation_steps
    if settings.max_steps > 0 and rows:
        tokens *= settings.max_steps * batch / rows
    return tokens


def _tokens(rows: Iterable[Example] | Sequence[Example]) -> float:
    return sum(
        sum(len(text.encode()) for text in (row.instruction, row.output)) / BYTES for row in rows
    )
