"""Batches in a queue, from which every core takes its next one.

On CPUs a batch is small (:mod:`harness.scoring.batches`). If its matrix products are split over the
cores, they all wait for the slowest at every product, and on a machine with other work that is most
of the time. So each core computes whole batches, with one thread, and takes the next one when it is
done. A batch's numbers then do not depend on how many cores there are.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING

from harness.errors import ModelError
from harness.scoring.batches import Batch

if TYPE_CHECKING:
    from torch import Tensor

MOST = 16  # workers; each holds a batch's activations and logits


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

    def _in_turn(self) -> Iterator[tuple[Batch, Tensor]]:
        while (batch := self._next()) is not None:
            losses = self._compute(batch)
            if losses is None:
                self._halve(batch)
            else:
                yield batch, losses

    def _side_by_side(self, workers: int) -> Iterator[tuple[Batch, Tensor]]:
        import torch

        done: SimpleQueue[tuple[Batch, Tensor] | BaseException | None] = SimpleQueue()

        def work() -> None:
            try:
                with torch.inference_mode():  # of this thread
                    for found in self._in_turn():
                        done.put(found)
            except BaseException as error:  # handed to who waits for the losses
                done.put(error)
            done.put(None)

        with on_each_core(workers, work):
            try:
                for _ in range(workers):
                    while (found := done.get()) is not None:
                        if isinstance(found, BaseException):
                            raise found
                        yield found
            finally:  # also where nobody wants to have the rest
                with self._lock:
                    self._waiting.clear()

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
