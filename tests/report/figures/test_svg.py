"""Figures: the same bytes everywhere, fit for any page, and nothing measured is missing."""

from __future__ import annotations

import hashlib
import math
import os
import random
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from harness.report.figures import svg as figures
from harness.report.figures.svg import learning_curve, length_against_score, standalone
from tests.builders import ROOT
from tests.builders.svg import HOSTILE, SVG, curve, description, marks, pool, run, some, words

PROGRAM = """
import hashlib, sys
from tests.builders.svg import some
print(hashlib.sha256("".join(some().values()).encode()).hexdigest())
assert "matplotlib.pyplot" not in sys.modules
"""


def test_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text(
        "lines.linewidth: 9\nfont.size: 30\nsavefig.facecolor: red\n"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONHASHSEED": "4242",
        "TZ": "Asia/Tokyo",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    drawn = "".join(some().values())
    assert drawn == "".join(some().values())
    assert done.stdout.strip() == hashlib.sha256(drawn.encode()).hexdigest()


def test_matplotlib_is_imported_when_something_is_drawn() -> None:
    program = "import sys, harness.report.figures.svg; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_nothing_is_left_behind_in_matplotlib() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    curve()
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", ["one", "three", "eight", "pool"])
def test_fit_for_a_page_and_for_a_file(name: str) -> None:
    svg = some()[name]
    root = ET.fromstring(svg)
    assert svg.startswith("<svg ")
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    labels = {
        element.get("id"): element.text
        for element in root
        if element.tag in (f"{SVG}title", f"{SVG}desc")
    }
    assert list(labels) == root.get("aria-labelledby", "").split()
    assert all(labels.values())
    assert "width: 100%" in root.get("style", "")
    assert "height: auto" in root.get("style", "")
    assert "<style" not in svg
    assert "currentColor" in svg
    assert "#000000" not in svg

    alone = standalone(svg)
    root = ET.fromstring(alone)
    assert root.tag == f"{SVG}svg"
    assert "currentColor" not in alone
    assert "100%" not in root.get("style", "")
    assert root.get("width") == "720"
    paper = root.find(f"{SVG}rect")
    assert paper is not None
    assert figures.PAPER in paper.get("style", "")
    for text in (svg, alone):
        assert figures.NEUTRAL not in text
        assert "<image" not in text
        assert "DejaVu" not in text


def test_ids_are_the_figures_own() -> None:
    drawn = [
        *some().values(),
        *(curve(slug=slug) for slug in ("a b", "a-b", "a_b", "a.b", 'a"b', "ab", "中", "")),
        length_against_score("a b", "pool", pool(50, 5)),
    ]
    seen: set[str] = set()
    for svg in drawn:
        root = ET.fromstring(svg)
        ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
        assert len(ids) == len(set(ids))
        assert not seen & set(ids)
        seen |= set(ids)
        used = [use.attrib["href"] for use in root.iter(f"{SVG}use")]
        used += [
            element.attrib["clip-path"][4:-1]
            for element in root.iter()
            if "clip-path" in element.attrib
        ]
        assert {target.removeprefix("#") for target in used} <= set(ids)


def test_text_stays_text() -> None:
    drawn = [
        curve(run(), slug=HOSTILE, title=HOSTILE, by=HOSTILE),
        length_against_score(HOSTILE, HOSTILE, pool(50, 5)),
    ]
    for svg in (*drawn, *map(standalone, drawn)):
        root = ET.fromstring(svg)
        assert not [element for element in root.iter() if element.tag.endswith("script")]
        title = root.findtext(f"{SVG}title") or ""
        assert title == HOSTILE.replace("\x07", "‹U+0007›")
        assert description(svg).startswith(title)
        assert words(svg)[0].startswith("</svg><script>alert(1)</script>")
    assert "$\\frac{x}" in words(curve(title="$\\frac{x}{0}$"))[0]


def test_a_long_title_is_cut_in_the_picture_only() -> None:
    svg = curve(title="x" * 200)
    assert "x" * 200 in (ET.fromstring(svg).findtext(f"{SVG}title") or "")
    assert words(svg)[0].rstrip() == "x" * 72 + "…"


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
    thin = figures._thin(points)
    assert len(thin) <= 400
    assert {(12_346, 9.0), (6_790, -1.0)} <= set(thin)
    assert thin == sorted(thin)
    assert figures._thin(points[:300]) == points[:300]
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
