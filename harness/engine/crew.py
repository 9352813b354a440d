"""The slots of a run: started where there is room, trusted once they answered, replaced."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness.engine.cluster import Cluster, Lost, Node, Shape
from harness.engine.identity import Identity, refusal
from harness.engine.slot import Introduction
from harness.errors import one_line

Hire = Callable[[Node, Shape, int], Any]  # starts a slot of this number
LOOK = 2.0  # seconds between two looks at the cluster's nodes
ALONE = 1800.0  # seconds without any slot after which a run ends
FAREWELL = 1.0  # seconds that slots have to clean up
DEATHS = 3  # of slots that never answered, on one node, before none is started there again


@dataclass(eq=False)
class Member:
    """One slot as the driver knows it.

    Attributes:
        number: its name.
        node: where it runs.
        handle: what jobs are sent to.
        asked: what stands for its introduction.
        introduced: what it said; None until it answered.
        has: names of the plans and keys of the adapters that were sent to it.
        since: when it answered.
        until: when it was gone.
        busy: its seconds of work.
        jobs: how many it did.
    """

    number: int
    node: Node
    handle: Any
    asked: Any
    introduced: Introduction | None = None
    has: set[str] = field(default_factory=set)
    since: float = 0.0
    until: float | None = None
    busy: float = 0.0
    jobs: int = 0


class Crew:
    """All slots that are or were.

    Args:
        cluster: where they run.
        shape: what each gets, and how many are wanted.
        expected: what each has to be made of.
        hire: starts one; by default the cluster does.
    """

    def __init__(
        self,
        cluster: Cluster,
        shape: Shape,
        expected: Identity,
        hire: Hire | None = None,
    ) -> None:
        self.cluster, self.shape, self.expected = cluster, shape, expected
        self.hire = hire or cluster.hire
        self.members: list[Member] = []  # all, also those that are gone
        self.refused: dict[str, str] = {}  # node → why
        self._deaths: Counter[str] = Counter()
        self._looked = -LOOK
        self._asked_for = 0
        self._alone = time.monotonic()  # when somebody was there

    @property
    def there(self) -> list[Member]:
        """Slots that answered and are not gone."""
        return [one for one in self.members if one.introduced is not None and one.until is None]

    @property
    def expected_ones(self) -> list[Member]:
        """Slots that have not answered yet."""
        return [one for one in self.members if one.introduced is None and one.until is None]

    @property
    def trouble(self) -> str | None:
        """Why nothing can be computed any more, as long as no other node joins."""
        if self.there or self.expected_ones:
            self._alone = time.monotonic()
            return None
        if self.refused:
            return next(iter(self.refused.values()))
        if time.monotonic() - self._alone < ALONE:
            return None
        return f"--engine=ray: for {ALONE / 60:.0f} minutes no node had room for a slot"

    def look(self) -> None:
        """Start slots where there is room: at first, on a late node, and for one that is gone."""
        now = time.monotonic()
        if now - self._looked < LOOK:
            return
        self._looked = now
        nodes = self.cluster.nodes()
        alive = {node.id for node in nodes}
        for member in self.expected_ones:
            if member.node.id not in alive:  # Ray lets it wait for a node that is gone
                self.gone(member)
        here = Counter(one.node.id for one in self.members if one.until is None)
        wanted = self.shape.slots
        room = sum(self.shape.fit(node.resources) for node in nodes)
        missing = (room if wanted is None else wanted) - sum(here.values())
        free = [
            node
            for node in nodes
            if node.id not in self.refused
            for _ in range(self.shape.fit(node.resources) - here[node.id])
        ]
        for node in free[: max(0, missing)]:
            self._start(node)
        if wanted is not None and missing > len(free) and self._asked_for != wanted:
            self._asked_for = wanted
            self.cluster.ask_for(self.shape, wanted)

    def _start(self, node: Node) -> None:
        number = len(self.members)
        handle = self.hire(node, self.shape, number)
        self.members.append(Member(number, node, handle, handle.introduce.remote()))

    def answered(self, member: Member) -> None:
        """Hear a slot's introduction, and take it in or refuse its node."""
        try:
            found = self.cluster.get(member.asked)
        except Lost as error:
            self.gone(member)
            self._deaths[member.node.id] += 1
            if self._deaths[member.node.id] >= DEATHS:
                self._refuse(member, f"--engine=ray: node {member.node.name}: {error}")
            return
        except Exception as error:  # what its start raised: its node cannot import this package
            self.gone(member)
            self._refuse(member, f"--engine=ray: node {member.node.name}: {one_line(error)}")
            return
        name = f"{found.host} ({member.node.name})"
        line = refusal(name, found.identity, self.expected)
        if line is not None:
            self.gone(member)
            self._refuse(member, line)
            return
        member.introduced, member.since = found, time.monotonic()

    def _refuse(self, member: Member, line: str) -> None:
        self.refused.setdefault(member.node.id, line)
        self.cluster.fire(member.handle)

    def gone(self, member: Member) -> None:
        """Hear that a slot is no more."""
        member.until = time.monotonic()
        self._looked = -LOOK  # another one may be started at once

    def dismiss(self) -> None:
        """End every slot; those that do nothing clean up first."""
        left = [one for one in self.members if one.until is None]
        leaving = [one.handle.leave.remote() for one in left if one.introduced is not None]
        now = time.monotonic()
        for member in left:
            member.until = now
        deadline = now + FAREWELL
        while leaving and time.monotonic() < deadline:
            gone = self.cluster.ready(leaving, 0.1)
            leaving = [ref for ref in leaving if ref not in gone]
        for member in left:
            self.cluster.fire(member.handle)
