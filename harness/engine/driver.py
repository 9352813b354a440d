"""The driver's side of a run on many processes: it submits, waits, and writes the store."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from concurrent import futures
from typing import Any

from harness.core import Cell, ModelSpec, digest
from harness.engine.cluster import Cluster, check_installed, shape_of
from harness.engine.crew import Crew, Hire, Member
from harness.engine.dispatch import Dispatcher, seconds_there
from harness.engine.identity import identity
from harness.engine.jobs import Job
from harness.engine.parcels import pack, unpack
from harness.engine.slot import Done, Order
from harness.errors import StoreError
from harness.records import Measurement
from harness.results.adapter_files import is_complete
from harness.results.manifest import EngineRecord, SlotRecord
from harness.results.store import Store
from harness.run.bench import Bench
from harness.run.case import Case
from harness.run.costs import cell_flops, training_flops
from harness.run.elsewhere import Progress
from harness.run.outstanding import missing
from harness.run.plan import Plan

LOOK_UP = 0.3  # seconds between two updates of the line of progress
KEPT = 8  # adapters that are kept where all nodes can fetch them


class RayEngine:
    """Computes the cells of a run on the slots of a cluster.

    Every result is put into the store the moment it arrives, so that a driver that is killed loses
    only what was being computed.

    Args:
        bench: of the run; its store is written.
        hire: starts a slot; by default the cluster does.

    Raises:
        OptionError: Ray is not there, or has no room for a slot.
    """

    def __init__(self, bench: Bench, hire: Hire | None = None) -> None:
        options = bench.plan.options
        self.store: Store = bench.store
        self.cluster = Cluster(options.engine_address, options.slots)
        try:
            cuda = any(case.device == "cuda" for case in bench.plan.cases)
            shape = shape_of(
                self.cluster, cuda=cuda, slots=options.slots, gpus=options.gpus_per_model
            )
            if bench.terminal is not None:
                self.cluster.put_up_board()
            self.crew = Crew(self.cluster, shape, identity(), hire)
        except BaseException:
            self.cluster.close()
            raise
        self.dispatcher = Dispatcher(self.cluster, self.crew, self)
        self.nodes: dict[str, str] = {}  # the key of a finished cell → the node that computed it
        self._orders: dict[str, Order] = {}
        self._results: dict[str, futures.Future[None]] = {}  # whose values are in the store
        self._plans: dict[str, Any] = {}
        self._names: dict[int, str] = {}
        self._adapters: OrderedDict[str, Any] = OrderedDict()
        self._seconds: dict[str, float] = {}
        self._stopped = False

    # ------------------------------------------------------------------- what the driver asks

    def submit(self, wanted: Iterable[tuple[Bench, Case, Cell]]) -> None:
        """Begin with these cells."""
        for bench, case, cell in wanted:
            self._add(bench, case, cell)
        self.dispatcher.start()

    def expects(self, cell: Cell) -> bool:
        return cell.key in self._results

    def measure(self, bench: Bench, case: Case, cell: Cell, progress: Progress) -> Measurement:
        self._add(bench, case, cell)
        result = self._results[cell.key]
        while True:
            try:
                result.result(timeout=LOOK_UP)
                break
            except futures.TimeoutError:
                done = sum(one.done() for one in self._results.values())
                progress("all", done, len(self._results), self.dispatcher.said)
        found = self.store.get(cell)
        if found is None:
            raise StoreError(f"{self.store.path(cell)}: it was stored, and is gone")
        return found

    def stop(self) -> None:
        """End every slot; what is finished is in the store."""
        if not self._stopped:
            self._stopped = True
            self.dispatcher.stop()
            self.cluster.close()

    def record(self) -> EngineRecord | None:
        """Who computed how long, once it is over; None where there was nothing to compute."""
        if not any(member.jobs for member in self.crew.members):
            return None
        chains = [
            seconds + self._seconds.get(self._orders[key].adapter or "", 0.0)
            for key, seconds in self._seconds.items()
            if not self._orders[key].train
        ]
        work, longest = sum(self._seconds.values()), max(chains, default=0.0)
        return EngineRecord(
            name="Ray",
            slots=tuple(
                SlotRecord(
                    node=_node(member),
                    pid=member.introduced.pid,
                    jobs=member.jobs,
                    seconds=round(member.busy, 3),
                )
                for member in self.crew.members
                if member.introduced is not None
            ),
            work=round(work, 3),
            waited=round(max(0.0, seconds_there(self.crew) - work), 3),
            useful=math.ceil(round(work / longest, 3)) if longest else 1,
            longest=round(longest, 3),
        )

    # ------------------------------------------------------------- what the dispatcher asks

    def send(self, job: Job, member: Member) -> Any:
        order = self._orders[job.key]
        if order.plan not in member.has:
            member.has.add(order.plan)
            member.handle.bring.remote(order.plan, self._plans[order.plan])
        parcel = None
        if order.adapter is not None and not order.train and order.adapter not in member.has:
            parcel = self._parcel(order.adapter)
            member.has.add(order.adapter)
        return member.handle.work.remote(order, parcel)

    def heard(self, job: Job, member: Member, done: Done) -> None:
        order = self._orders[job.key]
        if done.adapter is not None and order.adapter is not None:
            unpack(done.adapter, self.store.adapters / order.adapter[:16])
            member.has.add(order.adapter)
        if done.measurement is not None:
            self.store.put(done.measurement)
            self.nodes[job.key] = _node(member)
            self._results[job.key].set_result(None)
        self._seconds[job.key] = done.seconds

    def failed(self, job: Job, error: BaseException) -> None:
        if job.key in self._results:
            self._results[job.key].set_exception(error)

    # -------------------------------------------------------------------------------- jobs

    def _add(self, bench: Bench, case: Case, cell: Cell) -> None:
        if cell.key in self._results:
            return
        plan, needs = self._plan(bench.plan), cell.training_digest
        named = case.id if bench.plan.by_id.get(case.id) is case else case
        model = _model(cell.model)
        if needs is not None and needs not in self._orders:
            self._orders[needs] = Order(plan, named, needs, needs, train=True)
            if not is_complete(self.store.adapters / needs[:16]):
                job = Job(needs, case.short, model, training_flops(case), leaves=f"{model} {needs}")
                self.dispatcher.add(job)
        if needs is not None:
            model = f"{model} {needs}" + ("" if case.score_as == "trained" else case.score_as)
        self._results[cell.key] = futures.Future()
        self._orders[cell.key] = Order(plan, named, cell.key, needs)
        self.dispatcher.add(Job(cell.key, case.id, model, cell_flops(case, bench.plan), needs))

    def _plan(self, plan: Plan) -> str:
        """The name that slots know a plan by."""
        if id(plan) not in self._names:
            name = self._names[id(plan)] = f"plan {len(self._names)}"
            self._plans[name] = self.cluster.put_plan(plan)
        return self._names[id(plan)]

    def _parcel(self, adapter: str) -> Any:
        """What stands for an adapter's bytes, where every node can fetch it."""
        if adapter not in self._adapters:
            self._adapters[adapter] = self.cluster.put(pack(self.store.adapters / adapter[:16]))
            if len(self._adapters) > KEPT:
                self._adapters.popitem(last=False)
        self._adapters.move_to_end(adapter)
        return self._adapters[adapter]


def begin(bench: Bench, cases: Iterable[Case]) -> RayEngine | None:
    """Have everything computed that these cases need and the store has not; None if it has all.

    Raises:
        OptionError: Ray is not there, or has no room for a slot.
        StoreError: the store cannot be read.
    """
    check_installed()
    wanted = list(missing(bench, cases))
    if not wanted:
        return None
    engine = RayEngine(bench)
    try:
        engine.submit(wanted)
    except BaseException:
        engine.stop()
        raise
    return engine


def _model(spec: ModelSpec) -> str:
    """What a slot that holds this model holds."""
    loaded = (spec.digest, spec.quantization, spec.dtype, spec.compute_dtype, spec.adapter_digest)
    return digest([*loaded, spec.double_quant, spec.score_as])[:16]


def _node(member: Member) -> str:
    assert member.introduced is not None
    return f"{member.introduced.host} ({member.node.name})"
