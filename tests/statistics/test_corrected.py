"""A corrected mean against ppi-python, and how often its interval covers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from harness.metrics.base import Array
from harness.statistics.corrected import LEAST, Corrected, corrected_mean

NAN = np.nan


def of(labelled: Array, human: Array, rest: Array) -> Corrected:
    return corrected_mean(
        np.concatenate([labelled, rest]), np.concatenate([human, np.full(len(rest), NAN)])
    )


def test_the_mean_is_that_of_ppi_python() -> None:
    """ppi_mean_pointestimate and ppi_mean_ci of ppi-python 0.2.3, which uses a normal quantile."""
    place = np.arange(40)
    human = (7 * place % 5 < 3).astype(float)
    rest = 0.5 + 0.4 * np.cos(np.arange(200))
    believed = of(np.clip(human + 0.3 * np.sin(place), 0, 1), human, rest)
    assert believed.belief == 1
    assert believed.mean.estimate == pytest.approx(0.51010633, abs=1e-8)
    wider = (believed.mean.high - believed.mean.low) / (0.57232075 - 0.44789191)
    assert 1.0 < wider < 1.05
    # Its λ has variances over n, ours over n − 1.
    partly = of(0.3 * human + 0.3 + 0.3 * np.sin(3 * place), human, rest)
    assert 0 < partly.belief < 1
    assert partly.mean.estimate == pytest.approx(0.61677744, abs=1e-3)


def test_a_judge_that_adds_nothing_leaves_students_interval_of_the_labels() -> None:
    rng = np.random.default_rng(0)
    human = rng.normal(3, 1, 40)
    width = float(t.ppf(0.975, 39) * human.std(ddof=1) / np.sqrt(40))
    for found in (
        of(np.full(40, 3.0), human, np.full(100, 3.0)),  # says one thing
        of(human + rng.normal(0, 0.1, 40), human, np.array([3.0])),  # saw one row more
        of(human.copy(), human, np.empty(0)),  # saw no others
    ):
        assert found.belief == 0
        assert found.mean.estimate == pytest.approx(human.mean())
        assert found.mean.high - found.mean.estimate == pytest.approx(width)


def wins(rng: np.random.Generator, rows: int) -> tuple[Array, Array, float]:
    """People's verdicts, a judge that is right on seven of ten and else likes us, their mean."""
    human = rng.choice([0.0, 0.5, 1.0], size=rows, p=[0.3, 0.2, 0.5])
    guess = rng.choice([0.0, 1.0], size=rows, p=[0.3, 0.7])
    return human, np.where(rng.random(rows) < 0.7, human, guess), 0.6


def scores(rng: np.random.Generator, rows: int) -> tuple[Array, Array, float]:
    """People's scores, and a judge that is 0.8 too kind."""
    human = rng.normal(3, 1, rows)
    return human, human + 0.8 + rng.normal(0, 0.3, rows), 3.0


def unrelated(rng: np.random.Generator, rows: int) -> tuple[Array, Array, float]:
    return rng.normal(3, 1, rows), rng.normal(4.5, 1, rows), 3.0


@pytest.mark.parametrize("made", [wins, scores, unrelated])
def test_the_interval_covers(made) -> None:  # type: ignore[no-untyped-def]
    rng, runs, inside = np.random.default_rng(4), 2000, 0
    widths, plain = [], []
    for _ in range(runs):
        human, judged, mean = made(rng, LEAST + 250)
        found = of(judged[:LEAST], human[:LEAST], judged[LEAST:]).mean
        inside += found.low <= mean <= found.high
        widths.append(found.high - found.low)
        plain.append(2 * t.ppf(0.975, LEAST - 1) * human[:LEAST].std(ddof=1) / np.sqrt(LEAST))
    assert 0.93 <= inside / runs <= 0.97
    assert np.mean(widths) < {"scores": 0.6, "wins": 0.95, "unrelated": 1.06}[made.__name__] * np.mean(plain)  # fmt: skip


def test_rows_that_the_judge_left_are_left_out() -> None:
    rng = np.random.default_rng(1)
    human, judged = rng.normal(size=(2, 60))
    labels = np.where(np.arange(60) < 40, human, NAN)
    gone = np.where(np.arange(60) % 10 == 0, NAN, judged)
    kept = np.isfinite(gone)
    assert corrected_mean(gone, labels) == corrected_mean(judged[kept], labels[kept])


def test_few_labels_are_not_enough() -> None:
    labels = np.full(100, NAN)
    labels[:29] = 1.0
    with pytest.raises(ValueError, match="29 rows have a human's score; .* at least 30"):
        corrected_mean(np.ones(100), labels)
