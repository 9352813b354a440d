"""The main table for programs and papers."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from harness.report import content as report
from harness.report.tables import tex, to_csv, to_latex
from harness.results.reading import read_run
from tests.builders.runs import make_run
from tests.builders.texts import HOSTILE


@pytest.fixture
def content(tmp_path: Path) -> dict[str, Any]:
    return report.build(*read_run(make_run(tmp_path / "results", shift=-0.2)))


def test_csv_has_every_number_in_full(content: dict[str, Any]) -> None:
    zero, few = csv.DictReader(io.StringIO(to_csv(content)))
    group = content["groups"][1]
    assert few["label"] == "fewshot-random-k01"
    assert few["seeds"] == "0 1 2"
    assert float(few["mean"]) == group["mean"]
    assert float(few["seeds_vs_zeroshot_low"]) == group["versus"]["seeds_ratio"][1]
    assert float(few["p"]) == group["versus"]["p"]
    assert zero["std"] == zero["p"] == zero["training_tokens"] == ""


def test_latex_is_a_table_of_what_is_shown(content: dict[str, Any]) -> None:
    text = to_latex(content)
    lines = text.splitlines()
    assert lines[0] == r"\begin{tabular}{lrrrrrr}"
    assert lines[-1] == r"\end{tabular}"
    rows = [line for line in lines if line.endswith(r"\\")]
    assert {line.count(" & ") for line in rows} == {6}
    mean = content["groups"][0]["mean"]
    assert rf"zeroshot & ${mean:.2f}\,\pm\,\mathrm{{n/a}}$ & " in rows[1]
    assert "−" not in text


# By hand, from TeX's ten special characters and three that its fonts lack in text.
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a_b&c", r"a\_b\&c"),
        (r"\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
        ("$x^2$ ~ #1 50%", r"\$x\textasciicircum{}2\$ \textasciitilde{} \#1 50\%"),
        ("a<b>|c", r"a\textless{}b\textgreater{}\textbar{}c"),
    ],
)
def test_texts_are_escaped(text: str, shown: str) -> None:
    assert tex(text) == shown


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_text(content: dict[str, Any], text: str) -> None:
    for group in content["groups"]:
        group["model"] = text
    content["constant"] = {}
    found = to_latex(content)
    assert tex(text) in found
    assert "\u202e" not in found
    parsed = list(csv.DictReader(io.StringIO(to_csv(content))))
    assert [row["model"] for row in parsed] == [text, text]
