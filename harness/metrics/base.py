"""What a metric is: a pure function from observations to numbers, with a direction and a meaning.

A metric gives each test row a value on the scale that is tested (for perplexity, its logarithm).
Everything else follows from these values: the mean over rows, intervals, paired comparisons, the
gate. A third party's metric is a class in one file::

    from adaptbench import Metric

    class Hard(Metric):
        name = "hard"
        title = "share of hard rows"
        better = "lower"
        definition = {"hard": "share of rows whose perplexity is above 50"}

        def row(self, seen, row):
            return float(seen.nll / seen.n_tokens > math.log(50))

It is found by name in ``harness/metrics/``, in a folder ``metrics/`` of the working directory, or
by an entry point of ``adaptbench.metrics``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from harness.core import Example, Observed
from harness.errors import MetricError, one_line
from harness.messages import listed, say
from harness.records import Answer, Likelihood, Measurement, Observation, Preference, Rating

KINDS: dict[str, type[Any]] = {
    "likelihood": Likelihood,
    "answer": Answer,
    "rating": Rating,
    "preference": Preference,
}
Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Aggregate:
    """One number of a cell.

    Attributes:
        name: in summaries and CSV, e.g. ``bits_per_byte``.
        title: of a column, e.g. ``bits/byte``.
        meaning: its definition, for the reader of a report.
        digits: after the decimal point.
    """

    name: str
    title: str
    meaning: str
    digits: int = 2


@dataclass(frozen=True)
class Effect:
    """How one mean differs from another, with the limits of its interval; 0 is no difference.

    On a log scale a relative change (−0.08: 8 % lower), on a linear scale a difference.
    """

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Reading:
    """What a metric reads from one cell.

    Attributes:
        values: of each row, on the scale that is tested; shape (rows,).
        denominators: of each row, where a value is a quotient whose denominator must be the same
            in cells that are compared; None for a metric without one.
        aggregates: name → value, the headline first.
        sums: under a corpus metric what each row adds to its sums; shape (rows, statistics).
    """

    values: Array
    denominators: tuple[int, ...] | None
    aggregates: Mapping[str, float]
    sums: Array | None = None

    @property
    def tested(self) -> Array:
        """What statistics are computed from: ``sums``, or ``values`` where there are none."""
        return self.values if self.sums is None else self.sums

    @property
    def nonfinite(self) -> tuple[int, ...]:
        """The places of rows without a finite value."""
        return unusable(self.tested)


def per_row(seen: Sequence[Observation], rows: Sequence[Example]) -> tuple[Sequence[Example], int]:
    """Match observations with rows that several of them can be of.

    Args:
        seen: of each row, in order, its draws one after the other; as many of every row.
        rows: the test rows.

    Returns:
        The row of each observation, and the number of draws.

    Raises:
        ValueError: there are no rows, or the observations are not theirs.
    """
    if not seen or not rows:
        raise ValueError("no rows to read a metric from")
    if len(seen) % len(rows):
        raise ValueError(f"{len(seen)} observations of {len(rows)} rows")
    draws = len(seen) // len(rows)
    every = [row for row in rows for _ in range(draws)]
    for one, row in zip(seen, every, strict=True):
        if one.id != row.id:
            raise ValueError(f"found an observation of row {one.id!r}, expected one of {row.id!r}")
    return every, draws


def unusable(tested: Array) -> tuple[int, ...]:
    """The places of rows that hold a number that is not finite; rows are the first axis."""
    whole = np.isfinite(tested).reshape(len(tested), -1).all(axis=1)
    return tuple(int(place) for place in np.flatnonzero(~whole))


class Metric:
    """A pure function of observations. Subclass it, and give it the class variables.

    Attributes:
        name: what ``--metrics`` calls it; ASCII letters, digits and _.
        title: in headings and sentences, e.g. ``mean perplexity``.
        noun: what one row has, e.g. ``perplexity``.
        observes: which observations it reads: ``likelihood``, ``answer``, ``rating`` or
            ``preference``.
        better: whether ``lower`` or ``higher`` values are better.
        scale: ``log`` where rows are compared by the ratio of what is shown, ``linear`` where by
            the difference. On a log scale, what is shown is the exponential of what is tested.
        span: on a linear scale, the distance from the worst to the best value. The gate's
            tolerance is a share of it; on a log scale it is a share of what is shown.
        limits: the least and the greatest value that there can be, where intervals end.
        definition: what the numbers mean. A baseline of another definition is not compared with.
        headline: the first aggregate: the mean over rows of what is shown of them.
        more: the other aggregates.
        columns: names of those of ``more`` that stand in the main table.
        center: on a log scale, the name of the aggregate that is :meth:`shown` of the mean of the
            tested values: the geometric mean.
        total: the name of the aggregate by which cells with other denominators are compared: the
            sum of value × denominator over the rows, up to a factor that the rows fix. None where
            such cells cannot be compared.
        notes: sentences for the reader of a report.
        needs_reference: whether it reads the row's reference.
        pictured: whether pictures are drawn of it.
        partial: whether a row may be without a value, as where a judge gave no verdict. Such rows
            are counted, left out of means and comparisons, and fail the gate.
        null: where a cell compares two systems by itself, the value that says they are alike; it
            is what the cell is tested against, instead of a control.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    noun: ClassVar[str] = say("value")
    observes: ClassVar[Observed] = "likelihood"
    better: ClassVar[Literal["lower", "higher"]]
    scale: ClassVar[Literal["log", "linear"]] = "linear"
    span: ClassVar[float] = 1.0
    limits: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    definition: ClassVar[Mapping[str, str]]
    headline: ClassVar[Aggregate]
    more: ClassVar[tuple[Aggregate, ...]] = ()
    columns: ClassVar[tuple[str, ...]] = ()
    center: ClassVar[str | None] = None
    total: ClassVar[str | None] = None
    notes: ClassVar[tuple[str, ...]] = ()
    needs_reference: ClassVar[bool] = True
    pictured: ClassVar[bool] = True
    partial: ClassVar[bool] = False
    null: ClassVar[float | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Give a metric without a headline of its own the mean, called by its name."""
        super().__init_subclass__(**kwargs)
        # Aggregates that are inherited are called as the inherited headline says.
        inherits = hasattr(cls, "headline") and cls.aggregates is not Metric.aggregates
        named = isinstance(getattr(cls, "name", None), str)
        if named and not inherits and "headline" not in cls.__dict__:
            said = getattr(cls, "definition", {})  # checked when the metric is asked for
            parts = said.values() if isinstance(said, Mapping) else ()
            meaning = listed((one if isinstance(one, str) else str(one) for one in parts), "; ")
            cls.headline = Aggregate(cls.name, getattr(cls, "title", cls.name), meaning)

    def row(self, seen: Any, row: Example) -> float:
        """The value of one row on the scale that is tested.

        Args:
            seen: what was observed of it: a metric says which of the observations it takes.
            row: the test row, with its reference.
        """
        raise NotImplementedError

    def denominator(self, seen: Any) -> int | None:
        """The denominator of the row's value, where values compare only if it is the same."""
        return None

    def aggregates(self, seen: Sequence[Any], rows: Sequence[Example]) -> Mapping[str, float]:
        """The numbers of a cell by name, the headline first.

        By default the mean over rows of what is shown. The headline has to be that mean: its
        intervals are the mean's.
        """
        values = [self.shown(self.row(one, row)) for one, row in zip(seen, rows, strict=True)]
        return {self.headline.name: math.fsum(values) / len(values)}

    def defined(self, rows: Sequence[Example]) -> Mapping[str, str]:
        """``definition``, with what depends on the test rows: how they are tokenized, say."""
        return self.definition

    def told(self, definition: Mapping[str, str]) -> Metric:
        """The metric as a stored run defines it, where something of it was the run's to choose."""
        return self

    def shown(self, value: float) -> float:
        """What a reader sees of a value on the scale that is tested."""
        if self.scale == "linear":
            return value
        try:
            return math.exp(value)
        except OverflowError:
            return math.inf

    # What follows from the above.

    @property
    def all(self) -> tuple[Aggregate, ...]:
        """Every aggregate, the headline first."""
        return (self.headline, *self.more)

    def aggregate(self, name: str) -> Aggregate:
        """The aggregate called ``name``."""
        return next(one for one in self.all if one.name == name)

    @property
    def worsening(self) -> int:
        """The sign of a change for the worse, on the scale that is tested."""
        return 1 if self.better == "lower" else -1

    def show(self, values: Array) -> Array:
        """:meth:`shown` of many values."""
        if self.scale == "linear":
            return values
        with np.errstate(over="ignore"):
            found: Array = np.exp(values)
        return found

    def effect(self, difference: float) -> float:
        """What a difference on the scale that is tested is called: see :class:`Effect`."""
        return self.shown(difference) - 1 if self.scale == "log" else difference

    def bound(self, tolerance: float) -> float:
        """The difference on the scale that is tested that a tolerance accepts.

        Args:
            tolerance: a share: of what is shown on a log scale, of ``span`` on a linear one.
        """
        return math.log1p(tolerance) if self.scale == "log" else tolerance * self.span

    def read(self, seen: Sequence[Observation], rows: Sequence[Example]) -> Reading:
        """Read a cell. Of a row with several draws, the value is their mean.

        Args:
            seen: the cell's observations, at least one of each row.
            rows: the test rows, in the same order.

        Raises:
            ValueError: there are no rows.
            MetricError: the metric raised or gave no number, reads other observations, or has a
                log scale, on which the draws of a row have no mean that is shown.
        """
        self._check_kind(seen)
        rows, draws = per_row(seen, rows)
        pairs = list(zip(seen, rows, strict=True))
        values = np.array([self._value(*pair) for pair in pairs], dtype=np.float64)
        # A value that is too large to be shown counts as not finite.
        values[np.isfinite(values) & ~np.isfinite(self.show(values))] = np.inf
        if type(self).aggregates is Metric.aggregates:  # the mean, and every row has been read
            shown = [self.shown(value) for value in values.tolist()]
            aggregates: Mapping[str, float] = {self.headline.name: math.fsum(shown) / len(shown)}
        else:
            aggregates = self._aggregates(seen, rows)
        self._check_headline(values, aggregates[self.headline.name])
        if draws > 1:
            if self.scale == "log":
                raise MetricError(
                    f"metric {self.name!r}: found {draws} draws of each row; a metric on a log "
                    f"scale reads one: use num_return_sequences = 1, and more --seeds"
                )
            return Reading(values.reshape(-1, draws).mean(axis=1), None, aggregates)
        counts = [self.denominator(one) for one in seen]
        known = tuple(count for count in counts if count is not None)
        return Reading(values, known if len(known) == len(seen) else None, aggregates)

    def _check_kind(self, seen: Sequence[Observation]) -> None:
        """See that the observations are of the kind that the metric reads."""
        for one in seen:
            if not isinstance(one, KINDS[self.observes]):
                raise MetricError(
                    f"metric {self.name!r}: reads one {self.observes} of each row, found one "
                    f"{type(one).__name__.lower()} of row {one.id!r}"
                )

    def _value(self, seen: Observation, row: Example) -> float:
        """:meth:`row`, where a third party's mistake is one line."""
        where = f"metric {self.name!r}: row {seen.id!r}"
        try:
            value = self.row(seen, row)
        except Exception as error:  # a third party's code may raise anything
            raise MetricError(f"{where}: {type(error).__name__}: {one_line(error)}") from error
        return _number(value, where)

    def _check_headline(self, values: Array, headline: float) -> None:
        """See that the headline is the mean that its intervals are of."""
        shown = self.show(values)
        if not np.all(np.isfinite(shown)):
            return
        mean = math.fsum(shown.tolist()) / len(shown)
        if not math.isclose(mean, headline, rel_tol=1e-9, abs_tol=1e-12):
            raise MetricError(
                f"metric {self.name!r}: aggregates: {self.headline.name} is {headline!r}; expected "
                f"{mean!r}, the mean over rows of what is shown"
            )

    def _aggregates(
        self, seen: Sequence[Observation], rows: Sequence[Example]
    ) -> Mapping[str, float]:
        """:meth:`aggregates`, where a third party's mistake is one line."""
        where = f"metric {self.name!r}: aggregates"
        try:
            found = dict(self.aggregates(seen, rows))
        except Exception as error:  # a third party's code may raise anything
            raise MetricError(f"{where}: {type(error).__name__}: {one_line(error)}") from error
        names = [one.name for one in self.all]
        if list(found) != names:
            raise MetricError(
                f"{where}: found {', '.join(map(str, found))}; expected "
                f"{', '.join(names)}, as headline and more say"
            )
        return {name: _number(value, f"{where}: {name}") for name, value in found.items()}


def reading(metric: Metric, measurement: Measurement, rows: Sequence[Example]) -> Reading:
    """:meth:`Metric.read` of a measurement, which is done once for the same metric and rows."""
    known = measurement.readings.get(metric.name)
    if known is None or known[0] is not metric or known[1] is not rows:
        known = metric, rows, metric.read(measurement.observations, rows)
        measurement.readings[metric.name] = known
    found: Reading = known[2]
    return found


def _number(value: object, where: str) -> float:
    """A number as a float, also numpy's; NaN and the infinities are numbers."""
    if isinstance(value, int | float | np.integer | np.floating | np.bool_):
        return float(value)
    raise MetricError(f"{where}: found {value!r:.80}, expected a number")
