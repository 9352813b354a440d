"""Answers in a real browser: two systems side by side, what went wrong, a judge's word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.report.publish import rebuild
from harness.results.reading import read_run
from tests.builders.answered import make_answered_run, make_judged_run
from tests.builders.pages import obstacles, runs_over

HOSTILE = "</script><img src=x onerror=alert(1)> 令\u202e {{ 7*7 }}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_answered_run(
        tmp_path_factory.mktemp("answers") / "results", ("perplexity", "chrf", "bleu"), text=HOSTILE
    )
    rebuild(made, None)
    return made


@pytest.fixture
def page(browser: Any, folder: Path) -> Iterator[Any]:
    """The report, opened; at the end it must have been quiet."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    said: list[str] = []
    for event in ("console", "pageerror", "dialog"):
        opened.on(event, lambda what: said.append(str(what)))
    opened.goto((folder / "report.html").as_uri())
    yield opened
    assert said == []
    context.close()


def options(page: Any, box: str) -> list[str]:
    found: list[str] = page.locator(f"#{box} option").all_inner_texts()
    return found


def test_a_metric_offers_the_cells_that_it_reads(page: Any) -> None:
    assert options(page, "metric") == ["mean perplexity", "chrF2", "BLEU"]
    assert not any("greedy" in name for name in options(page, "cell"))
    assert page.locator("#surprise").is_visible()
    assert page.locator("#fault").is_hidden()
    page.locator("#metric").select_option("1")
    assert len(options(page, "cell")) == 7
    assert all("greedy" in name or "sample" in name for name in options(page, "other"))
    assert page.locator("#surprise").is_hidden()
    assert page.locator("#differences").is_visible()
    page.locator("#metric").select_option("0")
    assert page.locator("#surprise").is_visible()


def test_two_answers_stand_beside_the_reference(page: Any, folder: Path) -> None:
    manifest, measured = read_run(folder)
    page.locator("#metric").select_option("1")
    page.locator("#order").select_option("file")
    row = page.locator("#list details").nth(4)
    row.locator("summary").focus()
    page.keyboard.press("Enter")
    row.locator(".side .under").first.wait_for()
    ours, other = row.locator(".side .under").all()
    seen = measured["m-plain-fewshot-random-k01-greedy-s0"].answers[4]
    assert "m-plain-fewshot-random-k01-greedy-s0: chrF2" in ours.inner_text()
    assert "m-plain-zeroshot-greedy: chrF2" in other.inner_text()
    assert "BLEU" in ours.inner_text()
    assert "ended: stop token" in ours.inner_text()
    # What is painted plain or as inserted is the answer; plain or as deleted, the reference.
    answer = ours.locator(".answer")
    kept = answer.locator(":scope > span, :scope > ins").all_text_contents()
    assert "".join(kept) == seen.text
    kept = answer.locator(":scope > span, :scope > del").all_text_contents()
    assert "".join(kept) == manifest.rows[4].output


def test_rows_are_found_by_what_was_written_and_by_what_went_wrong(page: Any, folder: Path) -> None:
    _, measured = read_run(folder)
    page.locator("#metric").select_option("1")
    page.locator("#search").fill("onerror")
    assert "1 of 40 rows" in page.locator("#found").inner_text()
    page.locator("#search").fill("")
    page.locator("#fault").select_option("empty")
    seen = measured["m-plain-fewshot-random-k01-greedy-s0"].answers
    empty = sum(not one.text.strip() for one in seen)
    assert empty
    assert f"{empty} of 40 rows" in page.locator("#found").inner_text()


def test_hostile_answers_make_no_elements(page: Any) -> None:
    page.locator("#metric").select_option("1")
    page.locator("#order").select_option("file")
    page.locator("#list details summary").first.click()
    page.locator("#list .side").first.wait_for()
    assert page.locator("img").count() == 0
    text = page.locator("#list details").first.inner_text()
    assert "<img src=x onerror=alert(1)>" in text
    assert "{{ 7*7 }}" in text
    assert "‹U+202E›" in text


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_usable_at_any_width(page: Any, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    page.locator("#metric").select_option("1")
    page.locator("#list details summary").nth(3).click()
    page.locator("#list .side").first.wait_for()
    assert not runs_over(page)
    assert obstacles(page) == []


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_judged_run(tmp_path_factory.mktemp("judged") / "results", why=HOSTILE)
    rebuild(made, None)
    return made


def test_verdicts_in_both_orders_stand_with_their_reasons(browser: Any, judged: Path) -> None:
    page = browser.new_page()
    said: list[str] = []
    for event in ("console", "pageerror", "dialog"):
        page.on(event, lambda what: said.append(str(what)))
    page.goto((judged / "report.html").as_uri())
    assert "The judge: judge, asked by helpful" in page.locator("#judges").inner_text()
    assert "fewshot-random-k01" in page.locator("#duels").inner_text()
    page.locator("#metric").select_option("1")
    assert all("-vs-zeroshot" in name for name in options(page, "cell"))
    page.locator("#list details summary").first.click()
    page.locator("#list .side").first.wait_for()
    text = page.locator("#list details").first.inner_text()
    assert "standing first (A), the verdict is" in text
    assert "standing second (B), it is" in text
    assert "because: </script><img src=x onerror=alert(1)>" in text
    assert "the other answer, zeroshot" in text
    assert page.locator("img").count() == 0
    for summary in page.locator("#judges details summary").all():
        summary.click()
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        assert not runs_over(page)
    assert obstacles(page) == []
    assert said == []
    page.close()
