"""Runs on a cluster of two nodes: the same numbers, also when nodes or the driver are killed."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.config.options import parse_options
from harness.engine.cluster import Cluster
from harness.errors import StrategyError
from harness.run.plan import Plan, make_plan
from tests.builders.clusters import Nodes, numbers, until
from tests.builders.processes import ForkServer
from tests.builders.tasks import Files, row, write_rows

SWEEP = (
    *("--strategy=zeroshot,fewshot,qlora", "--k=1", "--seeds=0,1", "--set=qlora.max_steps=6"),
    "--set=qlora.quantization=none",
)
CELLS = 5


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> list[str]:
    folder = tmp_path_factory.mktemp("rows")
    turn = ("classical", "modern")
    test = [row(i, 6 + i, "test", turn[i % 2]) for i in range(5)]
    train = [row(i, 5 + i % 4, "train", turn[i % 2]) for i in range(12)]
    return [
        *SWEEP,
        f"--model={tiny_model}",
        f"--data={write_rows(folder / 'test.json', test)}",
        f"--train-data={write_rows(folder / 'train.json', train)}",
    ]


@pytest.fixture(scope="module")
def plain(
    flags: list[str], tmp_path_factory: pytest.TempPathFactory, processes: ForkServer
) -> Path:
    """The results of a run in one process."""
    results = tmp_path_factory.mktemp("plain")
    where = ("suites/", "-p", "no:cacheprovider", f"--results-dir={results}")
    done = processes.run("pytest", *where, *flags, env={"OMP_NUM_THREADS": "1"})
    assert done.status == 0, done.out
    return results


def summary(results: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((results / "summary.json").read_text("utf-8"))
    return value


def facts(results: Path) -> list[dict[str, Any]]:
    """The groups of a run, but for seconds."""
    return [
        {name: value for name, value in group.items() if "second" not in name}
        for group in summary(results)["groups"]
    ]


def slots(kind: str) -> Iterator[int]:
    """Numbers of the processes of slots whose private folder has such a file."""
    for folder in Path(tempfile.gettempdir()).glob(".adaptbench-slot.*.tmp"):
        if list(folder.glob(kind)):
            yield int(folder.name.split(".")[-2])


def test_a_driver_is_killed_and_the_next_computes_the_rest(
    nodes: Nodes, flags: list[str], plain: Path, tmp_path: Path
) -> None:
    nodes.fill(2)
    process = nodes.run(*flags, f"--results-dir={tmp_path}")
    stored = until(lambda: [*(tmp_path / "cells").glob("*.json")][1:], process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").glob("*.json")}
    assert len(stored) < len(kept) + 1 < CELLS + 1

    process = nodes.run(*flags, f"--results-dir={tmp_path}", "--slots=1")
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert numbers(tmp_path) == numbers(plain)
    assert facts(tmp_path) == facts(plain)
    said = summary(tmp_path)
    computed = [cell for cell in said["cells"] if not cell["cached"]]
    assert len(computed) == CELLS - len(kept)
    assert all(cell["node"] for cell in computed)
    # The driver computed nothing, and what it did not wait for was not computed.
    pids = {slot["pid"] for slot in said["engine"]["slots"]}
    assert process.pid not in pids
    assert os.getpid() not in pids
    cells_and_trainings = sum(slot["jobs"] for slot in said["engine"]["slots"])
    assert len(computed) <= cells_and_trainings <= len(computed) + 2


def test_a_node_is_killed_in_training_and_one_in_scoring(
    nodes: Nodes, flags: list[str], plain: Path, tmp_path: Path
) -> None:
    nodes.fill(2)
    process = nodes.run(*flags, f"--results-dir={tmp_path}")
    training = until(lambda: [*filter(None, map(nodes.node_of, slots("adapters/*.lock")))], process)
    nodes.kill(training[0])
    nodes.add()  # which joins late
    until(lambda: list((tmp_path / "cells").glob("*.json")), process)
    nodes.kill(nodes.nodes[0])
    nodes.add()
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    assert numbers(tmp_path) == numbers(plain)
    assert facts(tmp_path) == facts(plain)
    adapters = {path.name for path in (tmp_path / "adapters").iterdir() if path.is_dir()}
    assert adapters == {path.name for path in (plain / "adapters").iterdir() if path.is_dir()}
    assert len(summary(tmp_path)["engine"]["slots"]) > 2


class Copying:
    """Stands for a cluster: what is put there is copied as Ray copies it."""

    @staticmethod
    def put(value: object) -> bytes:
        from ray import cloudpickle

        copied: bytes = cloudpickle.dumps(value)
        return copied


def sent(plan: Plan) -> bytes:
    found: bytes = Cluster.put_plan(Copying(), plan)  # type: ignore[arg-type]
    return found


# Ray is not imported before the cluster's own environment is there, which it reads then.
@pytest.mark.usefixtures("nodes")
def test_every_strategy_that_is_shipped_can_be_sent(files: Files, tiny_model: Path) -> None:
    given = {"strategy": "zeroshot,fewshot,qlora", "k": "2", "select": "random,bidirectional"}
    where = {"model": str(tiny_model), "data": str(files.test), "train_data": str(files.train)}
    plan = make_plan(parse_options({**given, **where}))
    assert {case.strategy.name for case in plan.cases} == {"zeroshot", "fewshot", "qlora"}
    # Loaded again here, the copies would change the classes of this process.
    assert sent(plan)


@pytest.mark.usefixtures("nodes")
def test_a_strategy_that_cannot_be_sent_is_one_line(
    files: Files, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = {"model": str(tiny_model), "data": str(files.test), "train_data": str(files.train)}
    plan = make_plan(parse_options({"strategy": "zeroshot", **where}))
    module = types.ModuleType("locked")
    monkeypatch.setitem(sys.modules, "locked", module)
    code = (
        "LOCK = threading.Lock()\nclass Locked(ZeroShot):\n    name = 'locked'\n    lock = LOCK\n"
    )
    exec(f"import threading\nfrom strategies.zeroshot import ZeroShot\n{code}", module.__dict__)
    case = dataclasses.replace(plan.cases[0], strategy=module.Locked())
    with pytest.raises(StrategyError) as error:
        sent(dataclasses.replace(plan, cases=(case,)))
    line = str(error.value)
    assert line.startswith("strategy 'locked' cannot be sent to other processes: cannot pickle")
    assert "(locked)" in line
    assert "\n" not in line
