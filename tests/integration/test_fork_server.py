"""The runs of the other tests: what a forked process has, and when one starts from cold."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.builders.processes import ForkServer

# Says what a run finds when it begins.
FACTS = """
import json, os, sys
roots = {name.partition(".")[0] for name in sys.modules}
print(json.dumps({
    "warm": "torch" in roots,
    "ours": sorted(roots & {"harness", "strategies", "suites", "tests", "conftest"}),
    "folder": os.getcwd(),
    "environment": os.environ.get("GITHUB_ACTIONS"),
    "threads": len(os.listdir("/proc/self/task")),
    "path": sys.path[:2],
    "arguments": sys.argv[1:],
    "name": __name__,
    "terminal": sys.stdout.isatty() or sys.stderr.isatty(),
    "stdin": sys.stdin.read(),
}))
print("said beside", file=sys.stderr)
sys.exit(7)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "facts.py").write_text(FACTS, "utf-8")
    return tmp_path


def test_a_forked_run_is_like_one_from_cold(processes: ForkServer, folder: Path) -> None:
    if not processes.usable:
        pytest.skip("nothing is forked where there is CUDA, nor on other systems than Linux")
    assert processes.start()
    env = {"GITHUB_ACTIONS": "so", "PYTHONPATH": f"{folder / 'elsewhere'}"}
    found = []
    for cold in (False, True):
        done = processes.run("facts", "a b", "--c", folder=folder, env=env, cold=cold)
        assert (done.status, done.err) == (7, "said beside\n"), done.err
        found.append(json.loads(done.out))
    assert [facts.pop("warm") for facts in found] == [True, False]
    assert found[0] == found[1]
    assert found[0]["ours"] == []
    assert found[0]["threads"] == 1
    assert found[0]["path"] == [str(folder), str(folder / "elsewhere")]
    assert os.environ.get("GITHUB_ACTIONS") != "so"


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (("-p", "tests.integration.no_torch"), {}),
        (("-n", "2"), {}),
        (("-n2",), {}),
        ((), {"HF_HUB_OFFLINE": "1"}),
        ((), {"PYTHONHASHSEED": "4"}),
    ],
    ids=["no torch", "-n 2", "-n2", "hub", "hash seed"],
)
def test_what_a_fork_can_not_give_starts_from_cold(
    processes: ForkServer, folder: Path, arguments: tuple[str, ...], env: dict[str, str]
) -> None:
    done = processes.run("facts", *arguments, folder=folder, env=env)
    assert not json.loads(done.out)["warm"]


def test_a_run_that_dies_leaves_the_server_alive(processes: ForkServer, folder: Path) -> None:
    (folder / "dies.py").write_text("import os\nos.kill(os.getpid(), 9)\n", "utf-8")
    assert processes.run("dies", folder=folder).status == -9
    assert processes.run("facts", folder=folder).status == 7
