"""Docstrings in Google's style, as Markdown."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator

SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises")
_TITLE = re.compile(rf"^({'|'.join(SECTIONS)}):$")
_ITEM = re.compile(r"^(\w+): +(.*)$", re.DOTALL)
_ROLE = re.compile(r":\w+:`~?([\w.]+\.)?(\w+)`")


def described(thing: object) -> str:
    """The docstring as Markdown: its text, then a list for each of its sections.

    Raises:
        ValueError: there is none.
    """
    parts = []
    for title, body in sections(thing):
        if not title:
            parts.append(prose(body))
        elif title in ("Returns", "Yields"):
            parts.append(f"**{title}:** {prose(body)}")
        else:
            lines = [f"- `{name}`: {text}" for name, text in items(body).items()]
            parts.append("\n".join([f"**{title}:**", "", *lines]))
    return "\n\n".join(parts)


def attributes(owner: type) -> dict[str, str]:
    """Field name → what the docstring of the class, or of one it is made of, says of it."""
    found: dict[str, str] = {}
    for one in reversed(owner.__mro__):
        if one.__doc__ and one is not object:
            for title, body in sections(one):
                found |= items(body) if title == "Attributes" else {}
    return found


def sections(thing: object) -> Iterator[tuple[str, str]]:
    """Yield titles and bodies; the text before the first section has the title ''.

    Raises:
        ValueError: there is no docstring.
    """
    text = inspect.cleandoc(getattr(thing, "__doc__", None) or "")
    if not text:
        raise ValueError(f"{thing!r}: has no docstring")
    title, body = "", list[str]()
    for line in text.splitlines():
        begins = _TITLE.match(line)
        if begins:
            yield title, _body(body)
            title, body = begins[1], []
        else:
            body.append(line)
    yield title, _body(body)


def _body(lines: list[str]) -> str:
    return textwrap.dedent("\n".join(lines)).strip()


def items(body: str) -> dict[str, str]:
    """The items of a section, ``name: text``, of which later lines are indented."""
    found: dict[str, str] = {}
    for item in re.split(r"\n(?=\S)", body):
        parts = _ITEM.match(item)
        if parts is None:
            raise ValueError(f"expected 'name: what it is', found {item!r}")
        found[parts[1]] = prose(" ".join(parts[2].split()))
    return found


def prose(text: str) -> str:
    """Paragraphs in Markdown: roles and double backticks become code, ``::`` a block of Python."""
    text = _ROLE.sub(r"`\2`", text).replace("``", "`")
    paragraphs = []
    for paragraph in re.split(r"\n\n(?=\S)", text):
        before, marker, code = paragraph.partition("::\n")
        if marker:
            block = textwrap.dedent(code).strip("\n")
            paragraphs += [f"{before}:".strip(), f"```python\n{block}\n```"]
        else:
            paragraphs.append(paragraph)
    return "\n\n".join(paragraphs)
