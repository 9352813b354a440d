"""What runs in a slot: a process that keeps its model and computes one job after another."""

from __future__ import annotations

import importlib
import os
import shutil
import socket
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.core import Cell
from harness.engine.identity import Identity, identity
from harness.engine.parcels import pack, unpack
from harness.errors import AdaptbenchError, ModelError
from harness.files import sweep, temporary
from harness.records import Measurement
from harness.run.bench import Bench
from harness.run.case import Case
from harness.run.plan import Plan

LIBRARIES = ("torch", "transformers", "peft")  # what takes seconds to import


@dataclass(frozen=True)
class Introduction:
    """What a new slot says of itself.

    Attributes:
        host: the name of its machine.
        pid: of its process.
        identity: its code and libraries.
    """

    host: str
    pid: int
    identity: Identity


@dataclass(frozen=True)
class Order:
    """One job.

    Attributes:
        plan: the name of a plan that was brought.
        case: which of its cases, by its id, or itself if it is none of them.
        key: what has to be computed: the cell's key, or the training run's.
        adapter: the key of the adapter that the case needs, if any.
        train: whether the adapter is what is asked for.
    """

    plan: str
    case: str | Case
    key: str
    adapter: str | None = None
    train: bool = False


@dataclass(frozen=True)
class Done:
    """What became of a job: a measurement, an adapter, or why there is none."""

    seconds: float
    measurement: Measurement | None = None
    adapter: bytes | None = None
    error: AdaptbenchError | None = None


class Board:
    """Where slots write how much of their job is done, for a line of progress."""

    def __init__(self) -> None:
        self.shares: dict[int, float] = {}

    def tell(self, number: int, share: float) -> None:
        """Hear of a slot's job."""
        self.shares[number] = share

    def read(self) -> dict[int, float]:
        """What every slot said last."""
        return self.shares


class Slot:
    """Computes cells and adapters in a private folder, and hands back what it computed.

    Args:
        number: its name.
        board: the actor that is told of progress, where somebody looks at it.
    """

    def __init__(self, number: int = 0, board: Any = None) -> None:
        self.number, self.board = number, board
        place = Path(tempfile.gettempdir())
        sweep(place)  # of slots that were ended
        self.folder = temporary(place / "adaptbench-slot")
        self.benches: dict[str, Bench] = {}
        self._told = 0.0

    def introduce(self) -> Introduction:
        """Say who this is, once it can compute: it has its libraries."""
        for name in LIBRARIES:
            importlib.import_module(name)
        return Introduction(socket.gethostname(), os.getpid(), identity())

    def devices(self) -> str | None:
        """Which GPUs the cluster gave this slot, as CUDA reads it."""
        return os.environ.get("CUDA_VISIBLE_DEVICES")

    def leave(self) -> None:
        """Clean up."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def bring(self, name: str, plan: Plan) -> None:
        """Learn of a plan; all of them use one model in hand."""
        own = replace(plan, options=replace(plan.options, results_dir=self.folder))
        first = next(iter(self.benches.values()), None)
        self.benches[name] = Bench(own, beside=first)
        self.benches[name].wanted = ()  # a training run is a job: siblings are other slots'
        self.benches[name].store.prepare()

    def work(self, order: Order, parcel: bytes | None) -> Done:
        """Do a job; what a user can act on is part of the answer, and ends nothing else."""
        started = time.perf_counter()
        bench = self.benches[order.plan]
        try:
            case = order.case if isinstance(order.case, Case) else bench.plan.by_id[order.case]
            if order.adapter is not None and parcel is not None:
                unpack(parcel, bench.store.adapters / order.adapter[:16])
            cell = bench.cell(case)
            _check(order, cell)
            if order.train:
                folder, _ = bench.train(case, cell, bench.folder(case), self._report)
                return Done(time.perf_counter() - started, adapter=pack(folder))
            measurement = bench.compute(case, cell, self._report)
            return Done(time.perf_counter() - started, measurement)
        except AdaptbenchError as error:
            return Done(time.perf_counter() - started, error=error)

    def _report(self, what: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if self.board is not None and (now - self._told > 1 or done == total):
            self._told = now
            self.board.tell.remote(self.number, done / total if total else 0.0)


def _check(order: Order, cell: Cell) -> None:
    """See that this process would compute what was asked for.

    Raises:
        ModelError: it would not: the model's or the adapter's files are others here.
    """
    if order.key != (cell.training_digest if order.train else cell.key):
        raise ModelError(
            f"{cell.id}: on {socket.gethostname()} this would be another cell: its files of "
            f"{cell.model.name} are not those of the machine that started the run"
        )
