"""Ray as a cluster of nodes: joining one or starting one here, and processes on its nodes.

Everything of this project that calls Ray stands here.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.engine.slot import Board, Slot
from harness.errors import OptionError, StrategyError, one_line
from harness.models.fingerprint import cuda_device_count
from harness.run.plan import Plan

# A cluster of this machine alone: nobody else reaches it, and nobody is told of it.
PRIVATE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Shape:
    """What each slot gets of its node, and how many slots are wanted; None: all that fit."""

    cpus: int = 1
    gpus: int = 0
    slots: int | None = None

    def fit(self, resources: dict[str, float]) -> int:
        """How many slots a node with these resources has room for."""
        fitting = int(resources.get("CPU", 0)) // self.cpus
        if not self.gpus:
            return fitting
        return min(fitting, int(resources.get("GPU", 0)) // self.gpus)


@dataclass(frozen=True)
class Node:
    """A machine of the cluster."""

    id: str
    name: str
    resources: dict[str, float]


class Lost(Exception):  # noqa: N818 - it is a state, not a mistake
    """A slot, or what it computed, is gone; the text says why."""


def check_installed() -> None:
    """See that Ray is there, without importing it.

    Raises:
        OptionError: it is not.
    """
    if importlib.util.find_spec("ray") is None:
        raise OptionError(
            "--engine=ray: needs Ray, which is not installed; pip install 'adaptbench[ray]'"
        )


class Cluster:
    """The nodes, and processes on them.

    Args:
        address: ``auto`` or a cluster's.
        slots: how many processes a cluster that is started here has to have room for.

    Raises:
        OptionError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, address: str = "auto", slots: int | None = None) -> None:
        check_installed()
        own = address == "auto" and not os.environ.get("RAY_ADDRESS")
        if own:
            _keep_private()
        import ray

        self.ray: Any = ray
        self._board: Any = None
        self.ours = not ray.is_initialized()
        if self.ours:
            self._init(address, _own(slots) if own else {"address": address})

    def _init(self, address: str, arguments: dict[str, Any]) -> None:
        logging.getLogger("ray").setLevel(logging.ERROR)
        try:
            with _single_threaded_tokenizers():
                self.ray.init(
                    **arguments,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    configure_logging=False,
                )
        except Exception as error:  # gRPC's and the operating system's among them
            raise OptionError(
                f"--engine-address={address}: Ray cannot be reached or started: {one_line(error)}"
            ) from None

    def nodes(self) -> list[Node]:
        """Every node that is alive."""
        return [
            Node(one["NodeID"], one["NodeName"], one["Resources"])
            for one in self.ray.nodes()
            if one["Alive"]
        ]

    def put_up_board(self) -> None:
        """Start what slots tell of their progress, on this machine."""
        here = self.ray.get_runtime_context().get_node_id()
        actor = self.ray.remote(Board)
        self._board = actor.options(num_cpus=0, scheduling_strategy=_at(here)).remote()

    def shares(self) -> dict[int, float]:
        """How much of each slot's job is done; of no slot where there is no board."""
        if self._board is None:
            return {}
        try:
            found: dict[int, float] = self.ray.get(self._board.read.remote(), timeout=1)
        except Exception:  # a line of progress is worth no failure
            return {}
        return found

    def hire(self, node: Node, shape: Shape, number: int) -> Any:
        """Start a slot on a node; it is there once it has introduced itself."""
        return (
            self.ray.remote(Slot)
            .options(
                num_cpus=shape.cpus,
                num_gpus=shape.gpus,
                max_restarts=0,
                scheduling_strategy=_at(node.id),
            )
            .remote(number, self._board)
        )

    def ask_for(self, shape: Shape, slots: int) -> None:
        """Tell the cluster's autoscaler, where it has one, how many slots are wanted."""
        from ray.autoscaler.sdk import request_resources

        bundle = {"CPU": shape.cpus, **({"GPU": shape.gpus} if shape.gpus else {})}
        with contextlib.suppress(Exception):  # a cluster without one
            request_resources(bundles=[bundle] * slots)

    def fire(self, handle: Any) -> None:
        """End a slot's process, whatever it does."""
        with contextlib.suppress(Exception):  # it may be gone
            self.ray.kill(handle)

    def put(self, value: Any) -> Any:
        """Make something fetchable by every node, and return what stands for it."""
        return self.ray.put(value)

    def put_plan(self, plan: Plan) -> Any:
        """The same of a plan; a user's strategies go along, and no node needs their files.

        Raises:
            StrategyError: one of them holds something that cannot be copied.
        """
        from ray import cloudpickle

        for module in {type(case.strategy).__module__ for case in plan.cases}:
            if module.partition(".")[0] != "harness" and module in sys.modules:
                cloudpickle.register_pickle_by_value(sys.modules[module])
        try:
            return self.put(replace(plan, metrics=()))
        except TypeError:
            for case in plan.cases:
                try:
                    cloudpickle.dumps(case.strategy)
                except TypeError as error:
                    raise StrategyError(
                        f"strategy {case.strategy.name!r} cannot be sent to other processes: "
                        f"{one_line(error)}; --engine=ray copies its module "
                        f"({type(case.strategy).__module__}), which must hold no lock, no open "
                        f"file and, before Python 3.12, no functools.cached_property"
                    ) from None
            raise

    def ready(self, refs: Sequence[Any], seconds: float) -> list[Any]:
        """Those of ``refs`` whose values are there, after so many seconds at most."""
        if not refs:
            return []
        found, _ = self.ray.wait(list(refs), num_returns=1, timeout=seconds, fetch_local=False)
        if found and len(refs) > 1:
            found, _ = self.ray.wait(
                list(refs), num_returns=len(refs), timeout=0, fetch_local=False
            )
        return list(found)

    def get(self, ref: Any) -> Any:
        """The value of something that is ready.

        Raises:
            Lost: whoever had it is gone.
            Exception: what a slot raised.
        """
        from ray.exceptions import RayError, RayTaskError

        try:
            return self.ray.get(ref)
        except RayTaskError:
            raise
        except RayError as error:
            raise Lost(_cause(error)) from None

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        if self.ours:
            self.ray.shutdown()


def _at(node: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=False)


def _cause(error: Exception) -> str:
    """The line of Ray's text that says what happened: of a traceback, the last one."""
    text = str(error).strip()
    last = text.splitlines()[-1].strip() if "creation task" in text else text
    return one_line(RuntimeError(last), 200)


def _keep_private() -> None:
    """Have a cluster of this machine ask for a token that nobody else knows, and tell nobody."""
    for name, value in PRIVATE.items():
        os.environ.setdefault(name, value)
    if "ray" not in sys.modules:  # which reads these when it is imported
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        if os.environ["RAY_AUTH_MODE"] == "token" and "RAY_AUTH_TOKEN_PATH" not in os.environ:
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _own(slots: int | None) -> dict[str, Any]:
    """A cluster of this machine, on loopback, without a dashboard."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "address": "local",
        "num_cpus": max(cpus or 1, slots or 0),
        "num_gpus": cuda_device_count(),
        "include_dashboard": False,
        "_node_ip_address": LOOPBACK,
    }


@contextlib.contextmanager
def _single_threaded_tokenizers() -> Any:
    """Ray forks; tokenizers warn of that unless they are told to use no threads."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        yield
    finally:
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]


def shape_of(cluster: Cluster, *, cuda: bool, slots: int | None, gpus: int) -> Shape:
    """What each slot gets: its GPUs and a core, or an equal part of the cores.

    Raises:
        OptionError: nothing of the kind is there, and no number of slots is waited for.
    """
    resources = [node.resources for node in cluster.nodes()]
    if cuda:
        shape = Shape(1, gpus, slots)
    else:
        most = max([1, *(int(one.get("CPU", 0)) for one in resources)])
        cores = (
            cpus
            for cpus in range(most, 0, -1)
            if slots and sum(map(Shape(cpus).fit, resources)) >= slots
        )
        shape = Shape(next(cores, 1), 0, slots)
    if slots is None and not any(map(shape.fit, resources)):
        have = {name: sum(one.get(name, 0) for one in resources) for name in ("CPU", "GPU")}
        raise OptionError(
            f"--engine=ray: the cluster has no room for a slot: {len(resources)} nodes with "
            f"{have['CPU']:.0f} CPUs and {have['GPU']:.0f} GPUs, and a slot wants {shape.cpus} CPU "
            f"and {shape.gpus} GPUs; --slots=N waits for nodes"
        )
    return shape
