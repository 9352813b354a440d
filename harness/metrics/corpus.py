"""Metrics whose value for a corpus is not a mean of rows, but a function of sums over rows.

With t_i the sufficient statistics of row i (for BLEU, numbers of n-grams) and f how they combine,

    value of a corpus   f(Σ t_i)        the headline
    value of a row      f(t_i)          for looking at; never averaged

The statistics of a row with several draws are their sums. Intervals and tests are those of
f(Σ t_i): see :mod:`harness.statistics.corpus`. A third party's is a class in one file, as any
metric is::

    class Bits(CorpusMetric):
        name = "bits"
        title = "bits per byte"
        better = "lower"
        definition = {"bits": "total NLL in bits / total bytes"}
        sums = ("bits", "bytes")

        def statistics(self, seen, rows):
            return np.array([(one.nll / math.log(2), one.n_bytes) for one in seen])

        def combine(self, sums):
            return sums[..., 0] / np.maximum(sums[..., 1], 1)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from harness.core import Example
from harness.errors import MetricError, one_line
from harness.metrics.base import Array, Metric, Reading, per_row
from harness.records import Observation


class CorpusMetric(Metric):
    """A metric with sufficient statistics. Its scale is linear.

    Attributes:
        sums: the names of the statistics, in order.
    """

    sums: ClassVar[tuple[str, ...]]

    def statistics(self, seen: Sequence[Any], rows: Sequence[Example]) -> Array:
        """What is summed over rows; shape (rows, statistics).

        Args:
            seen: the observations.
            rows: the test rows, in the same order.
        """
        raise NotImplementedError

    def combine(self, sums: Array) -> Array:
        """The values of so many corpora; shape (...,).

        Args:
            sums: over the rows of each; shape (..., statistics). Also sums of no rows, which are
                0, and, in a permutation test of runs with several seeds, means of sums.
        """
        raise NotImplementedError

    def row(self, seen: Any, row: Example) -> float:
        return float(self.of_rows(self.statistics([seen], [row]))[0])

    def of_rows(self, sums: Array) -> Array:
        """The value of each row, for looking at; shape (rows,)."""
        return self.combine(sums)

    def aggregates(self, seen: Sequence[Any], rows: Sequence[Example]) -> Mapping[str, float]:
        return {self.headline.name: float(self.combine(self.statistics(seen, rows).sum(axis=0)))}

    def defined(self, rows: Sequence[Example]) -> Mapping[str, str]:
        return {**self.definition, "statistics": ", ".join(self.sums)}

    def read(self, seen: Sequence[Observation], rows: Sequence[Example]) -> Reading:
        self._check_kind(seen)
        shape = (len(rows), len(self.sums))
        rows, draws = per_row(seen, rows)
        each = self._numbers(
            "statistics", (len(seen), shape[1]), lambda: self.statistics(seen, rows)
        )
        sums = each.reshape(shape[0], draws, shape[1]).sum(axis=1)
        values = self._numbers("of_rows", shape[:1], lambda: self.of_rows(sums))
        whole = self._numbers("combine", (), lambda: self.combine(sums.sum(axis=0)))
        aggregates = self._aggregates(seen, rows)
        found = aggregates[self.headline.name]
        if np.isfinite(sums).all() and not np.isclose(whole, found, rtol=1e-9, atol=1e-12):
            raise MetricError(
                f"metric {self.name!r}: aggregates: {self.headline.name} is {found!r}; expected "
                f"{float(whole)!r}, what the sums over rows combine to"
            )
        return Reading(values, None, aggregates, sums)

    def _numbers(self, what: str, shape: tuple[int, ...], compute: Callable[[], Array]) -> Array:
        """An array of this shape, where a third party's mistake is one line."""
        where = f"metric {self.name!r}: {what}"
        try:
            found = np.asarray(compute(), dtype=np.float64)
        except Exception as error:  # a third party's code may raise anything
            raise MetricError(f"{where}: {type(error).__name__}: {one_line(error)}") from error
        if found.shape != shape:
            raise MetricError(f"{where}: found numbers of shape {found.shape}, expected {shape}")
        return found
