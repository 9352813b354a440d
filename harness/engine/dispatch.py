"""Handing jobs to slots and hearing of what became of them, beside what the driver does."""

from __future__ import annotations

import threading
import time
from typing import Any, Protocol

from harness.engine.cluster import Cluster, Lost
from harness.engine.crew import Crew, Member
from harness.engine.jobs import Job, Queue
from harness.engine.slot import Done
from harness.errors import AdaptbenchError, ModelError, OptionError

PATIENCE = 0.25  # seconds in which the dispatcher looks up, if nothing happens


class Desk(Protocol):
    """Who knows what jobs are made of; called in the dispatcher's thread."""

    def send(self, job: Job, member: Member) -> Any:
        """Hand a job to a slot, and return what stands for its :class:`Done`."""

    def heard(self, job: Job, member: Member, done: Done) -> None:
        """Take in what a slot computed.

        Raises:
            AdaptbenchError: it cannot be stored.
        """

    def failed(self, job: Job, error: BaseException) -> None:
        """Hear that a job will not be done."""


class Dispatcher(threading.Thread):
    """Keeps every slot busy until it is stopped.

    Args:
        cluster: where slots run.
        crew: the slots.
        desk: who knows what jobs are made of.
    """

    def __init__(
        self, cluster: Cluster, crew: Crew, desk: Desk, queue: Queue | None = None
    ) -> None:
        super().__init__(name="adaptbench-dispatcher", daemon=True)
        self.cluster, self.crew, self.desk = cluster, crew, desk
        self.queue = Queue()
        self.lock = threading.RLock()  # of the queue
        self._running: dict[Any, tuple[Job, Member]] = {}
        self._busy: set[Member] = set()
        self._ended = threading.Event()
        self._defect: BaseException | None = None
        self._errors: dict[str, BaseException] = {}  # why a job failed

    def add(self, job: Job) -> None:
        """Have a job done."""
        with self.lock:
            known = self._errors.get(job.needs or "")
            self.queue.add(job)
            if known is not None or self._defect is not None:
                self._fail(job.key, known or self._defect or RuntimeError())

    def run(self) -> None:
        try:
            while not self._ended.is_set():
                self._step(PATIENCE)
        except BaseException as error:  # a defect here must not leave a test waiting for ever
            self._defect = error
            with self.lock:
                self._give_up(error)

    def stop(self) -> None:
        """Let go of what is running, and keep what is finished by now."""
        if self.is_alive():
            self._ended.set()
            self.join()
        if self._defect is None:
            with self.lock:
                self._collect(0.0)
        self.crew.dismiss()

    def _step(self, patience: float) -> None:
        with self.lock:
            self.crew.look()
            self._assign()
        asked = {one.asked: one for one in self.crew.expected_ones}
        refs = [*asked, *self._running]
        if not refs:
            self._ended.wait(patience / 5)
        ready = self.cluster.ready(refs, patience)
        with self.lock:
            for ref in ready:
                if ref in asked:
                    self.crew.answered(asked[ref])
            self._take_in([ref for ref in ready if ref not in asked])
        if self.crew.trouble is not None:
            with self.lock:
                self._give_up(OptionError(self.crew.trouble))

    def _collect(self, patience: float) -> None:
        self._take_in(self.cluster.ready([*self._running], patience), more=False)

    def _assign(self) -> None:
        there = self.crew.there
        for member in there:
            if member in self._busy:
                continue
            job = self.queue.take(member.number, len(there))
            if job is None:
                return
            try:
                ref = self.desk.send(job, member)
            except AdaptbenchError as error:  # the store cannot be read
                self._fail(job.key, error)
                continue
            self._running[ref] = job, member
            self._busy.add(member)

    def _take_in(self, refs: list[Any], *, more: bool = True) -> None:
        """Take in what is ready; slots get their next job before anything is written to disk."""
        cells = [found for ref in refs if (found := self._heard(ref)) is not None]
        if more:
            self._assign()
        for job, member, done in cells:
            try:
                self.desk.heard(job, member, done)
            except AdaptbenchError as error:
                self.desk.failed(job, error)

    def _heard(self, ref: Any) -> tuple[Job, Member, Done] | None:
        """What a slot sent; None where nothing is left to be done about it."""
        job, member = self._running.pop(ref)
        self._free(member)
        if job.key in self.queue.failed:  # given up while it ran
            return None
        try:
            done: Done = self.cluster.get(ref)
        except Lost as error:
            self._lose(member, str(error))
            return None
        except Exception as error:  # a defect, with the traceback of the slot
            self._fail(job.key, error)
            return None
        member.busy += done.seconds
        member.jobs += 1
        try:
            if done.error is not None:
                raise done.error
            if done.adapter is not None:  # which cells are waiting for
                self.desk.heard(job, member, done)
        except AdaptbenchError as error:
            self._fail(job.key, error)
            return None
        self.queue.finish(job.key)
        return None if done.adapter is not None else (job, member, done)

    def _free(self, member: Member) -> None:
        self._busy.discard(member)

    def _lose(self, member: Member, why: str) -> None:
        """A slot is gone: its job goes to another one that answered, unless it ends every slot."""
        self._free(member)
        self.cluster.fire(member.handle)
        self.crew.gone(member)
        for key in self.queue.lose(member.number):
            job = self.queue.jobs[key]
            line = (
                f"{job.name}: {self.queue.tries} processes ended while they computed it, the last "
                f"on node {member.node.name} ({why}); is its memory too small?"
            )
            self._fail(key, ModelError(line))

    def _fail(self, key: str, error: BaseException) -> None:
        for one in self.queue.fail(key):
            self._errors[one] = error
            self.desk.failed(self.queue.jobs[one], error)

    def _give_up(self, error: BaseException) -> None:
        for key in list(self.queue.jobs):
            if key not in self.queue.done and key not in self.queue.failed:
                self._fail(key, error)

    @property
    def said(self) -> str:
        """What goes on, for a line of progress."""
        there, starting = len(self.crew.there), len(self.crew.expected_ones)
        parts = [f"cells on {there} slots"]
        shares = self.cluster.shares()
        at_work = [shares.get(one.number, 0.0) for one in list(self._busy)]
        if at_work:
            done = f" ({sum(at_work) / len(at_work):.0%})" if shares else ""
            parts.append(f"{len(at_work)} at work{done}")
        parts += [f"{starting} starting"] if starting else []
        return ", ".join(parts)


def seconds_there(crew: Crew) -> float:
    """For how long all slots together were there to compute."""
    now = time.monotonic()
    return sum((one.until or now) - one.since for one in crew.members if one.introduced is not None)
