"""What reading costs, counted: files read, modules imported, lines executed, draws made."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.config.options import parse_options
from harness.core import Example, digest
from harness.data import leakage
from harness.files import KEPT, keep, kept
from harness.metrics.perplexity import Perplexity
from harness.report.figures import labels
from harness.report.publish import rebuild
from harness.results import store as store_module
from harness.results.baseline import write_baseline
from harness.results.reading import read_run, snapshot
from harness.results.store import Store, read_measurement
from harness.run import cells as cells_module
from harness.run.bench import Bench
from harness.run.plan import make_plan
from harness.session import Session
from harness.statistics import paired
from harness.statistics.intervals import Interval, Resamples
from strategies import fewshot
from tests.builders import ROOT
from tests.builders.cells import CELL, MEASUREMENT
from tests.builders.costs import lines_during
from tests.builders.runs import make_run
from tests.builders.tasks import Files

LONG_AGO = 1_000_000_000


def counted(monkeypatch: pytest.MonkeyPatch, where: Any, name: str) -> list[tuple[Any, ...]]:
    """The calls of a function from now on, by their arguments."""
    calls: list[tuple[Any, ...]] = []
    real = getattr(where, name)

    def call(*args: Any, **more: Any) -> Any:
        calls.append(args)
        return real(*args, **more)

    monkeypatch.setattr(where, name, call)
    return calls


def settle(folder: Path) -> None:
    """Make all files of a results directory, and their folders, old."""
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (LONG_AGO, LONG_AGO))


# --- cells


def test_a_cell_is_read_once_while_nobody_changes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Store(tmp_path).put(MEASUREMENT)
    settle(tmp_path)
    reads = counted(monkeypatch, store_module, "read_measurement")
    store = Store(tmp_path)
    first = store.get(CELL)
    assert store.get(CELL) is first
    renamed = store.get(dataclasses.replace(CELL, id="other"))
    assert renamed is not None
    assert (renamed.cell.id, renamed.observations) == ("other", MEASUREMENT.observations)
    assert len(reads) == 1
    path.write_text(path.read_text("utf-8").replace("1.1", "1.2"), encoding="utf-8")
    with pytest.warns(store_module.DamagedFileWarning, match="checksum"):
        assert store.get(CELL) is None


def test_a_cell_written_a_moment_ago_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another change may stand in the same tick of the file system's clock."""
    store = Store(tmp_path)
    store.put(MEASUREMENT)
    reads = counted(monkeypatch, store_module, "read_measurement")
    assert store.get(CELL) == store.get(CELL) == MEASUREMENT
    assert len(reads) == 2


def test_the_folder_is_listed_once_for_all_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"m-plain-other-s{seed}" for seed in range(20)]
    cells = [dataclasses.replace(CELL, id=name, seed=seed) for seed, name in enumerate(names)]
    for cell in cells:
        Store(tmp_path).put(dataclasses.replace(MEASUREMENT, cell=cell))
    settle(tmp_path)
    store = Store(tmp_path)
    lists = counted(monkeypatch, Path, "glob")
    assert [store.path(cell).name.partition("-s")[0] for cell in cells] == ["m-plain-other"] * 20
    assert len(lists) == 1
    renamed = tmp_path / "cells" / f"abc-{cells[3].key[:16]}.json"
    store.path(cells[3]).rename(renamed)  # which shows in the folder's time
    assert store.path(cells[3]) == renamed
    missing = dataclasses.replace(CELL, seed=99)
    assert store.path(missing).name == f"{CELL.id}-{missing.key[:16]}.json"


def test_what_many_rows_share_is_kept_once(tmp_path: Path) -> None:
    path = Store(tmp_path).put(MEASUREMENT)
    one, other = read_measurement(path), read_measurement(path)
    for ours, theirs in zip(one.observations, other.observations, strict=True):
        assert ours.id is theirs.id
        assert all(map(lambda a, b: a is b, ours.demo_ids, theirs.demo_ids))
        assert not hasattr(ours, "__dict__")


# --- a cached run


def test_a_cached_run_reads_and_asks_once(
    files: Files, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = {"model": str(tiny_model), "data": str(files.test), "train_data": str(files.train)}
    flags |= {"strategy": "fewshot", "k": "1,2", "seeds": "0,1,2", "results_dir": str(tmp_path)}
    plan = make_plan(parse_options(flags))
    bench = Bench(plan)
    rows = [dataclasses.replace(MEASUREMENT.likelihoods[0], id=row.id, demo_ids=()) for row in plan.task.examples]  # fmt: skip
    for case in plan.cases:
        measured = dataclasses.replace(MEASUREMENT, cell=bench.cell(case), training=None)
        bench.store.put(dataclasses.replace(measured, observations=tuple(rows)))
    settle(tmp_path)
    session = Session(plan)
    reads = counted(monkeypatch, store_module, "read_measurement")
    asked = counted(monkeypatch, cells_module, "libraries")
    read = counted(monkeypatch, Perplexity, "read")
    for case in plan.cases:
        session.headlines(session.measure(case, lambda: 0).measurement)
    session.active = True
    session.finish()
    assert session.trouble is None
    assert (len(plan.cases), len(reads), len(asked), len(read)) == (6, 6, 1, 6)
    # By the definition of the digest, one value for all rows.
    for case in plan.cases:
        shown = [[one.content for one in rows] for rows in plan.demonstrations(case)]
        assert session.bench.cell(case).demonstrations_digest == digest(shown)


def test_rows_of_one_seed_are_put_in_order_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = tuple(Example(f"p{i}", "", "") for i in range(100))

    def expected(seed: int, k: int) -> list[str]:
        names = [example.id for example in pool]
        return sorted(names, key=lambda x: hashlib.sha256(f"{seed}\n{x}".encode()).digest())[:k]

    places = counted(monkeypatch, fewshot, "_place")
    for k in (1, 3, 32, 2):
        assert [row.id for row in fewshot.sample(pool, 7, k)] == expected(7, k)
    assert len(places) == len(pool)
    for seed, k in ((7, 40), (8, 5), (7, 100), (7, 200)):
        assert [row.id for row in fewshot.sample(pool, seed, k)] == expected(seed, k)
    other = pool[50:]
    assert {row.id for row in fewshot.sample(other, 7, 50)} == {row.id for row in other}
    assert fewshot.sample(list(pool), 7, 3) == fewshot.sample(pool, 7, 3)


@pytest.mark.usefixtures("clean_cache")
def test_near_copies_are_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searches = counted(monkeypatch, leakage, "_near_copies")
    test = [Example("t", "x", "y"), Example("u", "v", "w")]
    train = [Example("a", "x", "y"), Example("b", "q", "r")]
    for _ in range(2):
        assert leakage.near_copies(train, test) == {"a": "t"}
    assert len(searches) == 1
    changed = [train[0], dataclasses.replace(train[1], instruction="v", output="w")]
    assert leakage.near_copies(changed, test) == {"a": "t", "b": "u"}
    assert leakage.near_copies(train, test[1:]) == {}
    assert len(searches) == 3


# --- the user's cache


def test_what_is_kept_is_whole_or_not_there(clean_cache: Path) -> None:
    assert kept("kind", "name") is None
    keep("kind", "name", "文\r\n")
    assert kept("kind", "name") == "文\r\n"
    path = clean_cache / "kind" / "name"
    path.write_bytes(path.read_bytes()[:-1])
    assert kept("kind", "name") is None
    path.write_bytes(b"\xff")
    assert kept("kind", "name") is None


def test_the_newest_are_kept(clean_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert KEPT >= 100
    monkeypatch.setattr("harness.files.KEPT", 3)
    for age, name in enumerate("edcba"):
        keep("kind", name, name)
        os.utime(clean_cache / "kind" / name, (LONG_AGO - age, LONG_AGO - age))
    keep("kind", "new", "new")
    assert sorted(path.name for path in (clean_cache / "kind").iterdir()) == ["d", "e", "new"]


def test_a_cache_that_cannot_be_written_is_none(clean_cache: Path) -> None:
    clean_cache.write_text("in the way")
    keep("kind", "name", "text")
    assert kept("kind", "name") is None


# --- a report


def modules_of(command: list[str], folder: Path) -> set[str]:
    code = (
        "import sys; from harness.cli import main; status = main(sys.argv[1:]);"
        "print(status, sorted({m for m in sys.modules if m.partition('.')[0] in ('matplotlib', 'scipy')}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    status, _, names = done.stdout.strip().splitlines()[-1].partition(" ")
    assert status == "0"
    return set(ast.literal_eval(names))


@pytest.mark.usefixtures("clean_cache")
def test_what_did_not_change_is_not_drawn_again(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "results", shift=-0.1)
    first = modules_of(["report", "results"], tmp_path)
    written = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    again = modules_of(["report", "results"], tmp_path)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == written
    assert "matplotlib" in first
    assert "matplotlib" not in again
    assert "scipy.stats" not in first | again  # a fifth of a second
    make_run(folder, shift=-0.2)
    assert "matplotlib" in modules_of(["report", "results"], tmp_path)


@pytest.mark.usefixtures("clean_cache")
def test_another_reader_draws_for_himself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture stands in a page as it is: none is taken from a results directory."""
    folder = make_run(tmp_path / "results", shift=-0.1)
    rebuild(folder, None)
    page = (folder / "report.html").read_bytes()
    for path in (folder / "figures").iterdir():
        path.write_text("<script>alert(1)</script>")
    monkeypatch.setenv("ADAPTBENCH_CACHE", str(tmp_path / "another"))
    rebuild(folder, None)
    assert (folder / "report.html").read_bytes() == page


def test_every_cell_is_read_and_checked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(tmp_path / "results")
    opened = counted(monkeypatch, Path, "read_text")
    read = counted(monkeypatch, Perplexity, "read")
    rebuild(folder, None)
    times = Counter(path.name for path, *_ in opened if path.parent.name == "cells")
    assert set(times.values()) == {1}
    assert len(read) == len(times) == 4


def test_names_find_the_cheapest_places_soon() -> None:
    """Against every place tried, as the definition of the places has it."""
    rng = np.random.default_rng(0)
    points = [(float(x), float(y)) for x, y in rng.uniform(20, 300, (17, 2))]
    sizes = [(60.0, labels.HEIGHT)] * len(points)
    room = (0.0, 0.0, 320.0, 320.0)
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in points]

    def every(i: int, points: Any, size: Any, taken: Any, room: Any) -> labels.Box:
        return min(
            (
                labels.cost(box, taken, room)
                + 0.6 * step
                + 0.5 * rank
                + 9 * (labels.nearest(box, points) != i),
                box,
            )
            for step in labels.STEPS
            for rank, side in enumerate(labels.SIDES)
            for box in [labels._at(points[i], size, side, step)]
        )[1]

    arguments = points, sizes, taken, room
    found = labels.beside(*arguments)
    lines = lines_during(lambda: labels.beside(*arguments))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels, "_cheapest", every)
        assert labels.beside(*arguments) == found
        assert lines < lines_during(lambda: labels.beside(*arguments)) / 2


# --- statistics of large families


def test_signs_are_drawn_once_for_all_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = counted(monkeypatch, paired, "_signs")
    paired.permutation_p(np.random.default_rng(0).normal(size=(20, 300)))
    assert len(drawn) == 1


def test_what_did_not_change_is_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run against its own baseline: no draw is made, and every interval is a point."""
    from harness.gate.decision import hold
    from harness.gate.verdict import Terms
    from harness.results.reading import metrics_of

    folder = make_run(tmp_path / "results")
    now = snapshot(folder)
    write_baseline(tmp_path / "baseline.json", now)
    drawn = counted(monkeypatch, Resamples, "drawn_means")
    signs = counted(monkeypatch, paired, "_signs")
    metrics = metrics_of(read_run(folder)[0], folder)
    gate = hold(Terms(tmp_path / "baseline.json"), now, metrics)
    assert (gate.passed, len(gate.verdicts), drawn, signs) == (True, 4, [], [])


def test_intervals_of_what_did_not_change() -> None:
    same = np.exp(np.random.default_rng(0).normal(size=(30, 3)))
    draws = Resamples(30)
    assert draws.means(np.zeros((30, 3))) == [Interval(0.0, 0.0, 0.0)] * 3
    assert draws.ratios(same, same) == [Interval(1.0, 1.0, 1.0)] * 3
    # As where only some of the columns are.
    mixed = np.hstack([np.zeros((30, 1)), same])
    assert draws.means(mixed)[0] == Interval(0.0, 0.0, 0.0)
    assert draws.ratios(np.hstack([same, same]), np.hstack([same, 2 * same]))[:3] == [Interval(1.0, 1.0, 1.0)] * 3  # fmt: skip


# --- waiting


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "1000"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, None),
        ({"GOMP_SPINCOUNT": "30000"}, "30000"),
        ({"KMP_BLOCKTIME": "0"}, None),
    ],
)
def test_threads_fall_asleep_soon_unless_the_user_says(
    given: dict[str, str], expected: str | None
) -> None:
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    clean = {name: value for name, value in os.environ.items() if name not in names}
    code = "import os, harness; print(os.environ.get('GOMP_SPINCOUNT'))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, **given, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(expected)
