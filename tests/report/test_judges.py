"""What reports say of judges: who wins, what length has to do with it, people's corrections."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.records import Label
from harness.report.content import build
from harness.report.publish import rebuild
from harness.results.manifest import Manifest, read_manifest, write_manifest
from harness.results.reading import metrics_of, read_run
from tests.builders.answered import make_judged_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_judged_run(tmp_path / "results")


def rebuilt(folder: Path, manifest: Manifest) -> list[str]:
    """The sentences of the report of a changed run."""
    write_manifest(folder, manifest)
    return rebuild(folder, None)[0].conclusions


def test_wins_are_counted_over_seeds_as_one_row_each(folder: Path) -> None:
    manifest, measured = read_run(folder)
    report = build(manifest, measured, metrics_of(manifest, folder))
    (duel,) = report.duels
    seeds = [one.preferences for one in measured.values() if one.preferences]
    assert len(seeds) == 2
    values = np.array([[one.value for one in seed] for seed in seeds]).mean(axis=0)
    assert duel.rate is not None
    assert duel.rate.estimate == pytest.approx(values.mean())
    assert (duel.judged, duel.rows) == (40, 40)
    lengths = np.array([[len(one.text) - len(one.other) for one in seed] for seed in seeds])
    assert duel.longer == pytest.approx(np.mean(lengths.mean(axis=0) > 0))
    assert report.strengths == ()  # two systems have a win rate and no more


def test_a_good_judge_makes_sure_and_a_bad_one_does_not(folder: Path) -> None:
    manifest = read_manifest(folder)
    good = rebuilt(folder, manifest)
    assert any(one.startswith("fewshot-random-k01 wins ") and ", sure" in one for one in good)
    assert any("judge's score" in one and ", sure" in one for one in good)
    fooled = [
        replace(one, scores={**one.scores, "order": one.scores["reference"]}) if one.scores else one
        for one in manifest.exams
    ]
    said = rebuilt(folder, replace(manifest, exams=tuple(fooled)))
    scores = [one for one in said if "judge's score" in one]
    assert scores
    assert not any(", sure" in one for one in scores)
    # The other rubric's examination is another one, and stands.
    assert any("wins" in one and ", sure" in one for one in said)


def test_a_judge_that_was_not_examined_makes_nothing_sure(folder: Path) -> None:
    said = rebuilt(folder, replace(read_manifest(folder), exams=()))
    of_judges = [one for one in said if "judge's score" in one or " wins " in one]
    assert len(of_judges) > 1
    assert not any(", sure" in one for one in of_judges)


def test_means_are_corrected_where_people_labelled_enough(folder: Path) -> None:
    manifest, measured = read_run(folder)
    cell = measured["m-plain-zeroshot-greedy-judged"]
    labels = tuple(
        Label(one.id, (one.text,), min(5.0, (one.value or 0) + 1)) for one in cell.ratings[:35]
    )
    some = build(replace(manifest, labels=labels), measured, metrics_of(manifest, folder))
    (found,) = some.corrected
    assert (found.group.label, found.metric, found.found.labels) == ("zeroshot", "judge", 35)
    # People say a point more than the judge does, and so does the corrected mean.
    assert found.found.mean.estimate == pytest.approx(found.found.judged + 1, abs=0.2)
    few = build(replace(manifest, labels=labels[:20]), measured, metrics_of(manifest, folder))
    assert few.corrected == ()


def test_everything_stands_in_every_report(folder: Path) -> None:
    rebuild(folder, None)
    body = json.loads((folder / "summary.json").read_text("utf-8"))
    assert [one["rubric"] for one in body["judges"]] == ["helpful", "pairwise"]
    assert body["duels"][0]["against"] == "zeroshot"
    for name in ("report.md", "report.html"):
        text = (folder / name).read_text("utf-8")
        assert "Who wins, and what length has to do with it" in text
        assert "With 40 rows, a win rate is known to ±15.5 points at worst" in text


def test_published_numbers_stand_beside_and_are_compared_with_nothing(folder: Path) -> None:
    published = {"judge": {"the paper's adapter": 4.15}}
    manifest = replace(read_manifest(folder), published=published)
    before = rebuilt(folder, read_manifest(folder))
    assert rebuilt(folder, manifest) == before
    page = (folder / "report.html").read_text("utf-8")
    assert "the paper&#39;s adapter (published)" in page
    assert "compared with nothing" in page
    assert any(
        "published" in path.read_text("utf-8") for path in (folder / "figures").glob("cost*")
    )
    body = json.loads((folder / "summary.json").read_text("utf-8"))
    assert body["published"] == published["judge"]
