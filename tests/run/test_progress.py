"""The status line: behind the cursor, erased again, never wider than the terminal."""

from __future__ import annotations

import io
import re

import pytest

from harness.run.progress import ProgressLine, Remaining, duration


class Screen(io.StringIO):
    """One line of a terminal that understands the two sequences the status line uses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells = list(text)
        self.column = len(text)

    def write(self, text: str) -> int:
        for part in re.findall(r"\x1b\[(?:\d+D|K)|[^\x1b]", text):
            if part == "\x1b[K":
                del self.cells[self.column :]
            elif part.startswith("\x1b["):
                self.column -= int(part[2:-1])
            else:
                self.cells[self.column : self.column + 1] = [part]
                self.column += 1
        return len(text)

    @property
    def shown(self) -> str:
        return "".join(self.cells)


def test_shown_and_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 20.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    screen = Screen("suites/test_perplexity.py ..")
    line = ProgressLine(screen, 100)
    line.update(28, "fewshot-random-k03-s1", 0, 0, "loading the model")
    assert screen.shown == "suites/test_perplexity.py .. fewshot-random-k03-s1  loading the model"
    line.update(28, "fewshot-random-k03-s1", 0, 64, "rows")
    line.update(28, "fewshot-random-k03-s1", 16, 64, "rows")
    # 16 rows in 10 seconds: 1.6 a second, 48 left.
    assert screen.shown.endswith(".. fewshot-random-k03-s1  16/64 rows  1.6/s  0:30 left")
    line.clear()
    assert screen.shown == "suites/test_perplexity.py .."
    assert screen.column == 28
    line.clear()  # nothing is left to take away: what stands there is pytest's
    assert screen.shown == "suites/test_perplexity.py .."


@pytest.mark.parametrize("width", [28, 31, 40, 60, 80, 200])
def test_it_never_wraps(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    clock = iter([0.0, 10.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    screen = Screen("suites/test_perplexity.py ..")
    line = ProgressLine(screen, width)
    line.update(28, "fewshot-bidirectional-k05-s2", 0, 64, "rows")
    line.update(28, "fewshot-bidirectional-k05-s2", 16, 64, "rows")
    assert len(screen.shown) < max(width, 29)
    if width == 80:  # the rate goes first, the cell stays
        assert screen.shown.endswith(" fewshot-bidirectional-k05-s2  0:30 left")
    if width == 200:
        assert "16/64 rows  1.6/s  0:30 left" in screen.shown


def test_updates_are_not_more_frequent_than_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.1, 0.15, 0.16])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    screen = Screen("")
    line = ProgressLine(screen, 80, interval=0.2)
    for done in (1, 2, 3):
        line.update(0, "x", done, 9, "rows")
    assert "1/9" in screen.shown
    line.update(0, "x", 9, 9, "rows")  # the last one always
    assert "9/9" in screen.shown


def test_durations() -> None:
    assert duration(0.4) == "0:00"
    assert duration(75) == "1:15"
    assert duration(3725) == "1:02:05"


def test_the_time_left_counts_from_where_it_went_on(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    screen = Screen("")
    line = ProgressLine(screen, 80)
    line.update(0, "qlora-s0", 50, 100, "steps  loss 2.1")
    line.update(0, "qlora-s0", 60, 100, "steps  loss 2.0")
    assert "60/100 steps  loss 2.0  1.0/s  0:40 left" in screen.shown


def test_what_is_left_follows_from_the_work_that_was_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    left = Remaining({"a": 1.0, "b": 1.0, "c": 4.0, "stored": 1.0, "d": 2.0})
    assert left.seconds is None
    left.over("stored", computed=False)  # says nothing of how fast the run is
    assert left.seconds is None
    now[0] += 10
    left.over("a", computed=True)
    assert left.seconds == 10 * (1 + 4 + 2)
    assert left.line("a", 8.0, 4) == "a: 8.0 s, 0.5 rows/s; 2 of 5 cells, about 1:10 left"
    now[0] += 30
    left.over("c", computed=True)
    assert left.seconds == pytest.approx(40 / 5 * 3)
    assert left.line("c", 29.96, None) == "c: 30.0 s; 3 of 5 cells, about 0:24 left"
    for name in "bd":
        left.over(name, computed=True)
    assert left.line("d", 0.0, 4) == "d: 0.0 s; 5 of 5 cells"
    left.over("d", computed=True)  # a second test of the same cell
    assert left.finished == 5
