"""What is being computed right now, and how long it will still take.

On a terminal, a line is written behind whatever pytest has on the current line and erased again,
so it never becomes part of the output. Where the output is kept, as in CI, a finished cell gets a
line.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import IO


def silent(*progress: object) -> None:
    """Show no progress, whatever is said of it."""


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
        self._last = -math.inf
        self._phase = ("", "")
        self._started = 0.0
        self._first = 0

    def update(self, column: int, what: str, done: int, total: int, note: str) -> None:
        """Show ``done`` of ``total``; ``column`` is where pytest left the cursor."""
        now = time.monotonic()
        unit = note.split()[0] if note else ""
        if (what, unit) != self._phase:
            self._phase, self._started, self._last = (what, unit), now, -math.inf
            self._first = done  # a resumed training run does not begin at 0
        if now - self._last < self.interval and done < total:
            return
        self._last = now
        self.clear()
        seconds, new = now - self._started, done - self._first
        rate = new / seconds if seconds > 0 else 0.0
        text = self._fitting(what, done, total, note, rate, self.width - column - 2)
        if text:
            self.terminal.write(" " + text)
            self.terminal.flush()
            self._shown = len(text) + 1

    def clear(self) -> None:
        """Take the text away and put the cursor back where it was."""
        if self._shown:
            self.terminal.write(f"\x1b[{self._shown}D\x1b[K")
            self.terminal.flush()
            self._shown = 0

    @staticmethod
    def _fitting(what: str, done: int, total: int, note: str, speed: float, room: int) -> str:
        """The longest of several versions that fits into ``room`` columns; the line never wraps."""
        count = f"{done}/{total} {note}" if total else note
        rate = left = ""
        if speed > 0:
            rate = f"{speed:.1f}/s"
            left = f"{duration((total - done) / speed)} left"
        versions = ([what, count, rate, left], [what, count, left], [what, left], [left])
        for parts in versions:
            text = "  ".join(part for part in parts if part)
            if text.isascii() and len(text) <= room:
                return text
        return ""


class Remaining:
    """How long what is left of a run will take, from what it has taken.

    Args:
        work: cell's id → how much work it is, in any unit.
    """

    def __init__(self, work: Mapping[str, float]) -> None:
        self.work = dict(work)
        self.total = len(self.work)
        self._started = time.monotonic()
        self._done = 0.0

    def over(self, cell: str, computed: bool) -> None:
        """Hear that a cell is over; only what was ``computed`` says how fast the run is."""
        work = self.work.pop(cell, 0.0)
        self._done += work if computed else 0.0

    @property
    def finished(self) -> int:
        """How many cells are over."""
        return self.total - len(self.work)

    @property
    def seconds(self) -> float | None:
        """Seconds that are left; None where nothing was computed yet."""
        if not self._done:
            return None
        return sum(self.work.values()) * (time.monotonic() - self._started) / self._done

    def line(self, cell: str, seconds: float, rows: int | None) -> str:
        """What is to be said of a finished cell.

        Args:
            cell: its id.
            seconds: how long it took.
            rows: how many it scored; None where it did more than that.
        """
        rate = "" if rows is None or not seconds else f", {rows / seconds:.1f} rows/s"
        left = self.seconds if self.work else None
        rest = "" if left is None else f", about {duration(left)} left"
        return f"{cell}: {seconds:.1f} s{rate}; {self.finished} of {self.total} cells{rest}"


def duration(seconds: float) -> str:
    """``m:ss``, or ``h:mm:ss`` from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
