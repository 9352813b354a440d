"""A metric of a third party: what it has to give, and what follows from it."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import pytest

from harness.core import Example
from harness.errors import MetricError
from harness.metrics.base import Metric
from harness.metrics.find import find_metric
from harness.metrics.perplexity import Perplexity
from harness.records import Likelihood


class Hard(Metric):
    """The least that a metric can be."""

    name = "hard"
    title = "share of hard rows"
    better = "lower"
    definition: ClassVar = {"hard": "share of rows above 1 nat a token"}

    def row(self, seen: Likelihood, row: Example) -> float:
        return float(seen.nll / seen.n_tokens > 1)


class Likely(Metric):
    """Higher is better, and the best is 5."""

    name = "likely"
    title = "score"
    better = "higher"
    span = 5.0
    definition: ClassVar = {"likely": "five times the likelihood of a token"}

    def row(self, seen: Likelihood, row: Example) -> float:
        return 5 * math.exp(-seen.nll / seen.n_tokens)


SEEN = [Likelihood(str(nll), nll, 2, 1, 3, 5) for nll in (1.0, 3.0, 4.0, 0.5)]
ROWS = [Example(one.id, "", "") for one in SEEN]


def test_a_row_is_enough() -> None:
    found = Hard().read(SEEN, ROWS)
    assert found.values.tolist() == [0, 1, 1, 0]
    assert found.aggregates == {"hard": 0.5}
    assert found.denominators is None
    assert (Hard().headline.name, Hard().headline.title) == ("hard", "share of hard rows")


def test_one_that_inherits_aggregates_inherits_their_headline() -> None:
    class Own(Perplexity):
        name = "own"

    class Harder(Hard):
        name = "harder"

    assert next(iter(Own().read(SEEN, ROWS).aggregates)) == Own().headline.name
    assert Own().headline == Perplexity().headline
    assert Harder().read(SEEN, ROWS).aggregates == {"harder": 0.5}
    assert Harder().headline.name == "harder"


def test_on_a_linear_scale_an_effect_is_a_difference() -> None:
    assert Hard().effect(-0.25) == -0.25
    assert Hard().bound(0.01) == 0.01
    assert Likely().bound(0.01) == pytest.approx(0.05)  # of a range of 5
    assert (Hard().worsening, Likely().worsening) == (1, -1)
    assert Likely().shown(2.5) == 2.5


def test_on_a_log_scale_an_effect_is_a_relative_change() -> None:
    metric = Perplexity()
    assert metric.effect(math.log(0.75)) == pytest.approx(-0.25)
    assert metric.bound(0.01) == pytest.approx(math.log(1.01))
    assert metric.shown(1000.0) == math.inf


def test_what_can_not_be_shown_is_not_finite() -> None:
    seen = [*SEEN, Likelihood("huge", 2000.0, 2, 1, 3, 5), Likelihood("nan", math.nan, 2, 1, 3, 5)]
    rows = [*ROWS, Example("huge", "", ""), Example("nan", "", "")]
    assert Perplexity().read(seen, rows).nonfinite == (4, 5)


def test_the_shipped_one_is_found_by_its_name() -> None:
    assert isinstance(find_metric("perplexity"), Perplexity)


def made(**members: Any) -> Metric:
    """A metric that says of itself what :class:`Hard` does, but for these members."""
    said = {name: vars(Hard)[name] for name in ("title", "better", "definition", "row")}
    return type("Odd", (Metric,), {"name": "odd", **said, **members})()


def fail(*_: Any) -> float:
    raise ZeroDivisionError("division by zero")


@pytest.mark.parametrize(
    ("metric", "line"),
    [
        (made(row=fail), "row '1.0': ZeroDivisionError: division by zero"),
        (made(row=lambda *_: None), "row '1.0': found None, expected a number"),
        (made(row=lambda *_: "3"), "row '1.0': found '3', expected a number"),
        (made(aggregates=fail), "aggregates: ZeroDivisionError: division by zero"),
        (
            made(aggregates=lambda *_: {"mean": 0.5}),
            "aggregates: found mean; expected odd, as headline and more say",
        ),
        (
            made(aggregates=lambda *_: {"odd": 0.75}),
            "aggregates: odd is 0.75; expected 0.5, the mean over rows of what is shown",
        ),
    ],
)
def test_a_mistake_of_a_third_party_is_one_line(metric: Metric, line: str) -> None:
    with pytest.raises(MetricError) as caught:
        metric.read(SEEN, ROWS)
    assert str(caught.value) == f"metric 'odd': {line}"


def test_numbers_of_numpy_are_numbers() -> None:
    found = made(row=lambda self, seen, row: np.float32(seen.nll > 2)).read(SEEN, ROWS)
    assert found.values.tolist() == [0, 1, 1, 0]
