"""The Chinese HTML report in a real browser: its script speaks Chinese, too, and it is legible.

Skipped where there is no Chromium or Chrome.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.report.publish import Style, rebuild
from tests.builders.answered import make_judged_run
from tests.builders.pages import obstacles, runs_over
from tests.builders.texts import ENGLISH


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_judged_run(tmp_path_factory.mktemp("judged") / "results", why="說得對。")
    rebuild(made, None, Style(languages=("zh-TW",)))
    return made


@pytest.fixture
def page(browser: Any, folder: Path) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.goto((folder / "report.zh-TW.html").as_uri())
    yield opened
    assert said == []
    context.close()


def test_what_the_script_says_is_chinese(page: Any) -> None:
    boxes = page.locator("#metric option").all_inner_texts()
    assert boxes == ["評審分數", "勝率", "chrF2"]
    for box in boxes:
        page.select_option("#metric", label=box)
        for order in ("better", "worse", "high", "low", "effect", "file"):
            page.select_option("#order", order)
            said = page.locator("#found, #order-said").all_inner_texts()
            assert all(re.search("[\u4e00-\u9fff]", text) for text in said)
        page.locator("#list details").first.evaluate("row => { row.open = true; }")
        page.locator("#list details .prompt, #list details .inside").first.wait_for()
        text = page.locator("#explorer").inner_text()
        assert "共 40 筆，顯示符合的 40 筆" in text
        assert [line for line in text.splitlines() if ENGLISH.search(line)] == []
    # A value of a script of its own is set apart.
    assert "各策略下的 chrF2" in text


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_usable_at_any_width(page: Any, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    page.locator("#list details summary").first.click()
    assert not runs_over(page)
    assert obstacles(page) == []
