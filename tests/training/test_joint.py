"""Adapters trained in one batch against the same trained alone, by transformers' Trainer and PEFT."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.conformance.tiny_models import FAMILIES, make
from harness.core import Example, ModelSpec, Stage, TrainingSettings, TrainingSpec
from harness.errors import DivergenceError
from harness.models.loading import load
from harness.prompts.files import load_template
from harness.records import TrainingRecord
from harness.results.adapter_files import ADAPTER, is_complete, read_record
from harness.scoring.score import score
from harness.training import cache, joint
from harness.training.cache import adapter_key, train_once
from harness.training.gathering import Siblings, Wanted
from harness.training.grouped import UngroupableError
from harness.training.train import TrainingWarning, encode_rows
from tests.builders.models import make_llama
from tests.builders.tasks import row

# Of 5 to 60 characters, so that adapters whose steps differ pad each other's rows.
ROWS = tuple(Example(**row(i, 5 + (i * 7) % 56, "train")) for i in range(14))
TEST = tuple(Example(**row(i, 6 + i % 3, "test")) for i in range(4))
SPEC = ModelSpec("tiny", "sha-tiny")
PLAIN = load_template("plain")
SEEDS, RATES = (0, 1, 2), (1e-2, 2e-3)


def quiet(*args: object) -> None:
    """Show nothing."""


def spec(rows: tuple[Example, ...] = ROWS, **changes: Any) -> TrainingSpec:
    given: dict[str, Any] = {
        **{"r": 4, "lora_alpha": 8, "learning_rate": 1e-2, "lora_dropout": 0.2},
        **{"weight_decay": 0.1, "num_train_epochs": 2},
    }
    stages = changes.pop("stages", ())
    return TrainingSpec(rows, TrainingSettings(**{**given, **changes}), stages)


def alone(
    folder: Path, model: Path, trainings: Sequence[TrainingSpec], base: ModelSpec = SPEC
) -> list[TrainingRecord]:
    """Each trained by itself, into folders of its own."""
    found = []
    for number, training in enumerate(trainings):
        settings = replace(training.settings, together=1)
        one = replace(training, settings=settings)
        train_once(folder / f"alone{number}", base, model, PLAIN, one, quiet, TEST)
        found.append(read_record(folder / f"alone{number}"))
    return found


def wanted(folder: Path, trainings: Sequence[TrainingSpec]) -> list[Wanted]:
    return [
        Wanted(folder / f"joint{n}", replace(one, settings=replace(one.settings, together=9)))
        for n, one in enumerate(trainings)
    ]


def together(
    folder: Path,
    model: Path,
    trainings: Sequence[TrainingSpec],
    base: ModelSpec = SPEC,
    progress: Callable[[int, int, str], None] = quiet,
    siblings: Siblings | None = None,
) -> list[TrainingRecord]:
    """All trained because the first is needed."""
    first, *others = wanted(folder, trainings)
    siblings = siblings or Siblings()
    siblings.wanted = others
    train_once(
        first.folder, base, model, PLAIN, first.training, progress, TEST, siblings=siblings
    )
    return [read_record(one.folder) for one in (first, *others)]


def nlls(model: Path, adapter: Path, base: ModelSpec = SPEC) -> list[float]:
    loaded = load(base, model, adapter)
    rows = encode_rows(loaded.encoder, PLAIN, TEST)
    return [one.nll for one in score(loaded, rows, "reference", lambda done: None)[0]]


def same(found: TrainingRecord, expected: TrainingRecord) -> None:
    assert found.losses == pytest.approx(expected.losses, rel=1e-6)
    ignored = ("adapter", "sha256", "losses", "evaluations", "seconds", "together", "settings")
    for name in TrainingRecord.__dataclass_fields__:
        if name not in ignored:
            assert getattr(found, name) == getattr(expected, name), name


def test_seeds_and_rates_together_are_what_they_are_alone(tiny_model: Path, tmp_path: Path) -> None:
    """Three seeds, two learning rates, dropout, weight decay, clipped gradients."""
    trainings = [spec(seed=seed, learning_rate=rate) for seed in SEEDS for rate in RATES]
    expected = alone(tmp_path, tiny_model, trainings)
    found = together(tmp_path, tiny_model, trainings)
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        same(one, other)
        assert (one.together, other.together) == (6, 1)
        ours, theirs = (
            nlls(tiny_model, tmp_path / f"{how}{number}") for how in ("joint", "alone")
        )
        assert ours == pytest.approx(theirs, rel=1e-6)
    spread = {round(record.losses[-1], 4) for record in expected}
    assert len(spread) == 6  # what is compared differs from one to the next


@pytest.mark.parametrize("quantization", ["nf4", "fp4"])
def test_on_a_four_bit_base(tmp_path: Path, quantization: Any) -> None:
    model = make_llama(tmp_path / "m", hidden_size=64, intermediate_size=128)
    base = ModelSpec("tiny", "sha-tiny", quantization=quantization)
    trainings = [spec(seed=seed, quantization=quantization) for seed in (0, 1)]
    expected = alone(tmp_path, model, trainings, base)
    for number, (one, other) in enumerate(
        zip(together(tmp_path, model, trainings, base), expected, strict=True)
    ):
        same(one, other)
        ours, theirs = (
            nlls(model, tmp_path / f"{how}{number}", base) for how in ("joint", "alone")
        )
        assert ours == pytest.approx(theirs, rel=1e-6)


# Adapters that neither begin nor end together, and share nothing but their shapes.
OWN = [
    {"max_steps": 3, "lora_dropout": 0.0, "lora_alpha": 16},
    {"max_steps": 7, "warmup_steps": 2, "max_grad_norm": 0.0, "lr_scheduler_type": "linear"},
    {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 3, "max_steps": 5},
    {"lora_dropout": 1.0, "optim": "sgd", "num_train_epochs": 1},
    {"rows": ROWS[:5], "optim": "adafactor", "stages": (Stage(ROWS[:2], 2, 1e-3), Stage(ROWS[2:5]))},
]


def test_every_adapter_has_its_own_settings(tiny_model: Path, tmp_path: Path) -> None:
    trainings = [spec(seed=seed, **changes) for seed, changes in enumerate(OWN)]
    expected = alone(tmp_path, tiny_model, trainings)
    for one, other in zip(together(tmp_path, tiny_model, trainings), expected, strict=True):
        same(one, other)


def test_less_memory_with_gradient_checkpointing(tiny_model: Path, tmp_path: Path) -> None:
    trainings = [
        spec(seed=seed, gradient_checkpointing=True, lora_dropout=0.0, max_steps=3)
        for seed in (0, 1)
    ]
    expected = alone(tmp_path, tiny_model, trainings)
    for one, other in zip(together(tmp_path, tiny_model, trainings), expected, strict=True):
        same(one, other)


def test_each_is_evaluated_and_its_best_is_kept(tiny_model: Path, tmp_path: Path) -> None:
    trainings = [spec(seed=seed, eval_steps=0.25, learning_rate=5e-2) for seed in (0, 1)]
    expected = alone(tmp_path, tiny_model, trainings)
    found = together(tmp_path, tiny_model, trainings)
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        same(one, other)
        assert [point.step for point in one.evaluations] == [0, 2, 4, 6, 8]
        curves = ([point.mean_perplexity for point in record.evaluations] for record in (one, other))
        assert next(curves) == pytest.approx(next(curves), rel=1e-5)
        scored = nlls(tiny_model, tmp_path / f"joint{number}")
        assert scored == pytest.approx(nlls(tiny_model, tmp_path / f"alone{number}"), rel=1e-5)


def test_peft_reads_what_was_trained_together(tiny_model: Path, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    trainings = [spec(seed=seed) for seed in (0, 1)]
    alone(tmp_path, tiny_model, trainings)
    together(tmp_path, tiny_model, trainings)
    ids = torch.arange(5, 40)[None]
    for number in (0, 1):
        logits, configs, files = [], [], []
        for how in ("joint", "alone"):
            folder = tmp_path / f"{how}{number}"
            base = AutoModelForCausalLM.from_pretrained(tiny_model)
            adapted = PeftModel.from_pretrained(base, str(folder)).eval()
            with torch.no_grad():
                logits.append(adapted(input_ids=ids).logits)
            config = json.loads((folder / "adapter_config.json").read_text())
            configs.append(config | {"target_modules": sorted(config["target_modules"])})
            files.append({path.name for path in folder.iterdir()})
        assert (logits[0] - logits[1]).norm() < 1e-5 * logits[1].norm()
        with torch.no_grad():
            assert not logits[0].equal(base(input_ids=ids).logits)
        assert configs[0] == configs[1]
        assert files[0] == files[1]


# ------------------------------------------------------------------------------------- NaN

WILD = {"learning_rate": 1e30, "max_grad_norm": 0.0, "lr_scheduler_type": "constant"}


@pytest.mark.parametrize("place", [0, 1])
def test_a_loss_that_is_not_finite_ends_one_and_no_other(
    tiny_model: Path, tmp_path: Path, place: int
) -> None:
    trainings = [spec(seed=seed) for seed in (0, 1)]
    expected = alone(tmp_path, tiny_model, trainings)
    wild = spec(seed=7, **WILD)
    with pytest.raises(DivergenceError) as caught:
        alone(tmp_path / "wild", tiny_model, [wild])
    trainings.insert(place, wild)
    siblings, folders = Siblings(), [one.folder for one in wanted(tmp_path, trainings)]
    if place == 0:  # the one that was asked for
        with pytest.raises(DivergenceError) as raised:
            together(tmp_path, tiny_model, trainings, siblings=siblings)
        assert str(raised.value) == str(caught.value)
    else:
        with pytest.raises(FileNotFoundError):  # of the one that has no record
            together(tmp_path, tiny_model, trainings, siblings=siblings)
    assert {path: str(error) for path, error in siblings.failed.items()} == {
        folders[place]: str(caught.value)
    }
    whole = [path for number, path in enumerate(folders) if number != place]
    for path, other in zip(whole, expected, strict=True):
        assert read_record(path).losses == pytest.approx(other.losses, rel=1e-6)
    assert not list(tmp_path.glob(f"joint{place}*/*"))  # nothing of it but its lock
    # Who asks for it later hears the same, and nothing is trained again.
    siblings.wanted = ()
    with pytest.raises(DivergenceError, match="the loss is nan"):
        train_once(
            *(folders[place], SPEC, tmp_path / "no-model", PLAIN, trainings[place], quiet),
            siblings=siblings,
        )


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_gradients_are_pefts_and_a_nan_stays_where_it_is(tmp_path: Path, quantization: Any) -> None:
    """Of three adapters in one batch, with dropout, each against PEFT's own forward alone."""
    import torch

    from harness.models.loading import load_base
    from harness.training.grouped import Grouped, Share
    from harness.training.train import with_adapter

    folder = make_llama(tmp_path / "m", hidden_size=64, intermediate_size=128)
    base = ModelSpec("tiny", "sha", quantization=quantization)
    names = ["adapter0000", "adapter0001", "adapter0002"]
    model: Any = load_base(base, folder)
    for seed, name in enumerate(names):
        model = with_adapter(model, TrainingSettings(r=4, lora_dropout=0.3, seed=seed), name)
    first = {name: value.clone() for name, value in model.named_parameters() if "lora_" in name}
    grouped = Grouped(model, names)
    for seed, name in enumerate(names):  # they begin as each begins alone
        fresh = with_adapter(load_base(base, folder), TrainingSettings(r=4, seed=seed))
        for key, value in fresh.named_parameters():
            if "lora_" in key:
                assert value.equal(first[key.replace("default", name)])
    with torch.no_grad():
        for layer in grouped.layers:
            layer.b.normal_(std=0.1)  # or the gradients of A are zero
    ids = torch.randint(5, 200, (6, 20))

    def gradients(shares: list[Share]) -> list[torch.Tensor]:
        grouped.clear()
        with grouped.batch(shares, 2, 20):
            logits = model(input_ids=ids[: 2 * len(shares)], use_cache=False).logits
        losses = logits.square().view(len(shares), -1).mean(dim=1)
        torch.where(losses.isfinite(), losses, 0.0).sum().backward()
        for share in shares:
            grouped.hand_out(share.place)
        return [
            torch.cat([matrix.grad.flatten() for matrix in grouped.parameters(share.place)])
            for share in shares
        ]

    def shares() -> list[Share]:
        return [Share(i, 2, 20, 0.3, torch.Generator().manual_seed(i)) for i in range(3)]

    model.train()
    found = gradients(shares())
    for place, name in enumerate(names):
        model.set_adapter(name)
        own = [value for key, value in model.named_parameters() if name in key]
        for value in own:
            value.grad = None
        torch.manual_seed(place)
        logits = model(input_ids=ids[2 * place : 2 * place + 2], use_cache=False).logits
        logits.square().mean().backward()
        expected = torch.cat([value.grad.flatten() for value in own])
        assert expected.norm() > 0
        assert (found[place] - expected).norm() <= 1e-6 * expected.norm()
    with torch.no_grad():
        grouped.layers[0].a[1] = math.nan
    spoilt = gradients(shares())
    assert spoilt[0].equal(found[0])
    assert spoilt[2].equal(found[2])
    assert not spoilt[1].isfinite().all()


# --------------------------------------------------------------------------------- resuming


class Killed(BaseException):
    """Stands for a process that ends in the middle."""


def test_a_group_that_is_killed_is_resumed_and_ends_the_same(
    tiny_model: Path, tmp_path: Path
) -> None:
    trainings = [
        spec(seed=0, max_steps=3),
        spec(seed=1, max_steps=10, eval_steps=3),
        spec(seed=2, max_steps=10, learning_rate=2e-3),
    ]
    whole = together(tmp_path / "whole", tiny_model, trainings)

    def killed(done: int, total: int, note: str) -> None:
        if done == 5:
            raise Killed

    with pytest.raises(Killed):
        together(tmp_path / "killed", tiny_model, trainings, progress=killed)
    folders = [one.folder for one in wanted(tmp_path / "killed", trainings)]
    assert [is_complete(folder) for folder in folders] == [True, False, False]
    seen: list[int] = []
    again = together(
        tmp_path / "killed",
        tiny_model,
        trainings[1:] + trainings[:1],  # the second is asked for first
        progress=lambda done, *rest: seen.append(done),
    ) if False else None
    first, *others = wanted(tmp_path / "killed", trainings)[1:] + wanted(tmp_path / "killed", trainings)[:1]
    train_once(
        *(first.folder, SPEC, tiny_model, PLAIN, first.training, lambda done, *_: seen.append(done), TEST),
        siblings=Siblings(others),
    )
    assert seen == [5, 6, 7, 8, 9, 10]  # checkpoints after shares of 0.2
    for folder, record in zip(folders, whole, strict=True):
        found = read_record(folder)
        assert found.losses == record.losses
        assert found.evaluations == record.evaluations
        assert (folder / ADAPTER).read_bytes() == (tmp_path / "whole" / folder.name / ADAPTER).read_bytes()
    assert [read_record(folder).resumed_from for folder in folders] == [None, 4, 4]
    assert not list((tmp_path / "killed").glob("*.work"))
