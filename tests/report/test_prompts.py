"""The explorer's prompts: as they were sent, put together once for rows that have much in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.core import Example, PromptTemplate
from harness.prompts.rendering import Part, parts, skeleton
from harness.records import Answer, Measurement
from harness.report import prompts
from harness.report.prompts import KINDS, NO_TEMPLATE, Piece, Prompts, Strings
from harness.results.manifest import Manifest, read_manifest
from tests.builders.cells import MEASUREMENT
from tests.builders.runs import make_run

TALK = (("system", "令"), ("user", "甲"), ("assistant", "乙"))
ROWS = (
    Example("a", " 問{number} ", "答"),
    Example("b", "問", "答"),
    Example("c", "談", "答", history=TALK),
    Example("d", "", "答"),
    Example("e", "問", "答"),
)
POOL = {
    "p": Example("p", "子{instruction}", "丑"),
    "q": Example("q", " 寅 ", " 卯", history=TALK),
    "r": Example("r", "辰", "巳"),
}
PLAINLY = PromptTemplate(
    "plain", "開。", "{number}.{instruction}>{output};", "{number}.{instruction}>"
)
BARE = PromptTemplate("bare", "", "{instruction}{output}", "{instruction}")
CHAT = PromptTemplate("chat", "開", "{number} {instruction}", " {instruction} {number}", chat=True)
SILENT = PromptTemplate("silent", "", "{instruction}", "{instruction}", chat=True)
SHOWN: dict[str, list[tuple[str, ...]]] = {
    "none": [()] * 5,
    "one draw": [("p", "q")] * 5,
    "a draw for each row": [("p",), ("q",), ("r",), ("p", "q"), ("q", "p")],
    "some alike": [("p",), ("q",), ("p",), ("p",), ("q",)],
}


def trimming(messages: Sequence[dict[str, str]]) -> str:
    """As Llama's: turns are trimmed."""
    return "".join(f"<{m['role']}>{m['content'].strip()}</>" for m in messages) + "<assistant>"


def keeping(messages: Sequence[dict[str, str]]) -> str:
    return "".join(f"[{m['role']}]\n{m['content']}\n" for m in messages)


def manifest(folder: Path) -> Manifest:
    found = read_manifest(make_run(folder))
    templates = (PLAINLY, BARE, CHAT, SILENT)
    return dataclasses.replace(found, rows=ROWS, shown=POOL, prompts=templates)


def measured(shown: Sequence[tuple[str, ...]], skeletons: dict[str, str]) -> Measurement:
    seen = [
        Answer(row.id, (), "文", "limit", "", (), 7, names, draw)
        for row, names in zip(ROWS, shown, strict=True)
        for draw in range(2)
    ]
    return dataclasses.replace(MEASUREMENT, observations=tuple(seen), skeletons=skeletons)


def one_by_one(
    template: PromptTemplate, shown: Sequence[tuple[str, ...]], chat: object, strings: Strings
) -> list[tuple[Piece, ...]]:
    """Every row's prompt as harness.prompts makes it, without any sharing."""

    def piece(part: Part) -> Piece:
        words = [KINDS[part.kind]]
        words += [part.row or ""] if part.kind == "demonstration" else []
        words += [part.role] if template.chat and part.role else []
        return part.kind, strings.place(" · ".join(words)), strings.place(part.text)

    return [
        tuple(map(piece, parts(template, row, [POOL[name] for name in names], chat)))  # type: ignore[arg-type]
        for row, names in zip(ROWS, shown, strict=True)
    ]


@pytest.mark.parametrize("template", [PLAINLY, BARE, CHAT, SILENT], ids=lambda one: one.name)
@pytest.mark.parametrize("chat", [trimming, keeping])
@pytest.mark.parametrize("shown", SHOWN.values(), ids=SHOWN)
def test_they_are_as_they_were_sent(
    template: PromptTemplate, chat: object, shown: list[tuple[str, ...]], tmp_path: Path
) -> None:
    known: dict[str, str] = {}

    def ask(messages: list[dict[str, str]]) -> str:
        return known.setdefault(skeleton(messages), chat(messages))  # type: ignore[operator]

    expected = Strings()
    every = one_by_one(template, shown, ask, expected)
    strings = Strings()
    made = Prompts(manifest(tmp_path), strings)
    for _ in range(2):  # the second time from what is known
        assert made.of(measured(shown, known), template) == (every, "")
    assert strings.all == expected.all


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    made = Prompts(manifest(tmp_path), Strings())
    assert made.of(measured(SHOWN["none"], {}), None) == ([], "The prompt was not kept.")
    lost = [("p", "gone")] * 5
    assert made.of(measured(lost, {}), PLAINLY) == ([], "Not kept: the demonstrations gone.")
    assert made.of(measured(SHOWN["none"], {}), CHAT)[1] == NO_TEMPLATE


def test_equal_demonstrations_are_put_together_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a run of three rows without a history, two models and two seeds."""
    put_together: list[object] = []
    filled: list[object] = []

    def together(*given: Any) -> list[Part]:
        put_together.append(given)
        return parts(*given)

    def filled_in(template: str, **given: Any) -> str:
        filled.append(given)
        return ""

    monkeypatch.setattr(prompts, "parts", together)
    monkeypatch.setattr(prompts, "fill", filled_in)
    made = Prompts(dataclasses.replace(manifest(tmp_path), rows=ROWS[:2] + ROWS[3:]), Strings())
    for names in [("p",), ("r",), ("p",), ("r",)]:
        seen = measured([names] * 5, {}).observations
        some = tuple(one for one in seen if one.id != "c")
        made.of(dataclasses.replace(MEASUREMENT, observations=some), PLAINLY)
    assert (len(put_together), len(filled)) == (2, 4)  # both draws, and each row


def test_what_all_rows_begin_with() -> None:
    one, two, three = ("query", 0, 1), ("query", 0, 2), ("history", 3, 4)
    assert prompts.shared([]) == 0
    assert prompts.shared([(one, two)]) == 2
    assert prompts.shared([(one, two), (one, three), (one, two, three)]) == 1
    assert prompts.shared([(one,), (one, two), (one, two, three)]) == 1
    assert prompts.shared([(one,), (), (one,)]) == 0
