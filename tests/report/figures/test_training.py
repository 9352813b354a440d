"""Pictures of a training run: every evaluation is there, and nothing measured is missing."""

from __future__ import annotations

import math
import random
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from harness.report.figures import svg as figures
from harness.report.figures import training
from harness.report.figures.svg import standalone
from harness.report.figures.training import learning_curve, length_against_score
from tests.builders.svg import curve, description, marks, pool, run, words


def test_every_evaluation_and_the_best_step_are_in_the_picture() -> None:
    svg = curve(run(), by="holdout")
    for line in ("evaluation-0", "test-set-0", "holdout-0"):
        assert marks(svg, line) == 9
    assert marks(svg, "best-step-0") == 1
    assert "best: step 60, 9.80" in words(svg)
    assert words(svg)[0].endswith("best step by holdout")
    assert {"10", "20", "30"} <= set(words(svg))
    assert "from 30.10 at step 0 to 9.80 at step 60" in description(svg)
    assert "mean perplexity on the test set falls" in description(svg)
    assert description(svg).endswith("(seed 0)")


def test_many_evaluations_are_all_there() -> None:
    row = {"loss": 2.0, "mean_perplexity": 10.0, "holdout_perplexity": None}
    svg = curve(run(evaluations=[{**row, "step": step} for step in range(500)]))
    assert marks(svg, "test-set-0") == 500
    assert marks(svg, "holdout-0") == 0
    assert "holdout" not in words(svg)


def test_a_few_seeds_are_told_apart_and_many_are_not() -> None:
    few = words(curve(*map(run, range(5))))
    assert [f"seed {i}" for i in range(5)] == [word for word in few if word.startswith("seed")]
    assert few.count("best: step 60, 9.80") == 5
    many = curve(*map(run, range(6)))
    assert not [word for word in words(many) if word.startswith("seed")]
    assert [marks(many, f"test-set-{i}") for i in range(6)] == [9] * 6
    assert description(many).endswith("; and 1 more")


def test_stages_have_a_line_in_both_panels() -> None:
    svg = curve(run(boundaries=[30, 55]))
    for name in ("loss-stage-30", "loss-stage-55", "mean-stage-30", "mean-stage-55"):
        assert svg.count(f'"curve-a.{name}"') == 1
    assert words(svg).count("new stage") == 2


def test_without_evaluations_there_is_one_panel() -> None:
    svg = curve(run(evaluations=[], best_step=None))
    assert "mean perplexity" not in words(svg)
    assert "loss (nats per token)" in words(svg)
    assert "training loss falls" in description(svg)


ODD = {"step": 10, "loss": math.nan, "mean_perplexity": math.inf, "holdout_perplexity": None}
EVEN = {"step": 20, "loss": 1.0, "mean_perplexity": 5.0, "holdout_perplexity": math.nan}


@pytest.mark.parametrize(
    "more",
    [
        {"losses": []},
        {"losses": [], "evaluations": []},
        {"losses": [2.5], "evaluations": []},
        {"losses": [2.5], "evaluations": [EVEN], "best_step": 20},
        {"losses": [math.nan, None, math.inf, -math.inf]},
        {"losses": [1e308, 2.0, 1e199], "evaluations": [{**EVEN, "mean_perplexity": 1e199}, EVEN]},
        {"evaluations": [ODD]},
        {"evaluations": [ODD, EVEN], "best_step": 10},
        {"evaluations": [{**EVEN, "mean_perplexity": 0.0}, {**EVEN, "step": 30}]},
        {"seed": None, "best_step": 999},
    ],
)
@pytest.mark.parametrize("others", [0, 1, 6])
@pytest.mark.filterwarnings("error")
def test_what_is_not_finite_is_left_out(more: dict[str, Any], others: int) -> None:
    svg = curve(run(**more), *map(run, range(others)))
    ET.fromstring(standalone(svg))
    assert " nan" not in svg.lower()
    assert " inf" not in svg.lower()


def test_values_are_left_out_one_by_one() -> None:
    svg = curve(run(evaluations=[ODD, EVEN, {**EVEN, "step": 30}], best_step=10))
    assert marks(svg, "test-set-0") == 2
    assert marks(svg, "best-step-0") == 0


def test_no_run_and_no_row() -> None:
    assert words(learning_curve("a", "t", [], None))[0] == "tno values"
    assert "not chosen" not in words(length_against_score("a", "t", []))


def test_long_trainings_are_thinned_and_keep_their_extremes() -> None:
    losses = [random.Random(i).random() for i in range(20_000)]
    losses[12_345], losses[6_789] = 9.0, -1.0
    points = figures.finite(enumerate(losses, 1))
    thin = training._thin(points)
    assert len(thin) <= 400
    assert {(12_346, 9.0), (6_790, -1.0)} <= set(thin)
    assert thin == sorted(thin)
    assert training._thin(points[:300]) == points[:300]
    assert len(curve(*(run(i, 20_000) for i in range(5)))) < 100_000


@pytest.mark.filterwarnings("error")
def test_a_large_pool_is_a_small_picture() -> None:
    svg = length_against_score("a", "pool", pool())
    assert len(svg) < 250_000
    assert marks(svg, "chosen-0") <= 100
    assert 1000 < marks(svg, "not-chosen-0") <= 3600
    assert "chosen (100 of 52,000)" in words(svg)
    assert {"10", "100", "1,000"} <= set(words(svg))
    worst = [
        (random.Random(i).random(), random.Random(-i - 1).random(), i % 2 == 0)
        for i in range(52_000)
    ]
    assert len(length_against_score("a", "pool", worst)) < 400_000


def test_a_small_pool_is_drawn_whole() -> None:
    rows = [(100.0 + 7 * i, i / 10, i % 4 == 0) for i in range(40)]
    svg = length_against_score("a", "pool", [*rows, (math.nan, 1.0, True), (5.0, math.inf, False)])
    assert marks(svg, "chosen-0") == 10
    assert marks(svg, "not-chosen-0") == 30
    assert "chosen (11 of 42): 100 to 352, 0 to 3.6" in description(svg)
