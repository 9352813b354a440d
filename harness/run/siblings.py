"""Adapters of one run that may be trained in one batch with the one that is needed now."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from harness.core import ModelSpec
from harness.run.case import Case
from harness.training.gathering import Wanted
from harness.training.together import kind_of

Trained = tuple[ModelSpec, str]  # the base of an adapter, and the adapter's key


def siblings_of(
    case: Case, cases: Iterable[Case], trained: Callable[[Case], Trained], adapters: Path
) -> list[Wanted]:
    """What else a run wants to be trained on the same base, with the same prompt and equal shapes.

    Args:
        case: whose adapter is needed now.
        cases: all that the run measures, in its order.
        trained: finds out what adapter a case trains, and on what.
        adapters: the folder of all adapters.
    """
    training = case.training
    if training is None or training.settings.together == 1:
        return []
    base, key = trained(case)
    found: dict[str, Wanted] = {}
    for one in cases:
        other = one if one.judging is None else one.judging.answered
        if other.training is None or (other.source, other.template) != (case.source, case.template):
            continue
        if kind_of(other.training.settings) != kind_of(training.settings):
            continue
        its_base, its_key = trained(other)
        if its_base == base and its_key != key:
            found.setdefault(its_key, Wanted(adapters / its_key[:16], other.training))
    return list(found.values())
