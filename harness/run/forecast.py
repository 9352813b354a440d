"""From counts to seconds and bytes: what a run is going to take, before anything is computed.

Everything that a model does is counted in five numbers, and every number has its price, measured
on this machine (:mod:`harness.run.capability`):

    seconds = calls · call + tokens · token + pairs · pair + scored · position + copied · byte

A call goes through all layers once, whatever it holds: dispatching, and decoding 4-bit weights. A
token goes through the linear layers; a pair is a query and a key that it sees, in all layers; a
scored position goes through the output head.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Literal

from harness.core import DecodingSpec
from harness.scoring.queue import most_at_a_time

Kind = Literal["read", "train", "write"]


@dataclass(frozen=True)
class Way:
    """A way of computing that has prices of its own.

    Attributes:
        kind: ``read``: forwards of many tokens; ``train``: with gradients; ``write``: one token of
            each row at a time.
        model: what stands for the model's bytes.
        quantization: of the base.
        dtype: of the rest.
        device: ``cpu`` or ``cuda``.
        rank: of the LoRA update beside the base; 0 where there is none.
        recomputed: whether training computes activations again instead of keeping them.
        decoding: how tokens are chosen, where some are written.
    """

    kind: Kind
    model: str
    quantization: str
    dtype: str
    device: str
    rank: int = 0
    recomputed: bool = False
    decoding: DecodingSpec | None = None


@dataclass(frozen=True)
class Counts:
    """What is computed, in numbers that can be added.

    Attributes:
        calls: forwards; of training, forwards with their backward passes.
        tokens: that go through the layers, padding included.
        pairs: of a query and a key before it.
        scored: positions whose logits are computed.
        copied: bytes of keys and values that change their places.
    """

    calls: float = 0.0
    tokens: float = 0.0
    pairs: float = 0.0
    scored: float = 0.0
    copied: float = 0.0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*map(operator.add, astuple(self), astuple(other)))

    def times(self, factor: float) -> Counts:
        """The same so many times."""
        return Counts(*(factor * count for count in astuple(self)))


@dataclass(frozen=True)
class Prices:
    """Seconds that each of :class:`Counts` takes, of one way.

    ``saved``: bytes that training keeps of a token for its backward pass, in all layers.
    """

    call: float
    token: float
    pair: float
    position: float
    byte: float = 0.0
    saved: float = 0.0

    def seconds(self, counts: Counts) -> float:
        """What the counts take."""
        return (
            counts.calls * self.call
            + counts.tokens * self.token
            + counts.pairs * self.pair
            + counts.scored * self.position
            + counts.copied * self.byte
        )


@dataclass(frozen=True)
class Job:
    """A cell, or a training run, that is still to be computed.

    Attributes:
        name: what its cells are called together: a label.
        seed: of the cell; None where it has none.
        work: counts of every way that it takes.
        loads: how often a base is loaded: (a way that says which, times).
        memory: bytes at its peak, without what the process has before.
        each: bytes of each of ``batches`` batches that cores compute side by side.
        kept: tokens of a training batch, of each of which the way's ``saved`` bytes are kept too.
        bounded: whether it may take less, because answers may end before their limit.
        training: whether it trains an adapter.
        k: demonstrations before each row.
        key: of the cell, or of the adapter.
    """

    name: str
    seed: int | None
    work: tuple[tuple[Way, Counts], ...]
    loads: tuple[tuple[Way, int], ...] = ()
    memory: float = 0.0
    each: float = 0.0
    batches: int = 1
    kept: float = 0.0
    bounded: bool = False
    training: bool = False
    k: int = 0
    key: str = ""


@dataclass(frozen=True)
class Machine:
    """What this machine was measured to do.

    Attributes:
        prices: of each way.
        loading: seconds that loading a base takes, for each way that says which.
        before: bytes that the process has before any model is loaded.
        threads: that compute one product.
        rough: whether some prices are those of matrix products alone.
    """

    prices: Mapping[Way, Prices]
    loading: Mapping[Way, float] = field(default_factory=dict)
    before: float = 0.0
    threads: int = 1
    rough: bool = False

    def seconds(self, job: Job) -> float:
        """What a job takes."""
        work = sum(self.prices[way].seconds(counts) for way, counts in job.work)
        return work + sum(times * self.loading.get(way, 0.0) for way, times in job.loads)

    def memory(self, job: Job) -> float:
        """What a job needs at its peak, in bytes."""
        saved = max((self.prices[way].saved for way, _ in job.work), default=0.0)
        batches = job.each * min(job.batches, most_at_a_time(self.threads))
        return self.before + job.memory + batches + job.kept * saved


@dataclass(frozen=True)
class Line:
    """What the cells of one label take.

    Attributes:
        name: the label.
        cells: that are asked for.
        stored: of these.
        seconds: for the rest; None where nothing was measured, 0 where they are others' cells.
    """

    name: str
    cells: int
    stored: int
    seconds: float | None


@dataclass(frozen=True)
class Forecast:
    """What a run is going to take.

    Attributes:
        lines: of every label.
        jobs: what is to be computed, each once.
        seconds: of each job; empty where nothing was measured.
        total: seconds of all, at ``slots`` jobs at a time; None where nothing was measured.
        memory: bytes of a process at its peak; None where nothing was measured.
        slots: jobs at a time.
        calls: questions to an endpoint, which take what the endpoint takes.
        rough: whether it is what matrix products alone take.
    """

    lines: tuple[Line, ...]
    jobs: tuple[Job, ...]
    seconds: tuple[float, ...] = ()
    total: float | None = None
    memory: float | None = None
    slots: int = 1
    calls: int = 0
    rough: bool = False

    @property
    def cells(self) -> int:
        return sum(line.cells for line in self.lines)

    @property
    def stored(self) -> int:
        return sum(line.stored for line in self.lines)

    @property
    def bounded(self) -> bool:
        """Whether it may take less, because answers may end before their limit."""
        return any(job.bounded for job in self.jobs)

    @property
    def tokens(self) -> float:
        """Tokens that go through a model."""
        return sum(counts.tokens for job in self.jobs for _, counts in job.work)

    @property
    def by_key(self) -> dict[str, float]:
        """Seconds of every job, by its key; empty where nothing was measured."""
        return dict(zip([job.key for job in self.jobs], self.seconds, strict=False))

    def without(self, left_out: Callable[[Job], bool]) -> float:
        """Seconds of the jobs but for some."""
        pairs = zip(self.jobs, self.seconds, strict=True)
        return spread([seconds for job, seconds in pairs if not left_out(job)], self.slots)


def spread(seconds: Sequence[float], slots: int) -> float:
    """Seconds that jobs take, so many at a time: never less than the longest of them."""
    return max(sum(seconds) / max(1, slots), max(seconds, default=0.0))


def forecast(
    asked: Sequence[tuple[str, bool]],
    jobs: Sequence[Job],
    machine: Machine | None,
    slots: int = 1,
    calls: int = 0,
) -> Forecast:
    """Put counts and prices together.

    Args:
        asked: of every cell that is asked for, its label and whether it has to be computed.
        jobs: what has to be computed, each once.
        machine: what it takes here; None where nothing was measured.
        slots: jobs at a time.
        calls: questions to an endpoint.
    """
    seconds = [] if machine is None else [machine.seconds(job) for job in jobs]
    lines = []
    for name in dict.fromkeys([label for label, _ in asked]):
        its = [missing for label, missing in asked if label == name]
        spent = [s for job, s in zip(jobs, seconds, strict=False) if job.name == name]
        lines.append(
            Line(name, len(its), its.count(False), None if machine is None else sum(spent))
        )
    return Forecast(
        tuple(lines),
        tuple(jobs),
        tuple(seconds),
        None if machine is None else spread(seconds, slots),
        None if machine is None else max(map(machine.memory, jobs), default=0.0),
        slots,
        calls,
        machine is not None and machine.rough,
    )


def flops(counts: Counts, token: float, pair: float, head: float) -> float:
    """FLOPs of counts, by what a token, a pair and a position take."""
    return counts.tokens * token + counts.pairs * pair + counts.scored * head
