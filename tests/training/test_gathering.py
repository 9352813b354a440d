"""Which adapters are trained in one batch: who takes part, who may not, and under which key."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.conformance.tiny_models import FAMILIES, make
from harness.core import Example, ModelSpec, TrainingSettings, TrainingSpec
from harness.files import sha256
from harness.prompts.files import load_template
from harness.results.adapter_files import ADAPTER, is_complete, read_record, write_record
from harness.results.remote import Nowhere
from harness.training import cache, grouped
from harness.training.cache import adapter_key, train_once
from harness.training.gathering import DamagedAdapterWarning, Siblings, Wanted, gather
from harness.training.train import TrainingWarning
from tests.builders.cells import MEASUREMENT
from tests.builders.models import make_llama
from tests.builders.tasks import row

ROWS = tuple(Example(**row(i, 5 + i % 5, "train")) for i in range(8))
SPEC = ModelSpec("tiny", "sha-tiny")
PLAIN = load_template("plain")


def spec(**changes: Any) -> TrainingSpec:
    given = {"r": 4, "lora_alpha": 8, "max_steps": 2, "together": 3, "quantization": "none"}
    return TrainingSpec(ROWS, TrainingSettings(**{**given, **changes}))


def quiet(*args: object) -> None:
    """Show nothing."""


def finish(folder: Path) -> None:
    """Put an adapter into its folder that is complete."""
    folder.mkdir(parents=True)
    (folder / ADAPTER).write_bytes(b"weights")
    assert MEASUREMENT.training is not None
    write_record(folder, replace(MEASUREMENT.training, sha256=sha256(folder / ADAPTER)))


def gathered(
    place: Path,
    count: int = 4,
    limit: int = 9,
    remote: Nowhere = Nowhere(),
    ends: Sequence[str] = (),
) -> list[list[str]]:
    """The names of the adapters in each call of ``train``; those in ``ends`` come to none."""
    first, *others = [Wanted(place / name, spec()) for name in "abcdefg"[:count]]
    calls: list[list[str]] = []

    def train(group: Sequence[Wanted]) -> None:
        calls.append([one.folder.name for one in group])
        for one in group:
            if one.folder.name not in ends:
                finish(one.folder)

    gather(first, others, limit, remote, train)
    return calls


def test_siblings_are_trained_with_it_up_to_a_limit(tmp_path: Path) -> None:
    assert gathered(tmp_path / "all") == [["a", "b", "c", "d"]]
    assert gathered(tmp_path / "some", limit=2) == [["a", "b"]]
    assert gathered(tmp_path / "one", count=1) == [["a"]]


def test_what_is_there_or_in_other_hands_is_left_alone(tmp_path: Path) -> None:
    from filelock import FileLock

    finish(tmp_path / "b")
    other = FileLock(tmp_path / "c.lock", thread_local=False)
    with other:
        assert gathered(tmp_path) == [["a", "d"]]
    assert not (tmp_path / "c").exists()
    for name in "abd":  # nobody's any more
        with FileLock(tmp_path / f"{name}.lock", timeout=0):
            pass


def test_a_damaged_sibling_is_trained_again(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with pytest.warns(DamagedAdapterWarning, match="adapter b is damaged; it is trained again"):
        assert gathered(tmp_path, count=2, ends="b") == [["a", "b"]]


class Elsewhere(Nowhere):
    """Another place, where one adapter is finished and another is being trained."""

    def __init__(self, has: str, trains: str) -> None:
        self.has, self.trains, self.sent = has, trains, list[str]()

    def once(self, folder: Path, train: Callable[[], None], waiting: Callable[[str], None]) -> None:
        if folder.name == self.has:
            finish(folder)
            return
        while folder.name == self.trains:
            waiting("another machine")
        train()
        self.sent.append(folder.name)


def test_nobody_waits_for_another_machine(tmp_path: Path) -> None:
    elsewhere = Elsewhere(has="b", trains="c")
    assert gathered(tmp_path, count=5, remote=elsewhere, ends="d") == [["a", "d", "e"]]
    assert is_complete(tmp_path / "b")
    # An adapter that came to nothing is not handed on; the first is its caller's to hand on.
    assert elsewhere.sent == ["e"]


# ---------------------------------------------------------------------------- what may not


def train(
    place: Path, model: Path, trainings: Sequence[TrainingSpec], base: ModelSpec
) -> list[Any]:
    siblings, found = Siblings(), []
    wanted = [Wanted(place / str(n), one) for n, one in enumerate(trainings)]
    for one in wanted:  # as the tests of a run ask, one after the other
        siblings.wanted = [other for other in wanted if other is not one]
        train_once(one.folder, base, model, PLAIN, one.training, quiet, siblings=siblings)
        found.append(read_record(one.folder))
    return found


UNFIT = {
    "int8": ({"quantization": "int8"}, "int8 looks for outliers in all rows of a batch at once"),
    "twice": (
        {"gradient_checkpointing": True, "lora_dropout": 0.1},
        "with gradient_checkpointing, lora_dropout would be drawn twice",
    ),
}


@pytest.mark.parametrize(("changes", "reason"), UNFIT.values(), ids=UNFIT.keys())
def test_what_cannot_share_a_batch_is_trained_alone_and_says_so(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    model = make_llama(tmp_path / "m", hidden_size=64, intermediate_size=128)
    base = replace(SPEC, quantization=changes.get("quantization", "none"))
    training = spec(**changes)
    with pytest.warns(TrainingWarning, match=rf"qlora.together=3: tiny is trained.* {reason}"):
        (record,) = train(tmp_path, model, [training], base)
    assert (record.together, record.apart) == (1, reason)
    # It is what it is without the setting, and has that one's name.
    single = replace(training, settings=replace(training.settings, together=1))
    assert adapter_key(base, PLAIN, training, []) == adapter_key(base, PLAIN, single, [])
    (expected,) = train(tmp_path / "single", model, [single], base)
    assert record.losses == expected.losses
    assert expected.apart == ""


BASES = {
    # Would be drawn for all rows at once.
    "gpt2-learned-positions": r"the base has dropout of its own \(drop\)",
    "mixtral-experts": r"a layer of it is adapted in a way of its own \(ParamWrapper\)",
}


@pytest.mark.parametrize(("name", "reason"), BASES.items(), ids=BASES.keys())
def test_a_base_that_cannot_trains_each_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    """And is asked once, not for each seed."""
    model = make(FAMILIES[name], tmp_path / "m")
    tries: list[int] = []
    together = cache.train_together

    def spied(*args: Any) -> Any:
        tries.append(1)
        return together(*args)

    monkeypatch.setattr(cache, "train_together", spied)
    with pytest.warns(TrainingWarning, match=f"for each seed and setting alone: {reason}"):
        records = train(tmp_path, model, [spec(seed=0), spec(seed=1)], SPEC)
    assert [record.together for record in records] == [1, 1]
    assert all(re.fullmatch(reason, record.apart) for record in records)
    assert tries == [1]
    (expected,) = train(tmp_path / "single", model, [spec(seed=1, together=1)], SPEC)
    assert records[1].losses == expected.losses


def test_layers_that_mix_adapters_up_are_found_before_the_first_step(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an architecture would that hands a layer its rows in another order."""
    update = grouped._Layer._update

    def mixed(layer: Any, batch: Any, x: Any) -> Any:
        return update(layer, batch, x).roll(batch.rows * batch.width, dims=1).flip(0)

    monkeypatch.setattr(grouped._Layer, "_update", mixed)
    said = r"in one batch with others, an adapter of it has another loss \(.* alone\)"
    with pytest.warns(TrainingWarning, match=said):
        records = train(tmp_path, tiny_model, [spec(seed=0), spec(seed=1)], SPEC)
    assert [record.together for record in records] == [1, 1]


FAMILIES_TOGETHER = ("phi3", "gemma2-soft-capping")


@pytest.mark.parametrize("name", FAMILIES_TOGETHER)
def test_families_are_trained_together(tmp_path: Path, name: str) -> None:
    model = make(FAMILIES[name], tmp_path / "m")
    trainings = [spec(seed=seed, max_steps=3) for seed in (0, 1)]
    records = train(tmp_path, model, trainings, SPEC)
    assert [record.together for record in records] == [2, 2]
    (expected,) = train(tmp_path / "alone", model, [spec(seed=1, max_steps=3, together=1)], SPEC)
    assert records[1].losses == pytest.approx(expected.losses, rel=1e-6)


# ------------------------------------------------------------------------------------- keys


def key(training: TrainingSpec, base: ModelSpec = SPEC) -> str:
    return adapter_key(base, PLAIN, training, [])


def test_a_batch_with_others_is_in_the_key_and_who_they_are_is_not() -> None:
    assert key(spec(together=1)) != key(spec(together=2)) == key(spec(together=9))
    int8 = replace(SPEC, quantization="int8")
    assert key(spec(together=1), int8) == key(spec(together=2), int8)
