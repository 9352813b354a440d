"""Finding metrics by name: in this package, in ``metrics/`` of the working directory, installed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.errors import MetricError, one_line
from harness.metrics.base import KINDS, Metric
from harness.metrics.corpus import CorpusMetric
from harness.plugins import Kind, find, select

GROUPS = {"degeneration": ("empty", "truncated", "looping", "copied", "wrong_script", "leaked")}
_REQUIRED = ("name", "title", "better", "definition", "row", "aggregates", "headline")
_NAME = re.compile(r"[A-Za-z0-9_]+")


def _is_metric(candidate: type) -> bool:
    return issubclass(candidate, Metric) and isinstance(getattr(candidate, "name", None), str)


METRICS = Kind(
    plural="metrics",
    singular="metric",
    flag="metrics",
    base="harness.metrics.base.Metric",
    required=_REQUIRED,
    is_one=_is_metric,
    error=MetricError,
    shipped=(Path(__file__).resolve().parent,),
)


def find_metric(
    name: str, where: str | None = None, definition: Mapping[str, str] | None = None
) -> Metric:
    """Return the metric called ``name``.

    Args:
        name: as its class carries it.
        where: what an error line begins with, e.g. the stored run that was measured by it; by
            default the flag.
        definition: what its numbers mean there, where it is a stored run's.

    Raises:
        MetricError: there is none, two carry its name, or it cannot be made.
    """
    return _made(find(METRICS).get(name, where)).told(definition or {})


def select_metrics(names: Sequence[str]) -> tuple[Metric, ...]:
    """Return the metrics called ``names``, in this order; a name may stand for several of them.

    Raises:
        MetricError: as :func:`find_metric`.
    """
    every = [one for name in names for one in GROUPS.get(name, (name,))]
    return tuple(_made(metric) for metric in select(METRICS, list(dict.fromkeys(every))))


def metric_names() -> list[str]:
    """Return the names of all metrics."""
    return sorted(find(METRICS).classes)


def _made(metric: type[Metric]) -> Metric:
    _check(metric)
    try:
        return metric()
    except Exception as error:  # a third party's code may raise anything
        raise MetricError(
            f"metric {metric.name!r}: cannot be made: {type(error).__name__}: {one_line(error)}"
        ) from error


def _check(metric: type[Metric]) -> None:
    """See that what a class says of itself can be meant.

    ``better = "Lower"`` would turn the gate around without a word.

    Raises:
        MetricError: it cannot; the message names the attribute.
    """

    def is_(name: str, right: bool, expected: str) -> None:
        if not right:
            found = getattr(metric, name, ())
            raise MetricError(f"metric {metric.name!r}: {name}={found!r}: expected {expected}")

    is_("name", bool(_NAME.fullmatch(metric.name)), "ASCII letters, digits and _")
    is_("title", _is_text(metric.title), "a text")
    is_("noun", _is_text(metric.noun), "a text")
    is_("observes", metric.observes in KINDS, " or ".join(map(repr, KINDS)))
    is_("better", metric.better in ("lower", "higher"), "'lower' or 'higher'")
    is_("scale", metric.scale in ("log", "linear"), "'log' or 'linear'")
    is_("span", _is_positive(metric.span), "a finite number above 0")
    is_("limits", _is_range(metric.limits), "(least, greatest), two numbers")
    is_("definition", _are_texts(metric.definition), "a mapping of names to texts, not empty")
    names = [one.name for one in (metric.headline, *metric.more)]
    is_("more", len({*names}) == len(names), "aggregates of different names")
    known = f"of the names of aggregates: {', '.join(names)}"
    is_("columns", {*metric.columns} <= {*names[1:]}, f"some {known}, without the headline")
    is_("center", metric.center in (None, *names), f"None or one {known}")
    is_("total", metric.total in (None, *names), f"None or one {known}")
    if issubclass(metric, CorpusMetric):
        is_("scale", metric.scale == "linear", "'linear': a corpus metric's values are not means")
        is_("sums", _are_names(getattr(metric, "sums", ())), "different names of statistics")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _are_texts(value: object) -> bool:
    if not isinstance(value, Mapping) or not value:
        return False
    return all(_is_text(text) for pair in value.items() for text in pair)


def _are_names(value: object) -> bool:
    if not isinstance(value, tuple) or not value:
        return False
    return all(map(_is_text, value)) and len({*value}) == len(value)


def _is_range(value: object) -> bool:
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    return all(isinstance(one, int | float) for one in value) and value[0] < value[1]


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value < math.inf
