"""An HTML report as tags, scripts and text, and how usable it is in a browser."""

from __future__ import annotations

import html.parser
from typing import Any

import pytest


class Page(html.parser.HTMLParser):
    """Tags with their attributes, the text of every script, and all other text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def runs_over(page: Any) -> bool:
    """Whether a page in a browser is wider than its window."""
    wide, there = page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    return bool(wide > there)


def obstacles(page: Any) -> list[tuple[str, list[str]]]:
    """What axe finds serious or critical on a page in a browser, and where; skips without axe.

    axe is run from outside the page's policy: its script comes over the debugger.
    """
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not there")
    return [
        (one["id"], [node["html"][:200] for node in one["nodes"][:3]])
        for one in axe.Axe().run(page).response["violations"]
        if one["impact"] in ("serious", "critical")
    ]
