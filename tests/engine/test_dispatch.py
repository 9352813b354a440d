"""Handing out jobs, with slots that answer, fail and vanish when the test says so."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from harness.engine.cluster import Lost, Node, Shape
from harness.engine.crew import Crew
from harness.engine.dispatch import Dispatcher
from harness.engine.identity import Identity
from harness.engine.jobs import Job
from harness.engine.slot import Done, Introduction
from harness.errors import AdaptbenchError, DataError, StoreError

MINE = Identity("code", (("torch", "1"),))


class Ref:
    """What stands for a value, which a test sets: a value, or what is raised instead."""

    value: Any = None
    ready = False

    def give(self, value: Any) -> None:
        self.value, self.ready = value, True


class Fake:
    """A cluster whose nodes and answers are made up."""

    def __init__(self, *nodes: str) -> None:
        self.alive = [Node(name, name, {"CPU": 1.0}) for name in nodes]
        self.started: list[SimpleNamespace] = []
        self.fired: list[Any] = []
        self.wanted: list[int] = []
        self.sent: list[tuple[int, str, Ref]] = []

    def nodes(self) -> list[Node]:
        return self.alive

    def hire(self, node: Node, shape: Shape, number: int) -> Any:
        asked, left = Ref(), Ref()
        left.give(None)
        handle = SimpleNamespace(
            node=node,
            asked=asked,
            introduce=SimpleNamespace(remote=lambda: asked),
            leave=SimpleNamespace(remote=lambda: left),
        )
        self.started.append(handle)
        return handle

    def ask_for(self, shape: Shape, slots: int) -> None:
        self.wanted.append(slots)

    def fire(self, handle: Any) -> None:
        self.fired.append(handle)

    def ready(self, refs: list[Ref], seconds: float) -> list[Ref]:
        return [ref for ref in refs if ref.ready]

    def get(self, ref: Ref) -> Any:
        if isinstance(ref.value, Exception):
            raise ref.value
        return ref.value

    def shares(self) -> dict[int, float]:
        return {0: 0.5}


class Desk:
    def __init__(self, cluster: Fake) -> None:
        self.cluster = cluster
        self.heard_of: list[tuple[str, int]] = []
        self.failures: dict[str, str] = {}
        self.full = False

    def send(self, job: Job, member: Any) -> Ref:
        ref = Ref()
        self.cluster.sent.append((member.number, job.key, ref))
        return ref

    def heard(self, job: Job, member: Any, done: Done) -> None:
        if self.full:
            raise StoreError("the disk is full")
        self.heard_of.append((job.key, member.number))

    def failed(self, job: Job, error: BaseException) -> None:
        self.failures[job.key] = str(error)


class Play:
    """A dispatcher that a test drives step by step."""

    def __init__(self, *nodes: str, slots: int | None = None) -> None:
        self.cluster = Fake(*nodes)
        self.crew = Crew(self.cluster, Shape(slots=slots), MINE)  # type: ignore[arg-type]
        self.desk = Desk(self.cluster)
        self.dispatcher = Dispatcher(self.cluster, self.crew, self.desk)  # type: ignore[arg-type]

    def step(self) -> None:
        self.crew._looked = -100.0
        self.dispatcher._step(0.0)

    def arrive(self, number: int, found: Identity = MINE) -> None:
        self.cluster.started[number].asked.give(Introduction("host", 100 + number, found))
        self.step()
        self.step()

    def add(self, *keys: str, needs: str | None = None) -> None:
        for size, key in enumerate(keys):
            self.dispatcher.add(Job(key, key, "m", 100 - size, needs))

    def answer(self, value: Any) -> None:
        self.cluster.sent[-1][2].give(value)
        self.step()
        self.step()

    @property
    def sent(self) -> list[tuple[int, str]]:
        return [(number, key) for number, key, _ in self.cluster.sent]


def test_a_slot_gets_jobs_once_it_answered() -> None:
    play = Play("n1", "n2")
    play.add("a", "b", "c")
    play.step()
    assert len(play.cluster.started) == 2
    assert play.sent == []
    play.arrive(1)
    assert play.sent == [(1, "a")]
    play.answer(Done(1.0))
    assert play.sent == [(1, "a"), (1, "b")]
    assert play.desk.heard_of == [("a", 1)]
    assert play.dispatcher.said == "cells on 1 slots, 1 at work (0%), 1 starting"


def test_a_lost_job_goes_to_a_slot_that_answered_and_a_new_slot_is_started() -> None:
    play = Play("n1", "n2")
    play.add("a")
    play.step()
    play.arrive(0)
    play.answer(Lost("the node is gone"))
    assert play.sent == [(0, "a")]  # nobody who answered is there
    assert len(play.cluster.started) == 3
    play.arrive(1)
    assert play.sent == [(0, "a"), (1, "a")]
    play.answer(Done(1.0))
    assert play.desk.heard_of == [("a", 1)]


def test_a_job_that_ends_three_slots_fails_alone() -> None:
    play = Play("n1")
    play.add("a", "b")
    play.step()
    for number in range(3):
        play.arrive(number)
        assert play.sent[-1] == (number, "a")
        play.answer(Lost("killed"))
    assert play.desk.failures["a"].startswith("a: 3 processes ended while they computed it, the")
    assert "on node n1 (killed)" in play.desk.failures["a"]
    play.arrive(3)
    assert play.sent[-1] == (3, "b")


@pytest.mark.parametrize(
    "answer", [Done(1.0, error=DataError("row 3")), ValueError("row 3")], ids=["user", "defect"]
)
def test_a_cell_that_raises_fails_alone_and_its_training_takes_its_cells(answer: Any) -> None:
    play = Play("n1")
    play.add("run", "other")
    play.add("x", "y", needs="run")
    play.step()
    play.arrive(0)
    assert play.sent == [(0, "run")]
    play.answer(answer)
    assert play.desk.failures == dict.fromkeys(["run", "x", "y"], "row 3")
    assert play.sent[-1] == (0, "other")
    play.add("late", needs="run")
    assert play.desk.failures["late"] == "row 3"


def test_a_result_that_cannot_be_stored_is_a_failure() -> None:
    play = Play("n1")
    play.add("a")
    play.step()
    play.arrive(0)
    play.desk.full = True
    play.answer(Done(1.0))
    assert play.desk.failures == {"a": "the disk is full"}


def test_a_node_joins_late_and_one_that_is_gone_is_not_waited_for() -> None:
    play = Play("n1", slots=2)
    play.add("a", "b")
    play.step()
    assert len(play.cluster.started) == 1
    assert play.cluster.wanted == [2]  # of an autoscaler, once
    play.cluster.alive = [Node("n2", "n2", {"CPU": 1.0})]
    play.step()
    play.step()
    assert [one.node.name for one in play.cluster.started] == ["n1", "n2"]
    assert play.cluster.wanted == [2]
    play.arrive(1)
    assert play.sent == [(1, "a")]


def test_a_node_that_computes_other_numbers_gets_no_job() -> None:
    play = Play("n1", "n2")
    play.add("a")
    play.step()
    play.arrive(0, Identity("other", MINE.versions))
    assert play.desk.failures == {}  # the other node may still answer
    play.arrive(1)
    assert play.sent == [(1, "a")]
    assert len(play.cluster.started) == 2  # and none is started there again


def refused(play: Play) -> None:
    play.arrive(0, Identity("other", MINE.versions))


def broken(play: Play) -> None:
    play.cluster.started[0].asked.give(ModuleNotFoundError("No module named 'harness'"))
    play.step()


def dying(play: Play) -> None:
    for number in range(3):
        play.cluster.started[number].asked.give(Lost("no memory"))
        play.step()
        play.step()


@pytest.mark.parametrize(
    ("happens", "line"),
    [
        (refused, "node host (n1) has other code of adaptbench"),
        (broken, "node n1: No module named 'harness'"),
        (dying, "node n1: no memory"),
    ],
)
def test_where_no_node_is_left_every_cell_says_why(
    happens: Callable[[Play], None], line: str
) -> None:
    play = Play("n1")
    play.add("a", "b")
    play.step()
    happens(play)
    assert set(play.desk.failures) == {"a", "b"}
    assert all(line in text for text in play.desk.failures.values())
    assert play.dispatcher.queue.open == 0


def test_stopping_keeps_what_is_finished_and_ends_the_rest() -> None:
    play = Play("n1", "n2")
    play.add("a", "b")
    play.step()
    play.arrive(0)
    play.arrive(1)
    play.cluster.sent[0][2].give(Done(1.0))
    play.dispatcher.stop()
    assert play.desk.heard_of == [("a", 0)]
    assert len(play.cluster.fired) == 2


def test_a_defect_of_the_dispatcher_leaves_no_test_waiting() -> None:
    play = Play("n1")
    play.add("a")
    play.cluster.nodes = lambda: 1 / 0  # type: ignore[assignment,return-value]
    play.dispatcher.start()
    play.dispatcher.join(timeout=10)
    assert play.desk.failures == {"a": "division by zero"}
    play.add("b")
    assert play.desk.failures["b"] == "division by zero"
    assert not issubclass(ZeroDivisionError, AdaptbenchError)
    play.dispatcher.stop()
