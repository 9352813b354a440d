"""Hooks of mkdocs: pages that stand outside docs/, and links as they are in the repository.

Every page is written for whoever reads it in the repository: its links are paths from where it
stands. Here they become links of the site. What they name outside docs/ is brought along: a page
for each of ``PAGES``, any other file as it is, below ``files/``.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "README.md": "index.md",
    "README.zh-TW.md": "readme.zh-TW.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "examples/README.md": "examples.md",
}
SOURCES = {page: source for source, page in PAGES.items()}
# A link or a picture, outside of code: the target stands in the second group.
_LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and the files that stand outside docs/."""
    for source, page in PAGES.items():
        path = ROOT / source
        if path.is_file():
            text = path.read_text("utf-8")
            files.append(File.generated(config, page, content=text))
    linked: set[str] = set()
    for page in list(files.documentation_pages()):
        text = page.content_string
        for match in _LINK.finditer(text):
            linked.add(_resolved(match[2].partition("#")[0], page.src_uri))
    for source in sorted(linked):
        path = ROOT / source
        outside = source not in PAGES and not source.startswith(("docs/", ".."))
        if source and outside and path.is_file():
            name, content = f"files/{source}", path.read_bytes()
            files.append(
                File.generated(config, name, content=content, inclusion=InclusionLevel.NOT_IN_NAV)
            )
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Make links of the repository links of the site."""
    here = page.file.src_uri

    def on_the_site(match: re.Match[str]) -> str:
        target, hash_, anchor = match[2].partition("#")
        if not target or "://" in target or target.startswith("mailto:"):
            return match[0]
        source = _resolved(target, here)
        inside = source.removeprefix("docs/") if source.startswith("docs/") else None
        found = inside or PAGES.get(source) or f"files/{source}"
        link = posixpath.relpath(found, posixpath.dirname(here) or ".")
        return f"{match[1]}{link}{hash_}{anchor}{match[3]}"

    return _LINK.sub(on_the_site, markdown)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Give the theme's search dialog a name that a screen reader can say."""
    return output.replace('role="dialog"', 'role="dialog" aria-label="Search"')


def _resolved(target: str, page: str) -> str:
    """The path in the repository that a page's link names; empty where it names none."""
    if not target or "://" in target:
        return ""
    source = SOURCES.get(page, f"docs/{page}")
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
