"""The main table for programs and papers."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path

import pytest

from harness.report.nouns import Report
from harness.report.tables import tex, to_csv, to_latex
from tests.builders.runs import make_run, report_of
from tests.builders.texts import HOSTILE


@pytest.fixture
def content(tmp_path: Path) -> Report:
    return report_of(make_run(tmp_path / "results", shift=-0.2))


def test_csv_has_every_number_in_full(content: Report) -> None:
    zero, few = csv.DictReader(io.StringIO(to_csv(content)))
    group = content.headline.groups[1]
    assert group.comparison is not None
    assert group.comparison.seeds_effect is not None
    assert few["label"] == "fewshot-random-k01"
    assert few["seeds"] == "0 1 2"
    assert float(few["mean"]) == group.mean
    assert float(few["seeds_vs_control_low"]) == group.comparison.seeds_effect.low
    assert float(few["p"]) == group.comparison.p
    assert zero["std"] == zero["p"] == zero["training_tokens"] == ""


def test_latex_is_a_table_of_what_is_shown(content: Report) -> None:
    text = to_latex(content)
    lines = text.splitlines()
    assert lines[0] == r"\begin{tabular}{lrrrrrr}"
    assert lines[-1] == r"\end{tabular}"
    rows = [line for line in lines if line.endswith(r"\\")]
    assert {line.count(" & ") for line in rows} == {6}
    mean = content.headline.groups[0].mean
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
def test_hostile_texts_are_text(content: Report, text: str) -> None:
    def called(*models: str) -> Report:
        """The same with other names of models in the first section's first lines."""
        pairs = zip(content.headline.groups, models, strict=False)
        results = tuple(
            dataclasses.replace(one, group=dataclasses.replace(one.group, model=model))
            for one, model in pairs
        )
        return dataclasses.replace(
            content, sections=(dataclasses.replace(content.headline, groups=results),)
        )

    found = to_latex(called("another", text))  # so that models stand in the table
    assert tex(text) in found
    assert "\u202e" not in found
    parsed = list(csv.DictReader(io.StringIO(to_csv(called(text, text)))))
    assert [row["model"] for row in parsed] == [text, text]
