"""The order of jobs: longest first, near the model, training runs before what needs them."""

from __future__ import annotations

import re

import pytest

from harness.engine.jobs import Job, Queue
from harness.engine.simulation import RATE, InOrder, Order, Site, loads, simulate, sweep
from tests.builders import ROOT


def queue_of(*jobs: Job) -> Queue:
    queue = Queue()
    for job in jobs:
        queue.add(job)
    return queue


def job(key: str, flops: float, model: str = "m", needs: str | None = None) -> Job:
    return Job(key, key, model, flops, needs)


def test_the_longest_goes_first() -> None:
    queue = queue_of(job("a", 1), job("b", 3), job("c", 2))
    taken = [queue.take(slot, 3) for slot in range(4)]
    assert [one and one.key for one in taken] == ["b", "c", "a", None]


def test_a_slot_goes_on_with_its_model_while_no_other_job_is_urgent() -> None:
    short = [job(f"s{i}", 1, "small") for i in range(20)]
    queue = queue_of(*short, *(job(f"l{i}", 2, "large") for i in range(10)))
    first = queue.take(0, 2)
    assert first is not None
    assert first.model in ("small", "large")
    queue.finish(first.key)
    second = queue.take(0, 2)
    assert second is not None
    assert second.model == first.model
    queue.add(job("huge", 40, "huge"))
    queue.finish(second.key)
    third = queue.take(0, 2)
    assert third is not None
    assert third.key == "huge"


def test_two_slots_take_two_models() -> None:
    queue = queue_of(*(job(f"{m}{i}", 1, m) for m in "ab" for i in range(9)))
    assert {one.model for slot in range(2) if (one := queue.take(slot, 2))} == {"a", "b"}


def test_a_training_run_counts_with_the_cell_that_waits_for_it() -> None:
    queue = queue_of(job("other", 5), job("run", 3), job("cell", 4, "m run", "run"))
    assert queue.waiting == 2
    first = queue.take(0, 1)
    assert first is not None
    assert first.key == "run"  # 3 + 4 is more than 5
    queue.finish("run")
    assert queue.waiting == 2
    assert queue.open == 2


def test_a_slot_that_trained_scores_its_adapter() -> None:
    run = Job("run", "run", "m", 1, leaves="m run")
    others = [job(f"o{i}", 1, "m") for i in range(9)]
    queue = queue_of(run, job("cell", 0.5, "m run", "run"), *others)
    assert (queue.take(0, 20) or run).key == "run"
    queue.finish("run")
    taken = queue.take(0, 1)
    assert taken is not None
    assert taken.key == "cell"


def test_a_lost_job_is_tried_again_and_not_for_ever() -> None:
    queue = queue_of(job("a", 1))
    for _ in range(2):
        assert queue.take("slot", 1) is not None
        assert queue.lose("slot") == []
    assert queue.take("slot", 1) is not None
    assert queue.lose("slot") == ["a"]
    assert queue.fail("a") == ["a"]
    assert queue.open == 0


def test_what_needs_a_failed_training_run_fails_with_it() -> None:
    queue = queue_of(job("run", 1), job("x", 1, "m run", "run"), job("y", 1, "m run", "run"))
    assert queue.take(0, 1) is not None
    assert sorted(queue.fail("run")) == ["run", "x", "y"]
    assert queue.open == 0
    assert queue.left == 0


def test_a_job_is_added_once() -> None:
    assert len(queue_of(job("a", 1), job("a", 1)).jobs) == 1


# ------------------------------------------------------------------------------ simulation

SMALL, LARGE = (5, 6), (50, 7)  # prompts and seeds: 4,300 and 49,000 cells
EIGHT_HOURS = 8 * 3600.0


def efficiency(size: tuple[int, int], slots: int, order: Order, life: float | None = None) -> float:
    site = Site(slots, loads=loads(), rate=RATE, lifetime=life)
    return simulate(sweep(*size), order, site).efficiency


def test_the_sweeps_are_as_large_as_they_are_called() -> None:
    for size, cells in ((SMALL, 4_300), (LARGE, 49_000)):
        assert sum("adapter" in one.model or not one.leaves for one in sweep(*size)) == cells


@pytest.mark.parametrize("slots", [10, 100])
def test_four_thousand_cells_on_a_hundred_slots(slots: int) -> None:
    assert efficiency(SMALL, slots, Queue()) >= 0.8
    assert efficiency(SMALL, slots, Queue()) > efficiency(SMALL, slots, InOrder())


def test_the_documented_figures_are_the_simulation_s() -> None:
    lines = (ROOT / "docs" / "cluster.md").read_text("utf-8").splitlines()
    rows = [line.strip("|").split("|") for line in lines if re.match(r"\| \d+ \| 0\.", line)]
    assert [int(row[0]) for row in rows] == [10, 100, 300, 1000]
    for row in rows:
        slots, *stated = map(float, row)
        found = [efficiency(SMALL, int(slots), order()) for order in (InOrder, Queue)]
        if slots == 1000:  # the other rows of the large sweep take too long for a test
            found += [efficiency(LARGE, 1000, one(), EIGHT_HOURS) for one in (InOrder, Queue)]
            assert found[3] >= 0.85
            assert found[3] > found[2] + 0.1
        assert [f"{one:.2f}" for one in found] == [f"{one:.2f}" for one in stated[: len(found)]]


def test_no_job_is_lost_with_a_slot() -> None:
    jobs = sweep(1, 1)
    queue = Queue(tries=1000)
    outcome = simulate(jobs, queue, Site(20, loads=loads(), rate=RATE, lifetime=120.0, seed=3))
    assert outcome.deaths > 10
    assert queue.done == {one.key for one in jobs}
    again = Site(20, loads=loads(), rate=RATE, lifetime=120.0, seed=3)
    assert simulate(jobs, Queue(tries=1000), again) == outcome
