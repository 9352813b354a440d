"""Batches in a queue, from which every core takes its next one.

On CPUs a batch is small (:mod:`harness.scoring.batches`). If its matrix products are split over the
cores, they all wait for the slowest at every product, and on a machine with other work that is most
of the time. So each core computes whole batches, with one thread, and takes the next one when it is
done; where other programs have a part of the cores, a few more threads do. A batch's numbers then
do not depend on how many cores there are.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from queue import SimpleQueue
from typing import TYPE_CHECKING

from harness.errors import ModelError
from harness.scoring.batches import Batch

if TYPE_CHECKING:
    from torch import Tensor

MOST = 16  # workers; each holds a batch's activations and logits
SPARE = 2  # workers that help where other programs have a part of the cores


class Load:
    """Whether the workers have the cores, or other programs have a part of them.

    The system shares its cores among threads. Beside other programs, the same work gets more of
    them in more threads; on a machine without, more threads only push each other out of its caches.

    Args:
        workers: of this process, each of which could keep a core busy.
        clock: seconds.
        used: seconds that the cores computed for this process.

    Attributes:
        heavy: set while other programs have a part.
    """

    every = 0.3  # seconds between two looks

    def __init__(
        self,
        workers: int,
        clock: Callable[[], float] = time.perf_counter,
        used: Callable[[], float] = time.process_time,
    ) -> None:
        self.heavy = threading.Event()
        self._workers, self._clock, self._used = workers, clock, used
        self._before = clock(), used()

    def look(self) -> None:
        """See which part of the cores the workers had since the last look."""
        now = self._clock(), self._used()
        took = now[0] - self._before[0]
        if took < self.every:
            return
        share = (now[1] - self._before[1]) / took / self._workers
        self._before = now
        if share < 0.85:
            self.heavy.set()
        elif share > 0.95:
            self.heavy.clear()


class BatchQueue:
    """Batches that wait, and what was learnt of the memory that there is.

    Args:
        batches: in the order in which they are taken.
        compute: the losses of a batch, or None where it does not fit into memory.
        halves: a batch in two.
        too_long: what is wrong with a batch of one row that does not fit.

    Attributes:
        halved: how many batches did not fit.
        first: the first of them.
    """

    def __init__(
        self,
        batches: Sequence[Batch],
        compute: Callable[[Batch], Tensor | None],
        halves: Callable[[Batch], tuple[Batch, Batch]],
        too_long: Callable[[Batch], str],
    ) -> None:
        self.halved = 0
        self.first: Batch | None = None
        self._waiting = deque(batches)
        self._compute = compute
        self._halves = halves
        self._too_long = too_long
        self._lock = threading.Lock()
        self._largest = float("inf")  # tokens; batches of more did not fit

    def losses(self, workers: int) -> Iterator[tuple[Batch, Tensor]]:
        """Yield every batch with its losses, in the order in which they are finished.

        Args:
            workers: how many batches are computed at a time, each by a thread of its own; 1: here.

        Raises:
            ModelError: a single row does not fit into memory.
        """
        if workers == 1:
            yield from self._in_turn()
        else:
            yield from self._side_by_side(workers)

    def _in_turn(self, ready: Callable[[], object] | None = None) -> Iterator[tuple[Batch, Tensor]]:
        while True:
            if ready is not None:
                ready()
            batch = self._next()
            if batch is None:
                return
            losses = self._compute(batch)
            if losses is None:
                self._halve(batch)
            else:
                yield batch, losses

    def _side_by_side(self, workers: int) -> Iterator[tuple[Batch, Tensor]]:
        import torch

        done: SimpleQueue[tuple[Batch, Tensor] | BaseException | None] = SimpleQueue()
        load, numbers = Load(workers), count()

        def work() -> None:
            spare = next(numbers) >= workers
            try:
                with torch.inference_mode():  # of this thread
                    for found in self._in_turn(load.heavy.wait if spare else None):
                        done.put(found)
            except BaseException as error:  # handed to who waits for the losses
                done.put(error)
            load.heavy.set()  # there is nothing more to wait for
            done.put(None)

        with on_each_core(workers + SPARE, work):
            try:
                for _ in range(workers + SPARE):
                    while (found := done.get()) is not None:
                        if isinstance(found, BaseException):
                            raise found
                        load.look()
                        yield found
            finally:  # also where nobody wants to have the rest
                with self._lock:
                    self._waiting.clear()
                load.heavy.set()

    def _next(self) -> Batch | None:
        """Take the next batch; what is known not to fit is halved beforehand."""
        while True:
            with self._lock:
                if not self._waiting:
                    return None
                batch = self._waiting.popleft()
                small = len(batch.rows) == 1
                if small or len(batch.rows) * batch.width <= self._largest:
                    return batch
                self._waiting.extendleft(reversed(self._halves(batch)))

    def _halve(self, batch: Batch) -> None:
        """Put back a batch that did not fit, in two halves.

        Raises:
            ModelError: it is a single row.
        """
        with self._lock:
            self.halved += 1
            self.first = self.first or batch
            self._largest = min(self._largest, len(batch.rows) * batch.width / 2)
            if len(batch.rows) == 1:
                raise ModelError(self._too_long(batch))
            self._waiting.extendleft(reversed(self._halves(batch)))


def most_at_a_time(cores: int) -> int:
    """How many batches are in memory at a time, at most."""
    return 1 if cores == 1 else min(cores, MOST) + SPARE


@contextmanager
def on_each_core(workers: int, work: Callable[[], object], cores: int = 1) -> Iterator[None]:
    """Do the same in so many Python threads, in each of which torch computes with few cores.

    Args:
        workers: so many.
        work: what each does. All have done it when the context ends.
        cores: that each has.
    """
    import torch

    def started() -> None:
        torch.set_num_threads(cores)  # of this thread
        work()

    with few_cores():
        threads = [threading.Thread(target=started, daemon=True) for _ in range(workers)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            for thread in threads:
                thread.join()


@contextmanager
def few_cores(cores: int = 1) -> Iterator[None]:
    """While active, torch computes with so many here and in Python threads that start now."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(cores)
    try:
        yield
    finally:
        torch.set_num_threads(before)
