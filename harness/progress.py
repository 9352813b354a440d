"""What is being computed right now, on a terminal and nowhere else.

The line is written behind whatever pytest has on the current line and erased again, so it never
becomes part of the output.
"""

from __future__ import annotations

import time
import unicodedata
from typing import IO


class ProgressLine:
    """A status text behind the cursor: what, how much of it, how fast, how long still.

    Args:
        terminal: a stream on a terminal.
        width: columns of the terminal.
        interval: seconds between two updates.
    """

    def __init__(self, terminal: IO[str], width: int, interval: float = 0.2) -> None:
        self.terminal = terminal
        self.width = width
        self.interval = interval
        self._shown = 0
        self._last = 0.0
        self._phase = ("", "")
        self._started = 0.0

    def update(self, column: int, what: str, done: int, total: int, note: str) -> None:
        """Show ``done`` of ``total``; ``column`` is where pytest left the cursor."""
        now = time.monotonic()
        unit = note.split()[0] if note else ""
        if (what, unit) != self._phase:
            self._phase, self._started, self._last = (what, unit), now, 0.0
        if now - self._last < self.interval and done < total:
            return
        self._last = now
        self.clear()
        text = self._text(what, done, total, note, now - self._started)
        room = self.width - column - 2
        while text and len(text) > room:  # the important part is on the right
            _, _, text = text.partition("  ")
        if not text:
            return
        self.terminal.write(" " + text)
        self.terminal.flush()
        self._shown = len(text) + 1

    def clear(self) -> None:
        """Take the text away and put the cursor back where it was."""
        if self._shown:
            self.terminal.write(f"\x1b[{self._shown}D\x1b[K")
            self.terminal.flush()
            self._shown = 0

    def _text(self, what: str, done: int, total: int, note: str, seconds: float) -> str:
        parts = [what, f"{done}/{total} {note}"]
        if done and seconds > 0:
            rate = done / seconds
            parts.append(f"{rate:.1f}/s")
            parts.append(f"{duration((total - done) / rate)} left")
        text = "  ".join(parts)
        return "".join(c for c in text if c.isascii() or unicodedata.east_asian_width(c) in "NaH")


def duration(seconds: float) -> str:
    """``m:ss``, or ``h:mm:ss`` from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
