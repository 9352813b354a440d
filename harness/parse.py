"""From a flag's text to its value; a wrong one is a ValueError that says what would be right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.errors import suggest
from harness.places import Location

# Where a results directory may lie besides this machine.
SCHEMES = ("s3", "gs", "az", "hf", "memory", "file")


def _items(text: str) -> list[str]:
    items = [item.strip() for item in text.split(",")]
    if not all(items):
        raise ValueError("a comma-separated list without empty entries")
    return items


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) != len(values):
        raise ValueError("a list in which nothing stands twice")
    return values


def names(text: str) -> tuple[str, ...]:
    """Names, separated by commas."""
    return _distinct(tuple(nonempty(item) for item in _items(text)))


def integers(low: int, high: int) -> Callable[[str], tuple[int, ...]]:
    """Whole numbers from ``low`` to ``high``, separated by commas."""
    return lambda text: _distinct(tuple(integer(low, high)(item) for item in _items(text)))


def integer(low: int, high: int) -> Callable[[str], int]:
    """A whole number from ``low`` to ``high``."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"a whole number from {low} to {high}") from None
        if not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return value

    return parse


def choice(*known: str) -> Callable[[str], str]:
    """One of the names ``known``."""

    def parse(text: str) -> str:
        if text not in known:
            raise ValueError(f"one of {', '.join(known)}{suggest(text, known)}")
        return text

    return parse


def choices(*known: str) -> Callable[[str], tuple[str, ...]]:
    """Some of the names ``known``, separated by commas."""

    def parse(text: str) -> tuple[str, ...]:
        return _distinct(tuple(choice(*known)(item) for item in _items(text)))

    return parse


def share(text: str) -> float:
    """A share of one, as ``0.01`` or ``1%``."""
    what = "a share from 0 to below 1, such as 1% or 0.01"
    try:
        value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise ValueError(what) from None
    if not 0 <= value < 1:
        raise ValueError(what)
    return value


def nonempty(text: str) -> str:
    """A text that is not empty."""
    if not text.strip():
        raise ValueError("a text that is not empty")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("a text that is valid UTF-8") from None
    return text.strip()


def path(text: str) -> Path:
    """A path; ``~`` is the user's home."""
    return Path(nonempty(text)).expanduser()


def location(text: str) -> Path | Location:
    """A path, or the URL of a folder elsewhere."""
    scheme, mark, rest = nonempty(text).partition("://")
    if not mark:
        return path(text)
    if scheme not in SCHEMES or not rest.strip("/"):
        raise ValueError(
            f"a folder, or the URL of one as in s3://bucket/folder ({', '.join(SCHEMES)})"
        )
    return Location(f"{scheme}://{rest.rstrip('/')}")


def paths(text: str) -> tuple[Path, ...]:
    """Several paths, separated by commas."""
    return _distinct(tuple(Path(item).expanduser() for item in _items(text)))


def switch(text: str) -> bool:
    """``true`` or ``false``."""
    if text.lower() not in ("true", "false"):
        raise ValueError("true or false")
    return text.lower() == "true"
