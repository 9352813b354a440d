"""The HTML report in a real browser: quiet, closed, usable, legible.

Skipped where there is no Chromium or Chrome.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.core import Example, PromptTemplate
from harness.prompts.rendering import parts
from harness.report.publish import rebuild
from harness.results.manifest import write_manifest
from harness.results.reading import read_run
from harness.results.store import Store
from harness.results.surprisal import encode
from tests.builders.pages import obstacles, runs_over
from tests.builders.runs import make_run, report_of
from tests.builders.texts import HOSTILE

LABELS = ("zeroshot", "fewshot-random-k01", "fewshot-random-k03")


def make_hostile(folder: Path) -> Path:
    """A run whose rows, demonstrations, prompts and model names are hostile texts."""
    make_run(folder, shift=-0.3, labels=LABELS)
    manifest, measured = read_run(folder)
    rows = []
    for index, row in enumerate(manifest.rows):
        text = HOSTILE[index % len(HOSTILE)]
        changes = {"instruction": f"{text} 翻譯成文言文", "output": f"答{text}"}
        rows.append(dataclasses.replace(row, **changes))
    demonstration = Example("demo-1", HOSTILE[0], HOSTILE[1])
    store, entries = Store(folder), []
    for entry in manifest.entries:
        assert entry.cell is not None
        shown = () if entry.label == "zeroshot" else ("demo-1",)
        scores = tuple(
            dataclasses.replace(
                score,
                demo_ids=shown,
                surprisal=encode(
                    [0.3 * (i % 30) for i in range(len(row.output) + 1)],
                    [(i, i + 1) for i in range(len(row.output))],
                    len(row.output),
                ),
            )
            for score, row in zip(measured[entry.id].observations, rows, strict=True)
        )
        store.put(dataclasses.replace(measured[entry.id], observations=scores))
        entries.append(dataclasses.replace(entry, model=f"m {HOSTILE[2]}"))
    prompt = PromptTemplate(
        name="plain",
        preamble=f"{HOSTILE[10]} {HOSTILE[17]}\n",
        demonstration="問{number}：{instruction}\n答：{output}\n",
        query="{instruction}$&\n",
    )
    write_manifest(
        folder,
        dataclasses.replace(
            manifest,
            rows=tuple(rows),
            shown={"demo-1": demonstration},
            prompts=(prompt,),
            entries=tuple(entries),
            task=dataclasses.replace(manifest.task, name=HOSTILE[4]),
        ),
    )
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_hostile(tmp_path_factory.mktemp("hostile") / "results")
    rebuild(made, None)
    return made


@pytest.fixture
def page(browser: Any, folder: Path) -> Iterator[Any]:
    """The report, opened; at the end it must have been quiet and have asked for nothing."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    said, asked = [], []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("dialog", lambda dialog: said.append(f"dialog {dialog.message}"))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto((folder / "report.html").as_uri())
    yield opened
    assert said == []
    assert asked == [(folder / "report.html").as_uri()]
    context.close()


def test_hostile_texts_make_no_elements(page: Any) -> None:
    for name in ("img", "iframe", "object", "embed", "form", "base", "[onload]", "[onerror]"):
        assert page.locator(name).count() == 0, name
    assert page.locator("script").count() == 2  # the data, and the one that shows them
    page.locator("#more").click()
    for row in page.locator("#list details").all():
        row.locator("summary").click()
        row.locator(".prompt").wait_for()
    text = page.locator("body").inner_text()
    assert "<script>alert(1)</script>" in text
    assert "{{ 7*7 }}" in text
    assert "\u202e" not in text
    assert "‹U+202E›" in text
    for name in ("img", "iframe", "svg[onload]", "u", "h1 ~ h1"):
        assert page.locator(f"#list {name}").count() == 0, name


def test_columns_sort_both_ways_by_mouse_and_keyboard(page: Any) -> None:
    table = page.locator("table:has(th button)").first
    header = table.locator("th:has(button)").nth(1)
    names = lambda: table.locator("tbody tr th").all_inner_texts()  # noqa: E731
    before = names()
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    up = names()
    header.locator("button").focus()
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "descending"
    assert names() == up[::-1]
    assert sorted(before) == sorted(up)


def test_search_order_and_opening_rows(page: Any) -> None:
    assert "40 of 40 rows" in page.locator("#found").inner_text()
    page.locator("#search").fill("r007")
    assert "1 of 40 rows" in page.locator("#found").inner_text()
    page.locator("#search").fill("nothing like it")
    assert "0 of 40 rows" in page.locator("#found").inner_text()
    page.locator("#search").fill("")
    page.locator("#order").select_option("high")
    page.locator("#other").select_option("0")
    first = page.locator("#list details").first
    first.locator("summary").focus()
    page.keyboard.press("Enter")
    assert first.get_attribute("open") is not None
    first.locator(".answer span").nth(3).wait_for(state="attached")  # painted once it is open
    page.locator("#more").click()
    assert page.locator("#list details").count() == 40


def test_prompts_are_shown_as_python_sends_them(page: Any, folder: Path) -> None:
    manifest, _ = read_run(folder)
    cells = [cell.id for cell in report_of(folder).explorer.cells]
    place = next(i for i, name in enumerate(cells) if "k01" in name)
    page.locator("#order").select_option("file")
    page.locator("#cell").select_option(str(place))
    template, shown = manifest.prompts[0], [manifest.shown["demo-1"]]
    for index in (0, 3, 10, 17):
        row = page.locator("#list details").nth(index)
        row.locator("summary").click()
        row.locator(".prompt").wait_for()
        pieces = row.locator(".prompt .piece .text").all_text_contents()
        expected = parts(template, manifest.rows[index], shown)
        assert len(pieces) == len(expected) == 3
        for piece, part in zip(pieces, expected, strict=True):
            plain = part.text.replace("\u202e", "‹U+202E›")
            if plain.isprintable() or "\n" in plain:
                assert piece.replace("⏎\n", "\n").replace("⏎", "\n") == plain or piece == plain
        row.locator("summary").click()


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_runs_over_the_side(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.locator("#list details summary").first.click()
    assert not runs_over(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.locator("#list details summary").first.click()
    for details in page.locator("main details:not([open]) > summary").all():
        if details.is_visible():
            details.click()
    assert obstacles(page) == []


def test_print_shows_everything_that_was_folded_away_nowhere_off_the_page(page: Any) -> None:
    page.emulate_media(media="print")
    assert page.locator("#search").is_hidden()
    assert page.locator("table").first.is_visible()


def test_without_scripts_the_report_is_still_there(browser: Any, folder: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((folder / "report.html").as_uri())
    assert page.locator("table").first.is_visible()
    assert "Looking into rows needs JavaScript" in page.locator("body").inner_text()
    context.close()


def test_of_sixty_cells_of_250_rows_only_what_is_looked_at_is_built(
    browser: Any, tmp_path: Path
) -> None:
    labels = ("zeroshot", *(f"fewshot-random-k{k:02d}" for k in range(1, 21)))
    folder = make_run(tmp_path / "results", labels=labels, rows=250, shift=-0.1)
    rebuild(folder, None)
    page = browser.new_page()
    page.goto((folder / "report.html").as_uri())
    assert "250 of 250 rows" in page.locator("#found").inner_text()
    assert page.locator("#list details").count() == 20
    assert page.locator("#list .inside").count() == 0
    # Less than one element for every row of every cell: the rest is data until it is shown.
    assert page.locator("*").count() < 61 * 250
    page.locator("#list details summary").nth(5).click()
    page.locator("#list .inside").wait_for()
    assert page.locator("#list .inside").count() == 1
    page.close()
