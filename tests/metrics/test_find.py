"""Metrics by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import MetricError
from harness.metrics.find import find_metric, metric_names, select_metrics

HARD = """
from harness.metrics.base import Metric

class Hard(Metric):
    name = "hard"
    title = "share of hard rows"
    better = "lower"
    definition = {"hard": "rows whose perplexity is above 50"}

    def row(self, seen, row):
        return 1.0
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "metrics"
    own.mkdir()
    (own / "hard.py").write_text(HARD)
    (own / "easy.py").write_text(HARD.replace("hard", "easy").replace("Hard", "Easy"))
    return own


def test_a_metric_of_the_users_own(folder: Path) -> None:
    assert find_metric("hard").title == "share of hard rows"
    assert [metric.name for metric in select_metrics(("hard", "easy"))] == ["hard", "easy"]
    assert {"hard", "easy"} <= set(metric_names())


def test_the_base_class_is_no_metric(folder: Path) -> None:
    assert "Metric" not in metric_names()
    assert all(isinstance(name, str) for name in metric_names())


def test_an_unknown_one_is_one_line(folder: Path) -> None:
    with pytest.raises(MetricError, match=r"^--metrics=hart: no such metric \(did you mean 'hard"):
        select_metrics(("hart",))
    with pytest.raises(MetricError) as caught:
        find_metric("meteor", "results/run.json: was measured by meteor")
    assert str(caught.value).startswith(
        "results/run.json: was measured by meteor: no such metric; "
    )
    assert "known: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_that_cannot_be_made_is_one_line(folder: Path) -> None:
    (folder / "odd.py").write_text(
        HARD.replace("hard", "odd") + "\n    def __init__(self, x):\n        pass\n"
    )
    with pytest.raises(MetricError, match=r"^metric 'odd': cannot be made: TypeError"):
        find_metric("odd")


@pytest.mark.parametrize(
    ("attribute", "named"),
    [
        ('better = "Lower"', "better='Lower': expected 'lower' or 'higher'"),
        ('scale = "ratio"', "scale='ratio': expected 'log' or 'linear'"),
        ("span = 0", "span=0: expected a finite number above 0"),
        ('span = float("inf")', "span=inf: expected a finite number above 0"),
        ('observes = "answers"', "observes='answers': expected 'likelihood'"),
        ('title = " "', "title=' ': expected a text"),
        ("definition = {}", "definition={}: expected a mapping of names to texts, not empty"),
        ('definition = "rows"', "definition='rows': expected a mapping of names to texts"),
        ('columns = ("median",)', "columns=('median',): expected some of the names of aggregates"),
        ('center = "median"', "center='median': expected None or one of the names of aggregates"),
        ('total = "bits"', "total='bits': expected None or one of the names of aggregates"),
    ],
)
def test_what_a_metric_says_of_itself_is_checked(folder: Path, attribute: str, named: str) -> None:
    (folder / "odd.py").write_text(HARD.replace("hard", "odd") + f"\n    {attribute}\n")
    with pytest.raises(MetricError) as caught:
        find_metric("odd")
    assert str(caught.value).startswith(f"metric 'odd': {named}")


def test_a_name_is_fit_for_ids_and_columns(folder: Path) -> None:
    (folder / "odd.py").write_text(HARD.replace('name = "hard"', 'name = "my-metric"'))
    with pytest.raises(MetricError, match=r"^metric 'my-metric': name='my-metric': expected ASCII"):
        find_metric("my-metric")
