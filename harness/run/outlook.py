"""The forecast of a run: what is stored, what is left, and what that takes on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from harness.core import Cell
from harness.models.fingerprint import cuda_device_count
from harness.run.bench import Bench
from harness.run.budget import REPLY, Estimate, of_judging
from harness.run.capability import measure
from harness.run.case import Case
from harness.run.costs import cell_flops, training_flops
from harness.run.counting import Counter
from harness.run.forecast import Counts, Forecast, Job, Way, flops, forecast
from harness.run.given import is_given
from harness.run.outstanding import missing
from harness.run.shape import Usual
from harness.run.workload import batch

PART = 512  # tokens of a judge's questions that go through it together
SMALL = 1e12  # FLOPs, some ten seconds of a processor's core: less is not worth a measurement
ROUGH = 4  # by so much more may be to compute than the size of texts and files suggests


def outlook(
    bench: Bench,
    cases: Sequence[Case],
    clock: Callable[[], float] = time.perf_counter,
    least: float | None = None,
) -> Forecast:
    """Say what measuring some cases is going to take; nothing is computed or stored.

    Args:
        bench: of the run.
        cases: what will be measured.
        clock: that the measurement of this machine takes its seconds from.
        least: FLOPs below which the machine is not measured, and only counts are given.

    Raises:
        ModelError: a model's configuration or tokenizer cannot be had.
        PromptError: a chat template refuses the rows.
    """
    counter = Counter(bench)
    known = _Known(bench)
    jobs = dict(counter.jobs(cases, known))
    estimates = of_judging(bench, cases)
    calls = 0
    for case, estimate in estimates:
        assert case.judging is not None
        if case.judging.remote:
            calls += estimate.calls
        elif estimate.calls:
            jobs[f"judging {estimate.name}"] = _judged(counter, case, estimate)
    judged = {case.id for case, estimate in estimates if estimate.name == case.id}
    asked = [(case.label, _is_left(bench, case, known, judged)) for case in cases]
    slots = slots_of(bench)
    machine = None
    if jobs and _flops(counter, list(jobs.values())) >= (SMALL if least is None else least):
        with _threads(slots if bench.plan.options.engine == "ray" else 1):
            machine = measure(counter.usual, clock)
    return forecast(
        asked, [replace(job, key=key) for key, job in jobs.items()], machine, slots, calls
    )


def by_case(bench: Bench, cases: Sequence[Case], found: Forecast) -> dict[str, float]:
    """Seconds that each case takes, by its id: an adapter's with the first case that needs it.

    Empty where nothing was measured.
    """
    left, shares = found.by_key, {}
    for case in cases if left else ():
        keys = [f"judging {case.id}"]
        if case.judging is None and not case.candidates and not is_given(case):
            cell = bench.cell(case)
            keys = [cell.training_digest or "", cell.key]
        shares[case.id] = sum(left.pop(key, 0.0) for key in keys)
    return shares


def is_worth_it(bench: Bench, cases: Sequence[Case], least: float | None = None) -> bool:
    """Whether what is left is so much that it should be foretold, by the size of files and texts.

    No tokenizer is loaded for that.
    """
    total, enough = 0.0, (SMALL if least is None else least) / ROUGH
    seen: set[str] = set()
    for place, case, cell in missing(bench, cases, _Known(bench)):
        if cell.key in seen:
            continue
        seen.add(cell.key)
        total += cell_flops(case, place.plan)
        digest = cell.training_digest
        if digest is not None and digest not in seen:
            seen.add(digest)
            total += training_flops(case)
        if total >= enough:
            return True
    # A judge here reads every answer.
    local = (case for case in cases if case.judging is not None and not case.judging.remote)
    return any(bench.stored(case) is None for case in local)


class _Known:
    """Whether the store has a cell; its file is not read unless it has to be."""

    def __init__(self, bench: Bench) -> None:
        options = bench.plan.options
        self.fresh = options.fresh
        # How often a cell was scored stands in it; what others have is asked for by reading it.
        self.reads = options.repeat_scoring > 1 or bench.store.remote.url is not None

    def __call__(self, bench: Bench, case: Case, cell: Cell) -> bool:
        if self.fresh:
            return False
        if self.reads:
            return bench.known(case, cell) is not None
        return bench.store.path(cell).is_file()


def _is_left(bench: Bench, case: Case, known: _Known, judged: set[str]) -> bool:
    """Whether a case has to be computed."""
    if case.judging is not None:
        return case.id in judged
    if case.candidates:
        choice = bench.choice(case)
        if choice is None:
            return True
        case = choice.of(case)
    return not is_given(case) and not known(bench, case, bench.cell(case))


def _judged(counter: Counter, case: Case, estimate: Estimate) -> Job:
    """What a model here takes to answer so many questions."""
    judging = case.judging
    assert judging is not None
    folder, shape = counter.shape_of(judging.source, lambda: counter.bench.folder(case))
    device = case.device if case.device != "none" else "cpu"
    way = Way("read", counter.bench.model_digest(case), "none", judging.dtype, device)
    tokens = max(1, estimate.tokens - REPLY * estimate.calls)
    length = tokens / estimate.calls
    together = max(1.0, PART / length)
    each = batch(1, length)
    counts = Counts(estimate.calls / together, tokens, each.pairs * estimate.calls, estimate.calls)
    counter.usual.setdefault(way, Usual(folder, shape, together * length, length, 0.0))
    memory = shape.weights("none", judging.dtype)
    loads = ((way, 1),)
    return Job(case.label, case.seed, ((way, counts),), loads, memory, bounded=not estimate.exact)


def _flops(counter: Counter, jobs: Sequence[Job]) -> float:
    found = 0.0
    for job in jobs:
        for way, counts in job.work:
            shape = counter.usual[way].shape
            found += flops(counts, shape.token, shape.pair, shape.head)
    return found


def slots_of(bench: Bench) -> int:
    """How many jobs are computed at a time."""
    options = bench.plan.options
    if options.engine == "here":
        return bench.workers
    if options.slots is not None:
        return options.slots
    if any(case.device == "cuda" for case in bench.plan.cases):
        return max(1, cuda_device_count() // options.gpus_per_model)
    return cores()


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _threads(slots: int) -> Iterator[None]:
    """While active, torch has the threads that one of so many slots has."""
    if slots == 1:
        yield
        return
    import torch

    before = torch.get_num_threads()
    # The slots of a cluster get a core each, or an equal part of this machine's.
    torch.set_num_threads(max(1, before // slots))
    try:
        yield
    finally:
        torch.set_num_threads(before)
