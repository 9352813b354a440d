"""A report's files: all of them or none, in the user's own dress if there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli import PASSED, WRONG, main
from harness.report.publish import Style, rebuild
from tests.builders.runs import make_run


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return make_run(tmp_path / "results", shift=-0.3)


def test_csv_and_latex_stand_beside_the_report(results: Path) -> None:
    assert main(["report", str(results), "--report=csv,latex"]) == PASSED
    assert (results / "report.csv").read_text("utf-8").startswith("label,strategy,model,")
    assert (results / "report.tex").read_text("utf-8").startswith(r"\begin{tabular}")


def test_every_figure_that_markdown_shows_is_a_file(results: Path) -> None:
    (results / "figures").mkdir()
    old = results / "figures" / "of-an-earlier-report.svg"
    old.write_text("<svg/>", "utf-8")
    rebuild(results, None)
    shown = {
        line.partition("](")[2].rstrip(")")
        for line in (results / "report.md").read_text("utf-8").splitlines()
        if line.startswith("![")
    }
    assert len(shown) >= 4
    assert {f"figures/{path.name}" for path in (results / "figures").iterdir()} == shown
    assert not old.exists()


def test_sentences_stand_first(results: Path) -> None:
    content, _, _ = rebuild(results, None)
    first = content.conclusions[0]
    assert "fewshot-random-k01 has the lowest mean perplexity" in first
    markdown = (results / "report.md").read_text("utf-8")
    assert markdown.index("has the lowest mean perplexity") < markdown.index("| strategy |")
    page = (results / "report.html").read_text("utf-8")
    body = page[page.index("<body") :]
    assert body.index("has the lowest mean perplexity") < body.index("<table")


def test_a_users_template_takes_the_place_of_ours(results: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "html").mkdir(parents=True)
    (own / "parts").mkdir()
    (own / "html" / "reading.html.j2").write_text("<p>our own words {{ task.n }}</p>", "utf-8")
    (own / "parts" / "table.md.j2").write_text("our own table, {{ groups | length }} rows\n")
    rebuild(results, None, Style(templates=own))
    assert "<p>our own words 40</p>" in (results / "report.html").read_text("utf-8")
    assert "our own table, 2 rows" in (results / "report.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{% if %}", "line 1: Expected an expression"),
        ("\n{{ nothing_of_this_name }}", "'nothing_of_this_name' is undefined"),
        ("{{ 7 | no_such_filter }}", "No filter named 'no_such_filter'"),
    ],
)
def test_a_template_that_does_not_work_is_one_line_and_nothing_is_written(
    results: Path, tmp_path: Path, text: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rebuild(results, None)
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    own = tmp_path / "own"
    (own / "html").mkdir(parents=True)
    (own / "html" / "reading.html.j2").write_text(text, "utf-8")
    assert main(["report", str(results), f"--templates={own}"]) == WRONG
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"--templates={own}: ")
    assert says in line
    assert {path: path.read_bytes() for path in results.rglob("*") if path.is_file()} == before
