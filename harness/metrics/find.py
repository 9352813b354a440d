"""Finding metrics by name: in this package, in ``metrics/`` of the working directory, installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.errors import MetricError, one_line
from harness.metrics.base import Metric
from harness.plugins import Kind, find, select

_REQUIRED = ("name", "title", "better", "definition", "row", "aggregates", "headline")


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


def find_metric(name: str, where: str | None = None) -> Metric:
    """Return the metric called ``name``.

    Args:
        name: as its class carries it.
        where: what an error line begins with, e.g. the stored run that was measured by it; by
            default the flag.

    Raises:
        MetricError: there is none, two carry its name, or it cannot be made.
    """
    return _made(find(METRICS).get(name, where))


def select_metrics(names: Sequence[str]) -> tuple[Metric, ...]:
    """Return the metrics called ``names``, in this order.

    Raises:
        MetricError: as :func:`find_metric`.
    """
    return tuple(_made(metric) for metric in select(METRICS, names))


def metric_names() -> list[str]:
    """Return the names of all metrics."""
    return sorted(find(METRICS).classes)


def _made(metric: type[Metric]) -> Metric:
    try:
        return metric()
    except Exception as error:  # a third party's code may raise anything
        raise MetricError(
            f"metric {metric.name!r}: cannot be made: {type(error).__name__}: {one_line(error)}"
        ) from error
