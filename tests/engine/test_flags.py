"""What ``--engine=ray`` says no to, and what is imported without it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.builders.commands import Run


def test_two_ways_of_distributing_a_run_are_one_too_many(suites: Run) -> None:
    pytest.importorskip("xdist")
    done = suites("--engine=ray", "-n", "2")
    assert done.status == 4
    assert "ERROR: --engine=ray: distributes the run itself; leave out -n" in done.err
    assert "Traceback" not in done.out + done.err


def test_without_ray_one_line_says_how_to_get_it(suites: Run, tmp_path: Path) -> None:
    (tmp_path / "no_ray.py").write_text(
        "import importlib.util as u, sys\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'ray' else find(name, *a)\n"
    )
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    done = suites("--engine=ray", "-p", "no_ray", env={"PYTHONPATH": path})
    assert done.status == 4
    assert "ERROR: --engine=ray: needs Ray, which is not installed; pip install" in done.err


def test_without_an_engine_nothing_of_ray_is_imported(suites: Run, tmp_path: Path) -> None:
    """Neither the package nor the room that uses it, in a whole run."""
    (tmp_path / "told.py").write_text(
        "import sys\n"
        "def pytest_unconfigure():\n"
        "    names = {m.split('.')[0] for m in sys.modules} & {'ray'}\n"
        "    rooms = {m for m in sys.modules if m.startswith('harness.engine')}\n"
        "    print(sorted(names | rooms), file=sys.stderr)\n"
    )
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    done = suites("--strategy=zeroshot", "-p", "told", env={"PYTHONPATH": path})
    assert done.status == 0, done.out
    assert done.err.strip().splitlines()[-1] == "[]"
