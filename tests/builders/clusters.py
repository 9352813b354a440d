"""A Ray cluster of two nodes on loopback, and runs that use it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.core import Cell
from harness.engine.identity import identity
from harness.engine.slot import Done, Introduction, Order
from harness.run.plan import Plan
from tests.builders import ROOT
from tests.builders.cells import MEASUREMENT
from tests.builders.processes import outside_of_workers

LOOPBACK = "127.0.0.1"
LIMIT = 120.0  # seconds for anything to happen
QUICK = {  # a node that is gone is missed after three seconds
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 3,
}
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AUTH_MODE": "token",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class Nodes:
    """A head without room for slots, and nodes that come and go."""

    def __init__(self) -> None:
        self.environment = {**ENVIRONMENT, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        head = {**self.place(cpus=0), "_system_config": QUICK}
        with self.own():  # some of which Ray reads when it is imported
            from ray.cluster_utils import Cluster

            self.cluster: Any = Cluster(initialize_head=True, head_node_args=head)
        self.address: str = self.cluster.address
        self.nodes: list[Any] = []

    @contextmanager
    def own(self) -> Iterator[None]:
        """The environment of the cluster, which is not to be that of other tests."""
        before = dict(os.environ)
        os.environ.update(self.environment)
        try:
            yield
        finally:
            for name in self.environment:
                if name in before:
                    os.environ[name] = before[name]
                else:
                    del os.environ[name]

    def place(self, cpus: int = 1, gpus: int = 0) -> dict[str, Any]:
        return {
            "node_ip_address": LOOPBACK,
            "num_cpus": cpus,
            "num_gpus": gpus,
            "object_store_memory": 100 << 20,
            "include_dashboard": False,
        }

    def add(self, cpus: int = 1, gpus: int = 0) -> Any:
        with self.own():
            node = self.cluster.add_node(wait=False, **self.place(cpus, gpus))
        self.nodes.append(node)
        return node

    def fill(self, count: int) -> None:
        """Have so many nodes with a slot each."""
        while len(self.nodes) < count:
            self.add()
        self.cluster.wait_for_nodes()

    def kill(self, node: Any) -> None:
        """End a node as a power cut does."""
        self.nodes.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)

    def node_of(self, pid: int) -> Any:
        """The node that a process runs on: its raylet is the parent. None: another's, or gone."""
        try:
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except FileNotFoundError:
            return None
        for node in self.nodes:
            if parent in [one.process.pid for one in node.all_processes["raylet"]]:
                return node
        return None

    def run(self, *flags: str) -> subprocess.Popen[str]:
        """``pytest suites/ --engine=ray`` on this cluster, in a process of its own."""
        command = [sys.executable, "-m", "pytest", "suites/", "-p", "no:cacheprovider"]
        return subprocess.Popen(
            [*command, "--engine=ray", *flags],
            cwd=ROOT,
            env={**outside_of_workers(), **self.environment, "RAY_ADDRESS": self.address},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A shell starts background jobs with SIGINT ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def stop(self) -> None:
        self.cluster.shutdown()


def until(what: Callable[[], Any], process: subprocess.Popen[str] | None = None) -> Any:
    """Wait for something to be so, and return it."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline and (process is None or process.poll() is None):
        found = what()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(process.communicate()[0] if process is not None else "it never was so")


def numbers(results: Path) -> Mapping[str, Any]:
    """What every stored cell of a results directory holds, but for seconds, by its key."""
    found = {}
    for path in (results / "cells").glob("*.json"):
        body = json.loads(path.read_text("utf-8"))
        training = body["training"]
        if training is not None:
            del training["seconds"]
        found[body["key"]] = (body["cell"], body["scores"], body["skeletons"], training)
    return found


class Virtual:
    """An actor that stands for any number of slots: its cells take time, and no processor."""

    def __init__(self, cells: Mapping[str, Cell], seconds: float) -> None:
        self.cells, self.seconds = cells, seconds

    async def introduce(self) -> Introduction:
        return Introduction("virtual", os.getpid(), identity())

    async def bring(self, name: str, plan: Plan) -> None:
        pass

    async def leave(self) -> None:
        pass

    async def work(self, order: Order, parcel: bytes | None) -> Done:
        await asyncio.sleep(self.seconds)
        measurement = dataclasses.replace(MEASUREMENT, cell=self.cells[order.key])
        return Done(self.seconds, measurement)
