"""What an order of jobs is worth on many slots, in simulated seconds.

The order under test is the one that runs use (:class:`harness.engine.jobs.Queue`). A slot starts,
loads a model where it does not hold the job's, computes, and may die and be replaced; one driver
hands out jobs, one at a time. Efficiency is the seconds of work, without any loading, over the
seconds that all slots together were there for.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from harness.engine.jobs import Job


class Order(Protocol):
    """What hands out jobs: :class:`~harness.engine.jobs.Queue`, or something to compare with."""

    def add(self, job: Job) -> None: ...

    def take(self, slot: Hashable, slots: int) -> Job | None: ...

    def finish(self, key: str) -> None: ...

    def lose(self, slot: Hashable) -> list[str]: ...

    @property
    def open(self) -> int: ...


@dataclass(frozen=True)
class Site:
    """Where a simulated run happens; all times are seconds.

    Attributes:
        slots: how many there are.
        start: until a process has its libraries.
        loads: a model's name → how long loading it takes.
        dispatch: what the driver needs for each job.
        rate: FLOP/s of a slot.
        lifetime: of a node, on average; None: none dies.
        replaced: until a dead slot is noticed and another one starts.
        seed: of the deaths.
    """

    slots: int
    start: float = 15.0
    loads: dict[str, float] = field(default_factory=dict)
    dispatch: float = 0.002
    rate: float = 1.0
    lifetime: float | None = None
    replaced: float = 10.0
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """How a simulated run went."""

    seconds: float
    work: float
    efficiency: float
    deaths: int
    loads: int


class InOrder:
    """Jobs in the order in which they were added, as one process does them."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._ready: deque[str] = deque()
        self._blocked: dict[str, list[str]] = {}
        self._running: dict[str, Hashable] = {}
        self._done: set[str] = set()

    def add(self, job: Job) -> None:
        self._jobs[job.key] = job
        if job.needs is None or job.needs in self._done:
            self._ready.append(job.key)
        else:
            self._blocked.setdefault(job.needs, []).append(job.key)

    def take(self, slot: Hashable, slots: int) -> Job | None:
        if not self._ready:
            return None
        key = self._ready.popleft()
        self._running[key] = slot
        return self._jobs[key]

    def finish(self, key: str) -> None:
        del self._running[key]
        self._done.add(key)
        self._ready.extend(self._blocked.pop(key, ()))

    def lose(self, slot: Hashable) -> list[str]:
        lost = [key for key, its in self._running.items() if its == slot]
        for key in lost:
            del self._running[key]
            self._ready.appendleft(key)
        return []

    @property
    def open(self) -> int:
        return len(self._jobs) - len(self._done)


def simulate(jobs: Sequence[Job], order: Order, site: Site) -> Outcome:
    """Let ``site`` do ``jobs`` in an order."""
    return _Run(jobs, order, site).go()


class _Run:
    """Events by time: a slot is free, or a job is done, or a slot has died."""

    def __init__(self, jobs: Sequence[Job], order: Order, site: Site) -> None:
        self.order, self.site = order, site
        self.work = sum(job.flops for job in jobs) / site.rate
        for job in jobs:
            order.add(job)
        self.dice = random.Random(site.seed)  # noqa: S311 - no secret hangs on it
        self.events: list[tuple[float, int, str, int, int, str]] = []
        self.count = self.deaths = self.loads = 0
        self.driver = 0.0  # when it is free again
        self.life: dict[int, int] = dict.fromkeys(range(site.slots), 0)
        self.holds: dict[int, str] = {}
        self.idle: dict[int, None] = {}

    def go(self) -> Outcome:
        now = 0.0
        for slot in range(self.site.slots):
            self._born(slot, self.site.start)
        while self.order.open:
            now, _, what, slot, life, key = heapq.heappop(self.events)
            if life == self.life[slot]:  # of a slot that has not died since
                self._happen(now, what, slot, key)
        spent = self.site.slots * now
        return Outcome(now, self.work, self.work / spent, self.deaths, self.loads)

    def _happen(self, now: float, what: str, slot: int, key: str) -> None:
        if what == "dead":
            self.deaths += 1
            self.life[slot] += 1
            self.idle.pop(slot, None)
            self.holds.pop(slot, None)
            self.order.lose(slot)
            self._born(slot, now + self.site.replaced + self.site.start)
        elif what == "done":
            self.order.finish(key)
        if what != "dead":
            self.idle[slot] = None
        for free in list(self.idle):
            job = self.order.take(free, self.site.slots)
            if job is None:
                return
            del self.idle[free]
            self._give(now, free, job)

    def _give(self, now: float, slot: int, job: Job) -> None:
        self.driver = max(self.driver, now) + self.site.dispatch
        loading = 0.0
        if self.holds.get(slot) != job.model:
            loading = self.site.loads.get(job.model.partition(" ")[0], 0.0)
            self.loads += 1
        self.holds[slot] = job.leaves or job.model
        self._at(self.driver + loading + job.flops / self.site.rate, "done", slot, job.key)

    def _born(self, slot: int, when: float) -> None:
        self._at(when, "free", slot)
        if self.site.lifetime is not None:
            self._at(when + self.dice.expovariate(1 / self.site.lifetime), "dead", slot)

    def _at(self, when: float, what: str, slot: int, key: str = "") -> None:
        self.count += 1
        heapq.heappush(self.events, (when, self.count, what, slot, self.life[slot], key))


# --------------------------------------------------------------------- a sweep to simulate

SIZES = tuple(0.135e9 * (14e9 / 0.135e9) ** (place / 19) for place in range(20))  # parameters
RATE = 1e14  # FLOP/s that a GPU keeps up
READ = 2e9  # bytes a second from a disk, of weights in two bytes


def sweep(prompts: int, seeds: int, rows: int = 500, trained: int = 1000) -> list[Job]:
    """A sweep over twenty models of 0.135 to 14 billion parameters, in the order of a plan.

    For each prompt: zero-shot, few-shot of k = 1, 3 and 5 chosen in two ways with every seed, and
    training runs with three seeds, each scored twice. Few-shot cells come first and trained ones
    last, model after model.
    """
    tokens, jobs = 300, list[Job]()
    for number, size in enumerate(SIZES):
        scoring = 2 * size * rows * tokens
        name = f"m{number:02d}"
        for prompt in range(prompts):
            at = f"{name}-p{prompt}"
            jobs.append(Job(at, at, name, scoring))
            jobs += [
                Job(f"{at}-k{k}-{way}-s{seed}", at, name, scoring * (1 + k / 10))
                for k in (1, 3, 5)
                for way in "ab"
                for seed in range(seeds)
            ]
        for prompt in range(prompts):
            for seed in range(3):
                run = f"{name}-p{prompt}-t{seed}"
                own = f"{name} adapter {run}"
                jobs.append(Job(run, run, name, 6 * size * trained * tokens, leaves=own))
                jobs += [Job(f"{run}-{way}", run, own, scoring, run) for way in "ab"]
    return jobs


def loads() -> dict[str, float]:
    """How long each model of the sweep takes to be loaded, for a site's ``loads``."""
    return {f"m{number:02d}": 5 + 2 * size / READ for number, size in enumerate(SIZES)}
