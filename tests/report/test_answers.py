"""What reports say of answers: sections of their own, floor and ceiling, what went wrong."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
import sacrebleu

from harness.report.columns import columns, lines
from harness.report.html import page
from harness.report.markdown import render
from harness.report.nouns import Report
from harness.report.publish import rebuild
from harness.report.summary import summary
from harness.report.tables import table, to_csv, to_latex
from harness.results.manifest import read_manifest
from harness.results.reading import read_run
from tests.builders import answered
from tests.builders.answered import GREEDY, SAMPLE, make_answered_run
from tests.builders.pages import Page
from tests.builders.runs import report_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_answered_run(tmp_path_factory.mktemp("answered") / "results")


@pytest.fixture(scope="module")
def content(folder: Path) -> Report:
    return report_of(folder)


def test_a_section_shows_the_cells_that_its_metric_reads(content: Report) -> None:
    perplexity, chrf = content.sections
    assert [one.group.decoding for one in perplexity.groups] == ["", ""]
    assert [one.cell.id for one in chrf.cells][:3] == [
        "m-plain-zeroshot-greedy",
        "m-plain-zeroshot-sample-s0",
        "m-plain-zeroshot-sample-s1",
    ]
    assert len(perplexity.cells) + len(chrf.cells) == len(content.cells) == 11
    titles = [column.name for column in columns(content, perplexity, "terminal")]
    assert "decoding" not in titles
    assert "decoding" in [column.name for column in columns(content, chrf, "terminal")]


def test_a_value_is_that_of_sacrebleu_on_the_stored_answers(folder: Path, content: Report) -> None:
    manifest, measured = read_run(folder)
    references = [row.output for row in manifest.rows]
    for one in content.sections[1].cells:
        hypotheses = [answer.text for answer in measured[one.cell.id].answers]
        expected = sacrebleu.corpus_chrf(hypotheses, [references]).score
        assert one.aggregates["chrf"] == pytest.approx(expected, abs=1e-9)


def test_floor_and_ceiling_stand_below_every_table_of_answers(content: Report) -> None:
    perplexity, chrf = content.sections
    assert perplexity.anchors == ()
    floor, ceiling = chrf.anchors
    assert (floor.name, ceiling.name, ceiling.value) == ("copy the source", "the reference", 100.0)
    assert floor.value is not None
    assert 0 < floor.value < 40
    *_, one, other = table(content, chrf).splitlines()
    assert one.startswith("copy the source")
    assert re.search(rf"\b{floor.value:.2f}\b", one)
    assert other.startswith("the reference")
    assert "100.00" in other
    assert "copy the source" not in table(content, perplexity)


def test_a_group_is_compared_with_the_control_of_its_decoding(content: Report) -> None:
    chrf = content.sections[1]
    by_name = {(one.group.label, one.group.decoding): one for one in chrf.groups}
    for decoding in ("greedy", "sample"):
        assert by_name["zeroshot", decoding].comparison is None
        ours, control = by_name["fewshot-random-k01", decoding], by_name["zeroshot", decoding]
        assert ours.comparison is not None
        assert ours.mean is not None
        assert control.mean is not None
        assert ours.comparison.effect.estimate == pytest.approx(ours.mean - control.mean, abs=2)


def test_sentences_compare_strategies_and_decodings(content: Report) -> None:
    said = content.sections[1].conclusions
    assert any(
        re.match(
            r"greedy: fewshot-random-k01 has the highest chrF2, [\d.]+: row by row .* sure\.$", s
        )
        for s in said
    )
    assert any(
        re.match(r"With fewshot-random-k01, sample is [\d.]+ below greedy \[.*\] in chrF2, sure", s)
        for s in said
    )


def test_decodings_that_differ_in_no_row_are_not_compared_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = [("zeroshot", way, (seed,), 0.8) for way, seed in ((GREEDY, None), (SAMPLE, 0))]
    rest = [("fewshot-random-k01", way, (0,), 0.3) for way in (GREEDY, SAMPLE)]
    monkeypatch.setattr(answered, "CELLS", (*best, *rest))
    (chrf,) = report_of(make_answered_run(tmp_path, metrics=("chrf",))).sections
    assert any(
        sentence.startswith("sample: Nothing beats zeroshot") for sentence in chrf.conclusions
    )
    assert not [sentence for sentence in chrf.conclusions if sentence.startswith("With ")]


def test_what_went_wrong_is_counted_whatever_was_asked(content: Report, folder: Path) -> None:
    found = {(one.group.label, one.group.decoding): one.shares for one in content.degeneration}
    _, measured = read_run(folder)
    for label, decoding in found:
        seen = [
            answer
            for one in measured.values()
            if one.cell.label == label and one.cell.decoding
            if one.cell.decoding.name == decoding
            for answer in one.answers
        ]
        empty = sum(not answer.text.strip() for answer in seen) / len(seen)
        assert found[label, decoding]["empty"] == pytest.approx(empty)
    assert any(shares["empty"] for shares in found.values())
    assert "What went wrong with answers" in render("report.md.j2", content)


def test_a_choice_among_decodings_on_test_rows_is_flagged(content: Report, tmp_path: Path) -> None:
    assert content.decodings_on_test == ["greedy", "sample"]
    for text in (render("report.md.j2", content), page(content, {})):
        assert "picking the best of them by these numbers flatters it" in text
    plain = report_of(make_answered_run(tmp_path / "plain", ("perplexity",)))
    assert plain.decodings_on_test == ["greedy", "sample"]


def test_csv_and_summary_have_every_line(content: Report) -> None:
    parsed = list(csv.DictReader(io.StringIO(to_csv(content))))
    assert [(row["metric"], row["decoding"]) for row in parsed] == [
        *[("perplexity", "")] * 2,
        *[("chrf", "greedy"), ("chrf", "sample")] * 2,
    ]
    body = summary(content)
    assert body["metrics"][1]["anchors"]["the reference"] == 100
    assert body["metrics"][1]["better"] == "higher"
    assert [one["decoding"] for one in body["degeneration"]] == ["greedy", "sample"] * 2
    assert [one["name"] for one in body["decodings"]] == ["greedy", "sample"]
    assert json.loads(json.dumps(body)) == body


def test_answers_alone_make_a_report(tmp_path: Path) -> None:
    folder = make_answered_run(tmp_path / "results", ("chrf", "bleu"))
    report, files, _ = rebuild(folder, None)
    assert [section.metric.name for section in report.sections] == ["chrf", "bleu"]
    assert report.scorers == ()
    assert all(file.exists() for file in files)
    assert "Scorer" not in files[-1].read_text("utf-8")


def test_the_page_gets_answers_how_they_ended_and_what_went_wrong(content: Report) -> None:
    data = json.loads(Page(page(content, {})).scripts[0])
    assert [metric["observes"] for metric in data["metrics"]] == ["likelihood", "answer"]
    first = data["cells"][data["metrics"][1]["first"]]
    other = data["cells"][data["metrics"][1]["other"]]
    assert (first["id"], other["id"]) == (
        "m-plain-fewshot-random-k01-greedy-s0",
        "m-plain-zeroshot-greedy",
    )
    assert first["values"][0] == []
    assert len(first["values"][1]) == len(first["answers"]) == len(first["faults"]) == 40
    place, ended, _ = first["answers"][0][0]
    assert isinstance(data["strings"][place], str)
    assert ended == "ended: stop token"
    assert data["cells"][0]["answers"] == []


HOSTILE = "</script><img src=x onerror=alert(1)> | `a` **b** {{ 7*7 }} \u202egnp \x00"


def test_hostile_answers_are_text(tmp_path: Path) -> None:
    content = report_of(make_answered_run(tmp_path / "results", text=HOSTILE))
    html = page(content, {})
    assert "<img" not in html
    assert "\u202e" not in html
    assert "49" not in Page(html).text.partition("What the models write")[2][:2000]
    markdown = render("report.md.j2", content)
    assert "<img" not in markdown.replace(r"\<img", "")
    assert "\u202e" not in markdown
    to_latex(content)
    data = json.loads(Page(html).scripts[0])
    assert HOSTILE in data["strings"]


def test_lines_are_those_of_the_section(content: Report) -> None:
    assert [len(lines(section)) for section in content.sections] == [2, 4]


def test_reports_are_the_same_bytes_again(folder: Path) -> None:
    first = {path.name: path.read_bytes() for path in rebuild(folder, None)[1]}
    assert {path.name: path.read_bytes() for path in rebuild(folder, None)[1]} == first
    assert read_manifest(folder).entries[-1].decoding == "sample"
