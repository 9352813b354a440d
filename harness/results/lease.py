"""Who of several machines does something: one of them, and another if that one is gone.

A lease is a file that only one can be the first to make. Its holder writes it again every few
seconds. Who waits for it measures, by their own clock, for how long it has been the same: clocks of
two machines are never compared. One that has not changed for long is outbid by making the file of
the next number, which again only one can do.

A lease saves work. That two hold one for a moment is possible, where a machine stood still and goes
on, and costs the same work twice: what is done under a lease has to bear that.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from harness.errors import StoreError
from harness.results.objects import Objects

FOLDER = "leases"


@dataclass
class Lease:
    """The right to do what ``name`` says.

    Attributes:
        objects: where leases are kept.
        name: of what is done.
        beat: seconds between two signs of life.
        patience: seconds without one after which the holder counts as gone.
        pause: seconds until a waiting machine looks again, at first and at most.
        lost: whether another machine has taken it meanwhile.
    """

    objects: Objects
    name: str
    beat: float = 20.0
    patience: float = 120.0
    pause: tuple[float, float] = (1.0, 10.0)
    lost: bool = False
    holder: str = field(default_factory=lambda: f"{socket.gethostname()} {os.getpid()}")
    _mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    @contextmanager
    def held(self, waiting: Callable[[str], None], done: Callable[[], bool]) -> Iterator[None]:
        """Hold the lease, once nobody else does, or until what it is for is ``done``.

        Args:
            waiting: called with the holder's name whenever it is another.
            done: whether there is nothing left to do; the lease is then not needed.

        Raises:
            StoreError: the place cannot be reached.
        """
        number = self._acquire(waiting, done)
        if number is None:
            yield
            return
        stop = threading.Event()
        heart = threading.Thread(target=self._live, args=(number, stop), daemon=True)
        heart.start()
        try:
            yield
        finally:
            stop.set()
            heart.join()
            self._release(number)

    def _acquire(self, waiting: Callable[[str], None], done: Callable[[], bool]) -> int | None:
        """The number of the file that is ours, or None where there is nothing left to do."""
        pause, longest = self.pause
        seen, since = self._latest(), time.monotonic()
        while True:
            number, text = seen
            if number == 0 or time.monotonic() - since > self.patience:
                if self.objects.create(self._file(number + 1), self._words(0)):
                    return number + 1
            elif done():
                return None
            else:
                waiting(_holder(text))
                time.sleep(pause)
                pause = min(2 * pause, longest)
            latest = self._latest()
            if latest != seen:
                seen, since = latest, time.monotonic()

    def _latest(self) -> tuple[int, bytes]:
        """The highest number and what its file says; 0 where there is none."""
        numbers = [int(name[-6:]) for name in self.objects.names(self._folder) if _is_number(name)]
        if not numbers:
            return 0, b""
        return max(numbers), self.objects.read(self._file(max(numbers))) or b""

    def _live(self, number: int, stop: threading.Event) -> None:
        """Give signs of life until told to stop, or another machine has taken the lease."""
        count = 0
        while not stop.wait(self.beat):
            count += 1
            try:
                if self.objects.exists(self._file(number + 1)):
                    self.lost = True
                    return
                self.objects.write(self._file(number), self._words(count))
            except StoreError:  # out of reach: the next beat may come through
                continue

    def _release(self, number: int) -> None:
        try:
            for name in self.objects.names(self._folder):
                if _is_number(name) and int(name[-6:]) <= number:
                    self.objects.remove(name)
        except StoreError:  # it ends by itself
            return

    @property
    def _folder(self) -> str:
        return f"{FOLDER}/{self.name}"

    def _file(self, number: int) -> str:
        return f"{self._folder}/{number:06d}"

    def _words(self, count: int) -> bytes:
        said = {"holder": self.holder, "mark": self._mark, "beat": count}
        return json.dumps(said).encode("utf-8")


def _is_number(name: str) -> bool:
    return name[-6:].isdigit() and name[-7:-6] == "/"


def _holder(text: bytes) -> str:
    try:
        return str(json.loads(text)["holder"]).split()[0]
    except (ValueError, KeyError, TypeError, IndexError):
        return "another machine"
