"""The mean perplexity that chooses a checkpoint, against the metric of the report."""

from __future__ import annotations

import math

import pytest

from harness.core import Prompt, Span
from harness.models.encoding import Encoded
from harness.scoring.score import likelihoods
from harness.training.evaluation import mean_perplexity
from tests.builders.cells import perplexity

ROWS = [
    Encoded(Prompt(str(size), (Span("x"),), "y"), (1, 2), tuple(range(3, 3 + size)))
    for size in (1, 4, 9)
]


@pytest.mark.parametrize(
    "nlls",
    [[1.0, 2.5, 30.1], [0.0, 0.0, 0.0], [1.0, math.nan, 2.0], [1.0, 5e3, 2.0], [math.inf, 1, 1]],
    ids=["plain", "certain", "nan", "overflow", "infinite"],
)
def test_it_is_the_headline_of_the_metric(nlls: list[float]) -> None:
    expected = perplexity(likelihoods(ROWS, nlls))
    assert repr(mean_perplexity(ROWS, nlls)) == repr(expected)


def test_it_is_the_mean_of_the_rows_perplexities() -> None:
    found = mean_perplexity(ROWS, [math.log(3), 4 * math.log(2), 9 * math.log(10)])
    assert found == pytest.approx((3 + 2 + 10) / 3)
