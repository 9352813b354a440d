"""Batches of an optimizer step on several cores: the same adapter on any number of them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.conformance.tiny_models import FAMILIES, make
from harness.core import Example, ModelSpec, TrainingSettings, TrainingSpec
from harness.errors import TrainingError
from harness.prompts.files import load_template
from harness.results.adapter_files import read_record
from harness.scoring.queue import few_cores
from harness.training import lanes as room
from harness.training.cache import train_once
from harness.training.collation import CPU_TOKENS, even_batches
from harness.training.lanes import IN_FLIGHT, Lanes, fitting
from tests.builders.models import make_llama
from tests.builders.tasks import row

ROWS = tuple(Example(**row(i, 5 + (i * 7) % 56, "train")) for i in range(12))
PLAIN = load_template("plain")


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model has been looked at in this process."""
    monkeypatch.setattr(Lanes, "checked", {})


@pytest.fixture
def at_a_time(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many threads computed each step's batches, where it was not the main one."""
    found: list[int] = []
    plain = room.on_each_core

    def noted(workers: int, *more: Any) -> Any:
        found.append(workers)
        return plain(workers, *more)

    monkeypatch.setattr(room, "on_each_core", noted)
    return found


def trained(
    folder: Path, model: Path, count: int, base: ModelSpec | None = None, **changes: Any
) -> bytes:
    """The adapter's weights, trained on so many cores; six steps of four rows."""
    base = base or ModelSpec("tiny", "sha-tiny")
    given: dict[str, Any] = {"r": 4, "lora_alpha": 8, "learning_rate": 1e-2, "num_train_epochs": 2}
    given |= {"quantization": base.quantization, **changes}
    training = TrainingSpec(ROWS, TrainingSettings(**given), (), ())
    with few_cores(count):
        train_once(folder, base, model, PLAIN, training, lambda *_: None)
    return (folder / "adapter_model.safetensors").read_bytes()


# ------------------------------------------------------------------------- even batches


def tokens(lengths: Sequence[int], batches: Sequence[Sequence[int]]) -> list[int]:
    return [len(one) * max(lengths[place] for place in one) for one in batches]


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([300], [[0]]),
        ([20, 30], [[1], [0]]),
        ([140, 133, 141, 120], [[2, 0], [1, 3]]),
        ([250, 120, 110, 100], [[0], [1, 2, 3]]),  # 250 and 360 tokens, not 500 and 220
        ([900, 100], [[0], [1]]),  # a row is not cut
        ([300] * 4, [[0], [1], [2], [3]]),  # two of them are more than 512 tokens
        ([300] * 3, [[0], [1], [2]]),
    ],
)
def test_a_step_is_cut_evenly(lengths: list[int], expected: list[list[int]]) -> None:
    assert even_batches(lengths) == expected


@pytest.mark.parametrize("seed", range(40))
def test_no_other_cut_of_as_many_batches_is_more_even(seed: int) -> None:
    """Against all ways to cut the rows, sorted by length, at so many places."""
    drawn = torch.Generator().manual_seed(seed)
    count = int(torch.randint(1, 9, (1,), generator=drawn))
    lengths = torch.randint(5, 400, (count,), generator=drawn).tolist()
    found = even_batches(lengths)
    assert sorted(place for one in found for place in one) == list(range(count))
    order = sorted(range(count), key=lambda place: -lengths[place])
    ways: dict[int, int] = {}  # number of batches → the fewest tokens that the largest can have
    for size in range(1, count + 1):
        for places in itertools.combinations(range(1, count), size - 1):
            cut = [order[a:b] for a, b in itertools.pairwise([0, *places, count])]
            ways[size] = min(ways.get(size, 10**9), max(tokens(lengths, cut)))
    fewest = min(size for size, most in ways.items() if most <= max(CPU_TOKENS, *lengths, 0))
    allowed = min(count, fewest + fewest % 2)
    assert len(found) <= allowed
    assert max(tokens(lengths, found)) == min(ways[size] for size in range(1, allowed + 1))


def test_as_many_at_a_time_as_memory_is_meant_for() -> None:
    assert fitting([100]) == 1
    assert fitting([430, 412]) == 2
    assert fitting([200, 190, 180, 170, 160, 150, 140, 130]) == 5
    assert fitting([700, 100]) == 1
    assert IN_FLIGHT == 1024


# -------------------------------------------------------------------------------- lanes


@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
def test_an_adapter_does_not_depend_on_the_cores(
    tmp_path: Path, quantization: Any, at_a_time: list[int]
) -> None:
    model = make_llama(tmp_path / "m", hidden_size=64, intermediate_size=128)
    base = ModelSpec("tiny", "sha-tiny", quantization=quantization)
    found = {trained(tmp_path / f"a{count}", model, count, base) for count in (1, 2, 3, 4)}
    assert len(found) == 1
    assert set(at_a_time) == {2}
    records = [read_record(tmp_path / f"a{count}") for count in (1, 2, 3, 4)]
    assert len({(record.losses, record.sha256) for record in records}) == 1


@pytest.mark.parametrize("name", ["qwen3", "gemma2-soft-capping", "phi3"])
def test_nor_does_one_of_another_family(tmp_path: Path, name: str, at_a_time: list[int]) -> None:
    model = make(FAMILIES[name], tmp_path / "m")
    base = ModelSpec(name, "sha")
    one, two = (trained(tmp_path / f"a{count}", model, count, base) for count in (1, 2))
    assert one == two
    assert set(at_a_time) == {2}


def test_experts_take_turns(tmp_path: Path, at_a_time: list[int]) -> None:
    """An adapter on the experts of a mixture is put into the layer for one forward."""
    model = make(FAMILIES["qwen3-moe"], tmp_path / "m")
    for count in (1, 2):
        trained(tmp_path / f"a{count}", model, count, ModelSpec("moe", "sha"))
    one, two = (read_record(tmp_path / f"a{count}").losses for count in (1, 2))
    assert one == pytest.approx(two, rel=1e-4)  # cores that share a product differ in last digits
    assert not at_a_time


def test_two_batches_are_computed_at_a_time(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waits for the other one before it begins: in turn, none would ever."""
    together = threading.Barrier(2, timeout=20)
    plain = room.mean_loss

    def waits(*given: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            together.wait()
        return plain(*given)

    monkeypatch.setattr(room, "mean_loss", waits)
    trained(tmp_path / "a", tiny_model, 2)


def test_the_order_in_which_batches_are_ready_does_not_count(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four batches a step; the first of them is always ready last."""
    few = {"per_device_train_batch_size": 4, "num_train_epochs": 1}
    monkeypatch.setattr("harness.training.collation.CPU_TOKENS", 60)
    right = trained(tmp_path / "a", tiny_model, 1, **few)
    plain, add = room.mean_loss, Lanes.add_gradients
    first: list[torch.Tensor] = []
    others = threading.Event()

    def late(model: Any, ids: torch.Tensor, *rest: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            return plain(model, ids, *rest)
        if ids is first[-1]:
            assert others.wait(20)
        loss = plain(model, ids, *rest)
        if ids is not first[-1]:
            others.set()
        return loss

    def noted(self: Lanes, model: Any, batches: Any, *rest: Any) -> Any:
        assert len(batches) > 2
        first.append(batches[0]["input_ids"])
        others.clear()
        return add(self, model, batches, *rest)

    monkeypatch.setattr(room, "mean_loss", late)
    monkeypatch.setattr(Lanes, "add_gradients", noted)
    assert trained(tmp_path / "b", tiny_model, 2, **few) == right
    assert len(first) == 3


@pytest.mark.parametrize(
    "settings",
    [{"lora_dropout": 0.1}, {"gradient_checkpointing": True}],
    ids=lambda s: next(iter(s)),
)
def test_what_draws_or_computes_again_takes_turns(
    tiny_model: Path, tmp_path: Path, settings: dict[str, Any], at_a_time: list[int]
) -> None:
    one, two = (trained(tmp_path / f"a{count}", tiny_model, count, **settings) for count in (1, 2))
    assert one == two
    assert not at_a_time


def test_dropout_of_the_base_takes_turns(tmp_path: Path, at_a_time: list[int]) -> None:
    family = FAMILIES["gpt2-learned-positions"]
    dropping = replace(family, settings={**family.settings, "resid_pdrop": 0.1})
    trained(tmp_path / "a", make(dropping, tmp_path / "m"), 2, ModelSpec("gpt2", "sha"))
    assert not at_a_time


def test_a_model_that_keeps_something_of_a_batch_is_found_out(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_a_time: list[int]
) -> None:
    """It lies in a list of the model's own, where nobody sees it write: one gradient is not as alone."""
    with monkeypatch.context() as one_by_one:
        one_by_one.setattr(room, "changes_itself", lambda model: True)
        right = trained(tmp_path / "a", tiny_model, 2)
    assert not at_a_time
    monkeypatch.setattr(Lanes, "checked", {})
    plain, spoiled = room.mean_loss, []

    def keeps(*given: Any) -> Any:
        loss = plain(*given)
        if threading.current_thread() is not threading.main_thread():
            spoiled.append(loss)
            return loss * 2
        return loss

    monkeypatch.setattr(room, "mean_loss", keeps)
    assert trained(tmp_path / "b", tiny_model, 2) == right
    assert at_a_time == [2]  # the first step's; from then on one by one
    assert len(spoiled) == 2


def test_what_goes_wrong_in_a_lane_is_said_where_it_is_waited_for(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")

    monkeypatch.setattr(room, "mean_loss", full)
    before = threading.active_count()
    with pytest.raises(TrainingError, match="gradient_checkpointing=true"):
        trained(tmp_path / "a", tiny_model, 2)
    assert threading.active_count() == before
