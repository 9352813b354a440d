"""Batches computed side by side: the same bits, on as many cores as there are."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from harness.core import ModelSpec
from harness.models import attention
from harness.models.loading import LoadedModel, load
from harness.records import COPIED, IN_PLACE
from harness.scoring import fast as module
from harness.scoring import sharing, single
from harness.scoring.batches import Batch, Budget, even
from harness.scoring.changes import at_a_time
from harness.scoring.fast import fast
from harness.scoring.queue import SPARE, BatchQueue, Load, few_cores, most_at_a_time
from tests.builders.models import make_llama
from tests.builders.scoring import PREFIX, QUIET, encode

SMALL = Budget(tokens=60, keys=1 << 12, logits=1 << 26, softmax=1 << 12)  # several batches


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedModel:
    return load(ModelSpec("tiny", "tiny"), make_llama(tmp_path / "m"), None)


@pytest.mark.parametrize("shared", ["", PREFIX])
def test_the_bits_do_not_depend_on_the_number_of_cores(loaded: LoadedModel, shared: str) -> None:
    rows = encode(loaded.encoder, shared=shared)
    one = fast(loaded, rows, QUIET, SMALL, workers=1)
    assert one.how.batches >= 3
    for workers in (2, 3, 5):
        many = fast(loaded, rows, QUIET, SMALL, workers=workers)
        assert many.tokens == one.tokens
        assert many.how == one.how
    assert loaded.side_by_side is True


@pytest.mark.usefixtures("two_cores")
def test_every_core_takes_batches_and_torch_has_its_threads_back(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    who: set[int] = set()
    both = threading.Barrier(2, timeout=30)
    plain = module.losses_if_they_fit

    def noted(*given: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            if threading.get_ident() not in who:
                who.add(threading.get_ident())
                both.wait()  # until the other one has a batch, too
            assert torch.get_num_threads() == 1
        return plain(*given)

    monkeypatch.setattr(module, "losses_if_they_fit", noted)
    monkeypatch.setattr(Load, "look", lambda load: None)
    fast(loaded, encode(loaded.encoder), QUIET, SMALL, share=False)
    assert torch.get_num_threads() == 2
    assert len(who) == 2


def test_a_model_whose_batches_disturb_each_other_is_scored_one_after_the_other(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = module.losses_if_they_fit
    rows = encode(loaded.encoder)
    right = fast(loaded, rows, QUIET, SMALL, workers=1).tokens
    elsewhere: list[int] = []

    def disturbed(*given: Any) -> Any:
        losses = plain(*given)
        if threading.current_thread() is threading.main_thread():
            return losses
        elsewhere.append(1)
        return losses * 1.001

    monkeypatch.setattr(module, "losses_if_they_fit", disturbed)
    assert fast(loaded, rows, QUIET, SMALL, workers=2).tokens == right
    assert elsewhere
    assert loaded.side_by_side is False
    assert at_a_time(loaded, 20, 9) == 1  # from now on


@pytest.mark.usefixtures("two_cores")
def test_the_two_rows_that_sharing_is_checked_on_have_a_core_each(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    rows = encode(loaded.encoder, shared=PREFIX)
    with few_cores():
        right = fast(loaded, rows, QUIET, SMALL)
    loaded.shared_tokens.clear()
    both = threading.Barrier(2, timeout=30)
    asked: list[tuple[str, int]] = []
    plain = sharing._each

    def noted(compute: Any, some: Any, workers: int) -> list[float]:
        def one(row: Any) -> float:
            both.wait()  # in turn, the first one would wait for ever
            asked.append((row.prompt.id, torch.get_num_threads()))
            return float(compute(row))

        return plain(one, some, workers)

    monkeypatch.setattr(sharing, "_each", noted)
    found = fast(loaded, rows, QUIET, SMALL)
    assert (found.tokens, found.how) == (right.tokens, right.how)
    ends = [min(rows, key=len), max(rows, key=len)]
    assert sorted(asked) == sorted((row.prompt.id, 1) for row in (*ends, *ends))
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize("what", ["batch_losses", "whole_row"])
def test_two_rows_that_do_not_fit_at_a_time_are_checked_one_by_one(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    rows = encode(loaded.encoder, shared=PREFIX)
    plain = getattr(sharing, what)
    full: list[str] = []

    def tight(*given: Any) -> Any:
        if threading.current_thread().name.startswith("row"):
            full.append(what)
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")
        return plain(*given)

    monkeypatch.setattr(sharing, what, tight)
    found = fast(loaded, rows, QUIET, SMALL)
    assert found.how.prefix == IN_PLACE
    assert full


@pytest.mark.usefixtures("two_cores")
def test_a_check_in_two_threads_finds_a_wrong_way(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    plain = attention.full
    monkeypatch.setattr(attention, "full", lambda *parts: [-torch.abs(p) for p in plain(*parts)])
    rows = encode(loaded.encoder, shared=PREFIX)
    found = fast(loaded, rows, QUIET, SMALL)
    assert found.how.prefix == COPIED
    assert "with a shared prefix and" in found.how.refused[IN_PLACE]


def test_a_core_s_error_is_everybody_s(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: Any) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(single, "batch_losses", broken)
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="shapes do not match"):
        fast(loaded, encode(loaded.encoder), QUIET, SMALL, share=False, workers=3)
    assert threading.active_count() == before


def test_no_core_goes_on_when_nobody_waits_any_more() -> None:
    import torch

    begun: list[Batch] = []

    def compute(batch: Batch) -> Any:
        begun.append(batch)
        time.sleep(0.01)
        return torch.zeros(1)

    batches = [Batch((i,), 1) for i in range(1000)]
    queue = BatchQueue(batches, compute, lambda batch: (batch, batch), str)
    before = threading.active_count()
    found = queue.losses(2)
    next(found)
    found.close()
    assert len(begun) < 10
    assert threading.active_count() == before


class Machine:
    """A clock, and the cores' time that a process had; one second passes at each look."""

    def __init__(self, shares: list[float], cores: int) -> None:
        self.shares, self.cores = iter(shares), cores
        self.now = self.used = 0.0

    def pass_time(self, seconds: float = 1.0) -> None:
        self.now += seconds
        self.used += seconds * next(self.shares) * self.cores


def test_a_busy_machine_is_noticed_and_a_free_one() -> None:
    shares = [1.0, 0.9, 0.8, 0.9, 0.97, 0.9, 0.5]
    machine = Machine(shares, cores=4)
    load = Load(4, lambda: machine.now, lambda: machine.used)
    found = []
    for _ in shares:
        machine.pass_time()
        load.look()
        found.append(load.heavy.is_set())
    # Between the two bounds it stays as it was.
    assert found == [False, False, True, True, False, False, True]


def test_a_moment_says_nothing_about_the_machine() -> None:
    machine = Machine([0.0, 1.0], cores=1)
    load = Load(1, lambda: machine.now, lambda: machine.used)
    machine.pass_time(0.1)
    load.look()
    assert not load.heavy.is_set()
    machine.pass_time(0.9)  # 90 % of the second as a whole
    load.look()
    assert not load.heavy.is_set()


@pytest.mark.parametrize(("busy", "threads"), [(False, 2), (True, 2 + SPARE)])
def test_spare_threads_help_on_a_busy_machine_alone(
    monkeypatch: pytest.MonkeyPatch, busy: bool, threads: int
) -> None:
    import torch

    who: set[int] = set()

    def look(load: Load) -> None:
        if busy:
            load.heavy.set()

    def compute(batch: Batch) -> Any:
        who.add(threading.get_ident())
        time.sleep(0.01)
        return torch.tensor([float(batch.width)])

    monkeypatch.setattr(Load, "look", look)
    batches = [Batch((i,), i + 1) for i in range(60)]
    queue = BatchQueue(batches, compute, lambda batch: (batch, batch), str)
    before = threading.active_count()
    found = {batch.width: losses.item() for batch, losses in queue.losses(2)}
    assert found == {width: float(width) for width in range(1, 61)}
    assert len(who) == threads <= most_at_a_time(2)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("rows", "width", "expected"),
    [(1, 9, 12), (2, 9, 10), (3, 9, 12), (4, 9, 9), (5, 8, 8), (6, 7, 8), (3, 397, 397)],
)
def test_positions_of_a_batch_are_a_multiple_of_four(rows: int, width: int, expected: int) -> None:
    batch = even(Batch(tuple(range(rows)), width), 397)
    assert batch == Batch(tuple(range(rows)), expected)
    assert rows * batch.width % 4 == 0 or batch.width == 397  # where there is room for it
