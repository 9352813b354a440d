"""What asking an endpoint may cost: budgets of calls and tokens, and calls per minute."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from harness.errors import JudgeError

MINUTE = 60.0  # seconds


@dataclass(frozen=True)
class Limits:
    """How an endpoint may be asked.

    Attributes:
        concurrency: calls at the same time.
        per_minute: calls in any minute; None: as fast as they are answered.
        calls: budget of calls, every try counted.
        tokens: budget of tokens read and written, as the server counts them; estimated where it
            does not. Replies that are being written when it is reached may go beyond it.
        again: how often an unjudged question is asked once more, each time with another seed.
        reply_tokens: the longest reply.
        timeout: seconds that a call may be without a sign of life.
    """

    concurrency: int = 4
    per_minute: int | None = None
    calls: int | None = None
    tokens: int | None = None
    again: int = 2
    reply_tokens: int = 400
    timeout: float = 120.0


@dataclass(frozen=True)
class Spent:
    """Calls that were made, every try counted, and tokens read and written by the server."""

    calls: int = 0
    read: int = 0
    written: int = 0


class StoppedError(Exception):
    """No more calls are wanted; raised in the threads that make them, and caught there."""


def estimated_tokens(text: str) -> int:
    """About how many tokens a text has: a quarter of its ASCII characters, one for each other."""
    ascii_characters = sum(map(str.isascii, text))
    return math.ceil(ascii_characters / 4) + len(text) - ascii_characters


def counted_tokens(body: Mapping[str, Any], question: int, reply: str) -> tuple[int, int]:
    """Tokens read and written, as a response counts them; estimated where it does not.

    Args:
        body: of the response.
        question: the estimate for what was sent.
        reply: what was written.
    """
    usage = body.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return (
        read if _is_count(read) else question,
        written if _is_count(written) else estimated_tokens(reply),
    )


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


class Budget:
    """Counts calls and tokens over all threads, and says when there are no more."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._spent = Spent()
        self._reading = 0  # estimated tokens of the questions that are being answered

    @property
    def spent(self) -> Spent:
        """What has been spent so far."""
        return self._spent

    def begin(self, question: int) -> None:
        """Count a call.

        Args:
            question: about how many tokens it sends.

        Raises:
            JudgeError: it would be one too many, or read more than is left.
        """
        with self._lock:
            spent, limits = self._spent, self._limits
            tokens = spent.read + spent.written
            if limits.calls is not None and spent.calls >= limits.calls:
                raise JudgeError(self._line("--judge-calls", limits.calls))
            if limits.tokens is not None and tokens + self._reading + question > limits.tokens:
                raise JudgeError(self._line("--judge-tokens", limits.tokens))
            self._spent = Spent(spent.calls + 1, spent.read, spent.written)
            self._reading += question

    def end(self, question: int, tokens: tuple[int, int] = (0, 0), calls: int = 1) -> None:
        """Count what a call read and wrote.

        Args:
            question: as it was begun.
            tokens: read and written; none of a call that failed.
            calls: 0 for one that was not made after all.
        """
        with self._lock:
            spent = self._spent
            self._reading -= question
            read, written = tokens
            self._spent = Spent(spent.calls - 1 + calls, spent.read + read, spent.written + written)

    def _line(self, flag: str, budget: int) -> str:
        spent = self._spent
        return (
            f"{flag}={budget} does not suffice: {spent.calls:,} calls have read {spent.read:,} "
            f"tokens and written {spent.written:,}; what was judged is kept, and a higher {flag} "
            f"goes on from there"
        )


class Pace:
    """Lets no more calls begin within a minute than are allowed, and none during a pause."""

    def __init__(self, per_minute: int | None) -> None:
        self._lock = threading.Lock()
        self._begun: deque[float] = deque(maxlen=per_minute or 1)
        self._limited = per_minute is not None
        self._pause = 0.0  # no call begins before

    def wait(self, stop: threading.Event) -> None:
        """Wait for this call's turn.

        Raises:
            StoppedError: there are to be no more calls.
        """
        with self._lock:
            turn = time.monotonic()
            if self._limited and len(self._begun) == self._begun.maxlen:
                turn = max(turn, self._begun[0] + MINUTE)
            self._begun.append(turn)
        while not stop.is_set():
            delay = max(turn, self._pause) - time.monotonic()
            if delay <= 0:
                return
            stop.wait(delay)
        raise StoppedError

    def pause(self, seconds: float) -> None:
        """Let no call begin for so long, because the server asked for it."""
        with self._lock:
            self._pause = max(self._pause, time.monotonic() + seconds)
