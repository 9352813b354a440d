"""Observing the rows of a case with a model in hand: likelihoods or answers, and their noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from harness.config.options import Options
from harness.core import DecodingSpec
from harness.records import Scoring, Writing
from harness.run.case import Case

if TYPE_CHECKING:
    from harness.models.encoding import Encoded
    from harness.models.loading import LoadedModel

Progress = Callable[[str, int, int, str], None]
PRECISION_ROWS = 8  # rows on which half precision is compared with float32


@dataclass(frozen=True)
class Observed:
    """Observations, and how they were made."""

    seen: tuple[Any, ...]
    scoring: Scoring = field(default_factory=Scoring)
    writing: Writing | None = None


def observe(
    options: Options,
    case: Case,
    loaded: LoadedModel,
    rows: list[Encoded],
    progress: Progress,
) -> Observed:
    """What the case asks for of every row.

    Raises:
        AdaptbenchError: a row does not fit, or what was computed is not finite.
    """
    if case.decoding is None:
        return _score(options, case, loaded, rows, progress)
    return _write(case, loaded, rows, case.decoding, progress)


def _score(
    options: Options, case: Case, loaded: LoadedModel, rows: list[Encoded], progress: Progress
) -> Observed:
    from harness.scoring.score import score

    total = len(rows)
    seen, how = score(
        loaded, rows, options.scorer, lambda done: progress(case.short, done, total, "rows")
    )
    return Observed(seen, scoring=how)


def _write(
    case: Case,
    loaded: LoadedModel,
    rows: list[Encoded],
    decoding: DecodingSpec,
    progress: Progress,
) -> Observed:
    from harness.generation.engine import write

    total = len(rows)
    seen, how = write(
        loaded,
        rows,
        decoding,
        case.seed or 0,
        lambda done: progress(case.short, done, total, "answers"),
    )
    return Observed(seen, writing=how)


def doubted(
    options: Options,
    case: Case,
    loaded: LoadedModel,
    rows: list[Encoded],
    observed: Observed,
    progress: Progress,
) -> Observed:
    """The same with how far it depends on batches: where asked, and in half precision."""
    from harness.generation.agreement import agreement
    from harness.scoring.score import repeat

    times, total = options.repeat_scoring, len(rows)
    if case.decoding is None and times > 1:
        noise = repeat(
            loaded,
            rows,
            options.scorer,
            observed.seen,
            times,
            lambda done: progress(case.short, done, total, "rows again"),
        )
        return replace(observed, scoring=replace(observed.scoring, repetition=noise))
    if observed.writing is not None and case.decoding and case.dtype != "float32":
        found = agreement(
            loaded,
            rows[:PRECISION_ROWS],
            case.decoding,
            case.seed or 0,
            observed.seen,
            lambda done: progress(case.short, done, PRECISION_ROWS, "answers again"),
        )
        return replace(observed, writing=replace(observed.writing, agreement=found))
    return observed
