"""Jobs in threads, their results in the caller's thread as soon as each is there.

The threads end with the program and are never waited for: a call that hangs keeps neither Ctrl-C
nor the end of the program from coming.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
GLANCE = 0.5  # seconds: where waiting for a queue cannot be interrupted, it is by then


class Workers(Generic[T]):
    """Threads that do ``job(0)`` … ``job(count - 1)``, ``together`` of them at the same time.

    Args:
        job: called with the number of a job, in any thread.
        count: so many jobs.
        together: so many threads.
        stop: when set, no job is begun any more.
    """

    def __init__(
        self, job: Callable[[int], T], count: int, together: int, stop: threading.Event
    ) -> None:
        self._job, self._count, self._stop = job, count, stop
        self._next = iter(range(count))
        self._lock = threading.Lock()
        self._done: queue.Queue[tuple[int, T | BaseException]] = queue.Queue()
        self._threads = [
            threading.Thread(target=self._work, name=f"judge-{number}", daemon=True)
            for number in range(min(max(1, together), count))
        ]

    def results(self) -> Iterator[tuple[int, T | BaseException]]:
        """Each job's number and its result, or what it raised, as soon as it is done."""
        for thread in self._threads:
            thread.start()
        left = self._count
        while left:
            try:
                yield self._done.get(timeout=GLANCE)
            except queue.Empty:
                # What a thread put down before it ended is there to be taken.
                if not any(map(threading.Thread.is_alive, self._threads)) and self._done.empty():
                    return  # they were stopped
                continue
            left -= 1

    def ready(self) -> Iterator[tuple[int, T | BaseException]]:
        """What is done already."""
        while True:
            try:
                yield self._done.get_nowait()
            except queue.Empty:
                return

    def _work(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                number = next(self._next, None)
            if number is None:
                return
            result: T | BaseException
            try:
                result = self._job(number)
            except BaseException as error:  # it is raised in the caller's thread
                result = error
            self._done.put((number, result))
