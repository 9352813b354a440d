"""What is handed to a slot, and in what order: the longest first, near the model it needs.

A slot is a process that computes one job after another and keeps the last one's model. The order
knows nothing of processes, so that a simulation of a thousand slots follows the very same one.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Hashable
from dataclasses import dataclass

TRIES = 3  # how often a job may lose its slot before it counts as what ends slots
URGENT = 0.5  # of what is left for every slot: a longer job may not wait for its model's slot


@dataclass(frozen=True)
class Job:
    """One cell, or one training run.

    Attributes:
        key: of what it computes.
        name: what a line calls it.
        model: what a slot has to hold to begin at once.
        flops: an estimate; only its proportions matter.
        needs: the key of the training run whose adapter it scores.
        leaves: what a slot holds when it is done, if that is not ``model``.
    """

    key: str
    name: str
    model: str
    flops: float
    needs: str | None = None
    leaves: str | None = None


class Queue:
    """The jobs of a run: which are waiting, running or done, and what a free slot does next.

    Long jobs bound a run, so what takes longer than half of a slot's share of all that is left
    goes first. Otherwise a slot goes on with the model that it holds, and when that has no job
    left it takes the model with the most work for each slot that holds it; of one model, the
    longest first. A training run is as long as itself and the longest cell that waits for it.
    """

    def __init__(self, tries: int = TRIES) -> None:
        self.tries = tries
        self.jobs: dict[str, Job] = {}
        self.left = 0.0  # FLOPs of jobs that are not done
        self.running: dict[str, Hashable] = {}
        self.done: set[str] = set()
        self.failed: set[str] = set()
        self._heaps: dict[str, list[tuple[float, int, str]]] = defaultdict(list)
        self._rank: dict[str, float] = {}
        self._waiting: dict[str, None] = {}
        self._blocked: dict[str, list[str]] = defaultdict(list)
        self._work: dict[str, float] = defaultdict(float)  # FLOPs that wait for a model
        self._holding: dict[Hashable, str] = {}
        self._holders: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()

    def add(self, job: Job) -> None:
        """Add a job unless it is there; one that it needs has to be there, or done already."""
        if job.key in self.jobs:
            return
        self.jobs[job.key] = job
        self.left += job.flops
        self._rank[job.key] = job.flops
        needs = job.needs if job.needs in self.jobs else None
        if needs is None or needs in self.done:
            self._enter(job)
            return
        self._blocked[needs].append(job.key)
        rank = self.jobs[needs].flops + job.flops
        if rank > self._rank[needs] and needs in self._waiting:
            self._rank[needs] = rank
            self._push(self.jobs[needs])

    def take(self, slot: Hashable, slots: int) -> Job | None:
        """The job that a free slot should do now, or None; it counts as running.

        Args:
            slot: who asks.
            slots: how many there are.
        """
        tops = {model: top for model in list(self._heaps) if (top := self._top(model)) is not None}
        if not tops:
            return None
        longest = max(tops.values(), key=self._rank.__getitem__)
        held = self._holding.get(slot)
        if self._rank[longest] >= URGENT * self.left / max(slots, 1):
            key = longest
        elif held in tops:
            key = tops[held]
        else:
            share = {model: self._work[model] / (1 + self._holders[model]) for model in tops}
            key = tops[max(share, key=share.__getitem__)]
        job = self.jobs[key]
        del self._waiting[key]
        self._work[job.model] -= job.flops
        self.running[key] = slot
        self._hold(slot, job.model)
        return job

    def finish(self, key: str) -> None:
        """Hear that a running job is done; those that waited for it may run."""
        job, slot = self.jobs[key], self.running.pop(key)
        self.done.add(key)
        self.left -= job.flops
        if job.leaves is not None:
            self._hold(slot, job.leaves)
        for name in self._blocked.pop(key, ()):
            self._enter(self.jobs[name])

    def fail(self, key: str) -> list[str]:
        """Hear that a job cannot be done; returns its key and those of all that needed it."""
        self.running.pop(key, None)
        if self._waiting.pop(key, "") is None:
            self._work[self.jobs[key].model] -= self.jobs[key].flops
        gone = [key, *(one for name in self._blocked.pop(key, ()) for one in self.fail(name))]
        self.left -= self.jobs[key].flops
        self.failed.add(key)
        return gone

    def lose(self, slot: Hashable) -> list[str]:
        """Hear that a slot is gone; returns jobs that have lost too many to be tried again."""
        held = self._holding.pop(slot, None)
        if held is not None:
            self._holders[held] -= 1
        hopeless = []
        for key in [key for key, its in self.running.items() if its == slot]:
            del self.running[key]
            self._lost[key] += 1
            if self._lost[key] >= self.tries:
                hopeless.append(key)
            else:
                self._enter(self.jobs[key])
        return hopeless

    @property
    def open(self) -> int:
        """How many jobs are neither done nor failed."""
        return len(self.jobs) - len(self.done) - len(self.failed)

    @property
    def waiting(self) -> int:
        """How many jobs could be taken."""
        return len(self._waiting)

    def _enter(self, job: Job) -> None:
        self._waiting[job.key] = None
        self._work[job.model] += job.flops
        self._push(job)

    def _push(self, job: Job) -> None:
        heapq.heappush(self._heaps[job.model], (-self._rank[job.key], len(self.jobs), job.key))

    def _top(self, model: str) -> str | None:
        """The longest waiting job of a model; what was taken or has another rank is dropped."""
        heap = self._heaps[model]
        while heap and (heap[0][2] not in self._waiting or -heap[0][0] != self._rank[heap[0][2]]):
            heapq.heappop(heap)
        if not heap:
            del self._heaps[model]
            return None
        return heap[0][2]

    def _hold(self, slot: Hashable, model: str) -> None:
        before = self._holding.get(slot)
        if before is not None:
            self._holders[before] -= 1
        self._holding[slot] = model
        self._holders[model] += 1
