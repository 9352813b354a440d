"""Figures: the same bytes everywhere, fit for any page, and nothing measured is missing."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from harness.report.figures import svg as figures
from harness.report.figures.svg import standalone
from harness.report.figures.training import length_against_score
from tests.builders import ROOT
from tests.builders.svg import HOSTILE, SVG, curve, description, pool, run, some, words

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
