"""A third party's metric whose value is a function of sums, and the mistakes that are one line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

from harness.core import Example
from harness.errors import MetricError
from harness.metrics.base import Array
from harness.metrics.chrf import Chrf
from harness.metrics.corpus import CorpusMetric
from harness.metrics.find import _check
from harness.metrics.perplexity import Perplexity
from harness.records import Likelihood
from tests.builders.answers import answer


class Bits(CorpusMetric):
    """Bits per byte, a quotient of sums."""

    name = "bits"
    title = "bits per byte"
    better = "lower"
    span = 10.0
    definition: ClassVar = {"bits": "total NLL in bits / total bytes"}
    sums = ("bits", "bytes")

    def statistics(self, seen: Sequence[Any], rows: Sequence[Example]) -> Array:
        return np.array([(one.nll / math.log(2), one.n_bytes) for one in seen])

    def combine(self, sums: Array) -> Array:
        found: Array = sums[..., 0] / np.maximum(sums[..., 1], 1)
        return found


SEEN = [Likelihood(str(i), nll, 2, 1, 3 + i, 5) for i, nll in enumerate((1.0, 3.0, 4.0, 0.5))]
ROWS = [Example(one.id, "", "") for one in SEEN]


def test_its_value_is_that_of_the_sums_and_not_the_mean_of_rows() -> None:
    found = Bits().read(SEEN, ROWS)
    assert found.sums is not None
    assert found.sums.shape == (4, 2)
    assert found.aggregates == {"bits": pytest.approx(8.5 / math.log(2) / 18)}
    assert found.values == pytest.approx([x.nll / math.log(2) / x.n_bytes for x in SEEN])
    assert found.tested is found.sums
    assert Bits().row(SEEN[1], ROWS[1]) == pytest.approx(3 / math.log(2) / 4)
    # perplexity's own bits per byte, computed elsewhere
    other = Perplexity().read(SEEN, ROWS).aggregates["bits_per_byte"]
    assert found.aggregates["bits"] == pytest.approx(other)
    assert Perplexity().read(SEEN, ROWS).sums is None


def test_a_row_that_is_not_finite_is_named() -> None:
    bad = [*SEEN[:3], Likelihood("3", math.nan, 2, 1, 3, 5)]
    assert Bits().read(bad, ROWS).nonfinite == (3,)


def test_the_statistics_are_part_of_what_a_baseline_is_compared_by() -> None:
    assert Bits().defined(ROWS) == {**Bits.definition, "statistics": "bits, bytes"}


def test_other_observations_are_one_line() -> None:
    with pytest.raises(MetricError, match=r"^metric 'chrf': reads one answer of each row, found one likelihood of row '0'$"):  # fmt: skip
        Chrf().read(SEEN, ROWS)
    with pytest.raises(MetricError, match="reads one likelihood of each row, found one answer of row 'a'"):  # fmt: skip
        Perplexity().read([answer("a", "x")], [Example("a", "", "")])


class Narrow(Bits):
    def statistics(self, seen: Sequence[Any], rows: Sequence[Example]) -> Array:
        return np.ones(len(rows))


class Raising(Bits):
    def combine(self, sums: Array) -> Array:
        raise KeyError("nll")


class Whole(Bits):
    def combine(self, sums: Array) -> Array:
        return np.zeros(3)


class Mean(Bits):
    def aggregates(self, seen: Sequence[Any], rows: Sequence[Example]) -> Mapping[str, float]:
        return {"bits": 1.0}


@pytest.mark.parametrize(
    ("metric", "line"),
    [
        (Narrow(), r"metric 'bits': statistics: found numbers of shape \(4,\), expected \(4, 2\)"),
        (Raising(), "metric 'bits': of_rows: KeyError: 'nll'"),
        (Whole(), r"metric 'bits': of_rows: found numbers of shape \(3,\), expected \(4,\)"),
        (Mean(), "metric 'bits': aggregates: bits is 1.0; expected 0.68.*, what the sums over"),
    ],
)
def test_a_mistake_is_one_line(metric: CorpusMetric, line: str) -> None:
    with pytest.raises(MetricError, match=f"^{line}"):
        metric.read(SEEN, ROWS)


def test_what_it_says_of_itself_is_checked() -> None:
    _check(Bits)
    for name, value, line in (
        ("scale", "log", "scale='log': expected 'linear'"),
        ("sums", (), r"sums=\(\): expected different names of statistics"),
        ("sums", ("a", "a"), r"sums=\('a', 'a'\): expected different names"),
    ):
        with pytest.raises(MetricError, match=line):
            _check(type("Odd", (Bits,), {name: value}))
