"""Metrics against numbers worked out by hand and by the standard library."""

from __future__ import annotations

import math
import statistics

import pytest

from harness.core import Example
from harness.metrics.base import Reading
from harness.metrics.perplexity import Perplexity, nonfinite_rows
from harness.records import Likelihood
from harness.statistics.uncertainty import spread


def score(name: str, nll: float, tokens: int, size: int = 6) -> Likelihood:
    return Likelihood(name, nll, tokens, size // 3, size, 10)


# Perplexities 2, 4 and 16 by construction: NLL = tokens · ln(perplexity).
ROWS = [
    score("a", 3 * math.log(2), 3, 6),
    score("b", 2 * math.log(4), 2, 9),
    score("c", 1 * math.log(16), 1, 3),
]


def read(rows: list[Likelihood]) -> Reading:
    return Perplexity().read(rows, [Example(row.id, "", "") for row in rows])


def test_metrics_by_hand() -> None:
    found = read(ROWS)
    # 3 + 4 + 4 = 11 bits over 6 tokens and 18 bytes.
    assert found.aggregates == pytest.approx(
        {
            "mean_perplexity": 22 / 3,
            "geometric_mean_perplexity": 128 ** (1 / 3),
            "median_perplexity": 4,
            "token_perplexity": 2 ** (11 / 6),
            "bits_per_byte": 11 / 18,
        }
    )
    assert next(iter(found.aggregates)) == Perplexity().headline.name
    assert found.values.tolist() == pytest.approx([math.log(2), math.log(4), math.log(16)])
    assert found.denominators == (3, 2, 1)
    assert found.nonfinite == ()


def test_spread_is_the_sample_standard_deviation() -> None:
    values = [9.1, 9.5, 8.7]
    assert spread(values).std == pytest.approx(0.4)  # by hand: √((0 + 0.16 + 0.16) / 2)
    assert spread(values).mean == pytest.approx(statistics.fmean(values))


def test_one_value_has_no_spread() -> None:
    assert spread([3.0]).std is None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nonfinite_rows_are_counted_and_never_averaged_away(bad: float) -> None:
    rows = [*ROWS, score("d", bad, 2)]
    found = read(rows)
    assert found.nonfinite == (3,)
    assert nonfinite_rows(rows) == ["d"]
    assert not math.isfinite(found.aggregates["mean_perplexity"])
    if math.isnan(bad):
        assert math.isnan(found.aggregates["median_perplexity"])


def test_an_overflowing_perplexity_is_infinite() -> None:
    found = read([score("e", 1000.0, 1)])
    assert found.aggregates["mean_perplexity"] == math.inf
    assert found.nonfinite == (0,)


def test_no_rows() -> None:
    with pytest.raises(ValueError, match="no rows"):
        read([])
