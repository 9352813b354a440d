"""The HTML report: closed to the outside, whole under hostile rows, small, the same every time."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.places import TEMPLATES
from harness.report.content import build
from harness.report.figures.nouns import MOST, Table
from harness.report.html import FEW, block, page, pictures
from harness.report.nouns import ExplorerRow, Report
from harness.results.reading import metrics_of, read_run
from harness.results.surprisal import ALPHABET, STEP
from tests.builders.costs import lines_during
from tests.builders.pages import Page
from tests.builders.runs import make_run, report_of

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!-- <script>",
    "]]>\u2028\u2029",
    "\u202egnp.exe \u2066x\u2069",
    "$& $1 {output} {{ 7*7 }}",
    "a\x00b\x1b\x7f\ufeff\U000e0041",
    "__proto__",
    "天地 \\u003c",
]


@pytest.fixture
def content(tmp_path: Path) -> Report:
    return report_of(make_run(tmp_path / "run"))


def explored(content: Report, **changes: Any) -> Report:
    """The same report with other contents of its explorer."""
    explorer = dataclasses.replace(content.explorer, **changes)
    return dataclasses.replace(content, explorer=explorer)


def big(content: Report, cells: int, rows: int) -> Report:
    """So many cells and rows as long as those of a real task, each cell with rows of its own."""
    explorer, section = content.explorer, content.headline
    instruction, output = "翻譯成文言文：\n" + "天地玄黃宇宙洪荒日月盈" * 4, "之乎者也" * 10
    ids = [f"classical-{i:04d}" for i in range(rows)]
    some = explorer.cells[1]
    groups = cells // 3
    many = dataclasses.replace(
        section, cells=(section.cells[1],) * cells, groups=(section.groups[1],) * groups
    )
    content = dataclasses.replace(
        content,
        cells=tuple(
            dataclasses.replace(content.cells[1], id=f"m-plain-fewshot-{i}") for i in range(cells)
        ),
        groups=(content.groups[1],) * groups,
        sections=(many,),
    )
    # Eight demonstrations of its own before every row, of a pool that all cells draw from.
    shown = tuple(("demonstration", i, i) for i in range(8))
    return explored(
        content,
        rows=tuple(ExplorerRow(i, instruction, output) for i in ids),
        strings=tuple(f"{i} {instruction}{output}" for i in ids),
        cells=tuple(
            dataclasses.replace(
                some,
                id=f"m-plain-fewshot-random-k08-s{i}",
                seed=i,
                values=((123.45,) * rows,),
                tokens=(41,) * rows,
                surprisal=("K" * 41,) * rows,
                shared=(),
                own=((*shown, ("query", 1, 2)),) * rows,
            )
            for i in range(cells)
        ),
    )


def test_the_policy_lets_one_script_run_and_nothing_else(content: Report) -> None:
    found = Page(page(content, {}))
    (policy,) = (
        str(meta["content"])
        for meta in found.all("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    )
    assert [script.get("type") for script in found.all("script")] == ["application/json", None]
    hashed = base64.b64encode(hashlib.sha256(found.scripts[1].encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{hashed}'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2]
    assert not [name for _, given in found.tags for name in given if name.startswith("on")]
    assert not [given for _, given in found.tags if "javascript:" in str(given)]


def test_nothing_is_loaded_from_elsewhere(content: Report) -> None:
    text = page(content, {})
    assert not re.search(r"https?://|@import|url\(", text)
    assert not [name for _, given in Page(text).tags for name in given if name == "src"]


def test_structure(content: Report) -> None:
    found = Page(page(content, {"k-m": ("Heading", "<svg></svg>")}))
    assert len(found.all("h1")) == 1
    levels = [int(tag[1]) for tag, _ in found.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    assert len(found.all("table")) == len(found.all("caption"))
    ids = [given["id"] for _, given in found.tags if "id" in given]
    assert len(ids) == len(set(ids))
    links = [str(link["href"])[1:] for link in found.all("a")]
    assert set(links) <= set(ids)
    assert {"pictures", "rows", "cells", "source"} <= set(links)
    named = {given.get("aria-labelledby") for given in found.all("section")} - {None}
    assert named <= set(ids)


@pytest.mark.parametrize("text", HOSTILE)
def test_rows_are_data(content: Report, text: str) -> None:
    tame = Page(page(content, {}))
    first, *rest = content.explorer.cells
    hostile = explored(
        content,
        rows=(ExplorerRow(text, text, text, ((text, text),)), *content.explorer.rows[1:]),
        strings=(text, *content.explorer.strings[1:]),
        cells=(dataclasses.replace(first, id=text, note=text), *rest),
    )
    written = page(hostile, {})
    found = Page(written)
    assert [tag for tag, _ in found.tags] == [tag for tag, _ in tame.tags]
    data = json.loads(found.scripts[0])
    explorer = json.loads(json.dumps(dataclasses.asdict(hostile.explorer)))
    assert {name: data[name] for name in explorer} == explorer
    assert not set(found.scripts[0]) & set("<>&\u2028\u2029\u202e\x00\x7f\ufeff")
    assert all(c.isprintable() for c in found.scripts[0])
    written.encode()


def test_what_no_file_can_hold_is_escaped() -> None:
    text = block(["\ud800", "\U000e0041", "<&>"])
    assert text.isascii()
    assert json.loads(text) == ["\ud800", "\U000e0041", "<&>"]


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    figures = {"k-m": ("k", "<svg></svg>")}
    assert page(report_of(folder), figures) == page(report_of(folder), figures)


def test_a_users_folder_comes_first(content: Report, tmp_path: Path) -> None:
    (tmp_path / "html").mkdir()
    (tmp_path / "html" / "again.html.j2").write_text("<p>{{ task.name }}: ours</p>\n", "utf-8")
    (tmp_path / "html" / "style.css").write_text("a { } /* {{ no }} {# template #} */\n", "utf-8")
    (tmp_path / "html" / "script.js").write_bytes(b"// {{ no }} {% template %}\r\nlet a;\r\n")
    text = page(content, {}, overrides=tmp_path)
    assert "<p>task: ours</p>" in text
    assert "Run it again</h2>" not in text
    assert "/* {{ no }} {# template #} */" in text
    script = Page(text).scripts[1]
    assert script == "// {{ no }} {% template %}\nlet a;\n"  # as a browser would hash it
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in text
    assert "Results</h2>" in text


def test_figures_stand_with_their_data(content: Report) -> None:
    names = ["cost-m", "new", "k-b", "rows-x", "distribution-m", "k-a", "curve-x", "rowwise-m"]
    assert pictures(dict.fromkeys(names)) == [
        *("k-a", "k-b", "distribution-m", "rowwise-m", "cost-m", "new"),
    ]
    figures = {name: (f"<{name}>", f"<svg id='{name}'></svg>") for name in names}
    tables = {"k-a": Table(["strategy", "k"], [["<zero>", 0], ["few", 1.5]])}
    text = page(content, figures, tables)
    assert re.findall("<svg id='([^']*)'", text) == pictures(figures)
    assert text.count("<figcaption>") == 6
    assert "<figcaption>&lt;k-a&gt;</figcaption>" in text
    assert text.count("<summary>The data</summary>") == 1
    assert '<tr><th scope="row">&lt;zero&gt;</th><td class="n" data-value="0">0</td></tr>' in text


def test_conclusions_come_first(content: Report) -> None:
    said = ("One <b> wins.", "By chance, perhaps.")
    section = dataclasses.replace(content.headline, conclusions=said)
    text = page(dataclasses.replace(content, sections=(section,)), {})
    assert '<p class="headline">One &lt;b&gt; wins.</p>' in text
    assert "<li>By chance, perhaps.</li>" in text
    assert text.index("By chance") < text.index("Main table")
    silent = dataclasses.replace(content.headline, conclusions=())
    assert 'class="headline"' not in page(dataclasses.replace(content, sections=(silent,)), {})


def test_the_best_stands_against_zero_shot(tmp_path: Path) -> None:
    run = make_run(tmp_path / "better", shift=-0.5)
    data = json.loads(Page(page(report_of(run), {})).scripts[0])
    names = [data["cells"][data["metrics"][0][side]]["id"] for side in ("first", "other")]
    assert names == ["m-plain-fewshot-random-k01-s0", "m-plain-zeroshot"]
    run = make_run(tmp_path / "worse", shift=0.5)
    data = json.loads(Page(page(report_of(run), {})).scripts[0])
    assert data["cells"][data["metrics"][0]["first"]]["id"] == "m-plain-zeroshot"
    assert data["cells"][data["metrics"][0]["other"]]["id"] == "m-plain-fewshot-random-k01-s0"
    run = make_run(tmp_path / "alone", labels=("zeroshot",))
    data = json.loads(Page(page(report_of(run), {})).scripts[0])
    assert data["metrics"][0]["first"] == data["metrics"][0]["other"] == 0


def test_the_script_paints_what_it_is_given(content: Report) -> None:
    """The rules of a prompt and of surprisal stand in Python alone."""
    script = (TEMPLATES / "html" / "script.js").read_text("utf-8")
    for word in ("{instruction}", "ADAPTBENCH", "skeleton", "history", "innerHTML"):
        assert word not in script
    data = json.loads(Page(page(content, {})).scripts[0])
    assert (data["alphabet"], data["step"]) == (ALPHABET, STEP)
    (metric,) = data["metrics"]
    expected = {"title": "mean perplexity", "noun": "perplexity", "relative": True, "sign": 1}
    assert metric.items() >= {**expected, "observes": "likelihood", "corpus": False}.items()


def test_surprisal_reaches_the_page(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    manifest, measured = read_run(folder)
    name, measurement = next(iter(measured.items()))
    scores = tuple(dataclasses.replace(score, surprisal="Kz") for score in measurement.observations)
    measured[name] = dataclasses.replace(measurement, observations=scores)
    content = build(manifest, measured, metrics_of(manifest, folder))
    data = json.loads(Page(page(content, {})).scripts[0])
    assert data["cells"][0]["surprisal"] == ["Kz"] * len(scores)
    assert data["cells"][1]["surprisal"] == [""] * len(scores)
    assert data["cells"][0]["tokens"] == [score.n_tokens for score in scores]


def test_thirty_cells_are_small_and_sixty_are_hardly_more_work(content: Report) -> None:
    thirty, sixty = (big(content, cells=cells, rows=250) for cells in (30, 60))
    text = page(thirty, {})
    assert len(text.encode()) < 3_000_000
    before, after = (lines_during(lambda some=some: page(some, {})) for some in (thirty, sixty))
    # Rows of cells are written as data, and not looped over.
    assert after < 1.5 * before


def test_a_long_table_is_cut_and_says_so(content: Report) -> None:
    def shown(rows: int) -> str:
        table = Table(["row", "value"], [[f"r{i:05d}", float(i)] for i in range(rows)])
        return page(content, {"rowwise-m": ("Rows", "<svg></svg>")}, {"rowwise-m": table})

    whole, cut = shown(MOST), shown(MOST + 1)
    assert f">r{MOST - 1:05d}<" in whole
    assert "so that this page opens at once" not in whole
    assert f">r{MOST - 1:05d}<" in cut
    assert f">r{MOST:05d}<" not in cut
    assert "The first 1,000 of 1,001 rows, so that this page opens at once" in cut


def test_data_are_escaped_alike_whether_few_characters_need_it_or_many() -> None:
    # What is unprintable by json.dumps, and what is markup, by hand.
    many = [chr(0xE000 + i) for i in range(2 * FEW)]
    for unsafe in (["\u2028", "\u202e"], many):
        text = block(["<&>", "文\n", *unsafe])
        assert json.loads(text) == ["<&>", "文\n", *unsafe]
        assert "文\\n" in text
        assert text.isprintable()
        assert not set("<>&") & set(text)
