"""Consoles: what their encoding lacks is replaced, and nobody has to read to the end.

A console of Windows in Taiwan (cp950) or Europe (cp1252), or one of the C locale (ASCII), cannot
show every character that a report has. An error handler of :mod:`codecs` replaces what is
missing: − by -, → by ->, a letter with an accent by the letter, anything else by its escape.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import sys
import unicodedata
from collections.abc import Iterator
from typing import IO

REPLACED = "adaptbench.readable"  # the error handler's name
UNREADABLE = ("strict", "surrogateescape", "backslashreplace")  # what Python starts with

_STAND_INS = str.maketrans(
    {
        "−": "-",
        "–": "-",
        "—": "-",
        "‐": "-",
        "‑": "-",
        "·": "-",
        "•": "*",
        "±": "+/-",
        "×": "x",
        "÷": "/",
        "…": "...",
        "→": "->",
        "←": "<-",
        "↔": "<->",
        "↑": "^",
        "↓": "v",
        "⏎": "\\n",
        "“": '"',
        "”": '"',
        "„": '"',
        "«": '"',
        "»": '"',
        "‘": "'",
        "’": "'",
        "′": "'",
        "‹": "<",
        "›": ">",
        "⟨": "<",
        "⟩": ">",
        "≤": "<=",
        "≥": ">=",
        "≠": "!=",
        "≈": "~",
        "∞": "inf",
        "√": "sqrt",
        "∆": "delta ",
        "Δ": "delta ",
        "δ": "delta ",
        "μ": "u",
        "σ": "sigma",
        "Σ": "sum ",
        "✓": "ok",
        "✔": "ok",
        "✗": "x",
        "✘": "x",
        "★": "*",
        "█": "#",
        "■": "#",
        "●": "*",
        "\u00a0": " ",
        "\ufeff": "",
    }
)


def prepare() -> None:
    """Let standard output and error replace what their encoding lacks.

    A handler that the user chose (``PYTHONIOENCODING=cp950:ignore``) stays.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in UNREADABLE:
            stream.reconfigure(errors=REPLACED)


def readable(text: str, stream: IO[str]) -> str:
    """The text as a stream's encoding can show it."""
    encoding = _encoding(stream)
    return text.encode(encoding, REPLACED).decode(encoding)


def copy_of(stream: IO[str]) -> IO[str]:
    """A stream of its own to where another one goes, in the same encoding."""
    return os.fdopen(os.dup(stream.fileno()), "w", encoding=_encoding(stream), errors=REPLACED)


def _encoding(stream: IO[str]) -> str:
    return getattr(stream, "encoding", None) or "utf-8"


@contextlib.contextmanager
def closed_pipes_ignored() -> Iterator[None]:
    """Leave the block in silence where nobody reads on (``| head``), and write what is left."""
    try:
        yield
    except OSError as error:
        if not _says_closed(error):
            raise
    finally:
        for stream in (sys.stdout, sys.stderr):
            _flush(stream)


def _flush(stream: IO[str]) -> None:
    try:
        stream.flush()
    except OSError as error:
        if not _says_closed(error):
            raise
        # Python writes once more what is in a buffer as it ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _says_closed(error: OSError) -> bool:
    # Windows says "invalid argument".
    windows = sys.platform == "win32" and error.errno == errno.EINVAL
    return windows or isinstance(error, BrokenPipeError)


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(map(_stand_in, missing)), error.end


def _stand_in(character: str) -> str:
    known = character.translate(_STAND_INS)
    if known != character:
        return known
    if "\u2500" <= character <= "\u257f":  # lines of a table
        return _line(unicodedata.name(character))
    if "\u2580" <= character <= "\u259f":  # bars
        return "#"
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode("ascii")
    if plain.isprintable() and plain.strip():
        return plain
    return character.encode("ascii", "backslashreplace").decode("ascii")


def _line(name: str) -> str:
    across, down = (
        any(word in name for word in words)
        for words in (("HORIZONTAL", "LEFT", "RIGHT"), ("VERTICAL", "UP", "DOWN"))
    )
    return "+" if across and down else "-" if across else "|"


codecs.register_error(REPLACED, _replace)
