"""Adapters trained in one batch against the same trained alone, by transformers' Trainer and PEFT."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from harness.core import Example, ModelSpec, Stage, TrainingSettings, TrainingSpec
from harness.errors import DivergenceError
from harness.models.loading import load, load_base
from harness.prompts.files import load_template
from harness.records import TrainingRecord
from harness.results.adapter_files import ADAPTER, is_complete, read_record
from harness.scoring.score import score
from harness.training.cache import train_once
from harness.training.gathering import Siblings, Wanted
from harness.training.grouped import Grouped, Share
from harness.training.train import encode_rows, with_adapter
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
        "r": 4,
        "lora_alpha": 8,
        "lora_dropout": 0.2,
        "learning_rate": 1e-2,
        "weight_decay": 0.1,
        "num_train_epochs": 2,
    }
    stages = changes.pop("stages", ())
    return TrainingSpec(rows, TrainingSettings(**{**given, **changes}), stages)


Alone = Callable[..., Path]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """Trains an adapter by itself, as long as it is not there, and returns its folder."""
    place, known = tmp_path_factory.mktemp("alone"), dict[Any, Path]()

    def trained(model: Path, training: TrainingSpec, base: ModelSpec = SPEC) -> Path:
        key = (model, training, base)
        if key not in known:
            folder = place / str(len(known))
            train_once(folder, base, model, PLAIN, training, quiet, TEST)
            known[key] = folder
        return known[key]

    return trained


def wanted(folder: Path, trainings: Sequence[TrainingSpec]) -> list[Wanted]:
    return [
        Wanted(folder / f"joint{n}", replace(one, settings=replace(one.settings, together=9)))
        for n, one in enumerate(trainings)
    ]


def together(
    place: Path,
    model: Path,
    trainings: Sequence[TrainingSpec],
    base: ModelSpec = SPEC,
    progress: Callable[[int, int, str], None] = quiet,
    siblings: Siblings | None = None,
) -> list[Path]:
    """All trained because the first is needed; their folders."""
    first, *others = wanted(place, trainings)
    siblings = siblings or Siblings()
    siblings.wanted = others
    train_once(first.folder, base, model, PLAIN, first.training, progress, TEST, siblings=siblings)
    return [first.folder, *(one.folder for one in others)]


def nlls(model: Path, adapter: Path, base: ModelSpec = SPEC) -> list[float]:
    loaded = load(base, model, adapter)
    rows = encode_rows(loaded.encoder, PLAIN, TEST)
    return [one.nll for one in score(loaded, rows, "reference", lambda done: None)[0]]


def same(found: Path, expected: Path) -> TrainingRecord:
    """The records of two training runs agree in all but last digits; that of the first."""
    one, other = read_record(found), read_record(expected)
    assert one.losses == pytest.approx(other.losses, rel=1e-5)
    ignored = ("adapter", "sha256", "losses", "evaluations", "seconds", "together", "settings")
    for name in TrainingRecord.__dataclass_fields__:
        if name not in ignored:
            assert getattr(one, name) == getattr(other, name), name
    return one


def test_seeds_and_rates_together_are_what_they_are_alone(
    tiny_model: Path, tmp_path: Path, alone: Alone
) -> None:
    """Three seeds, two learning rates, dropout, weight decay, clipped gradients."""
    trainings = [spec(seed=seed, learning_rate=rate) for seed in SEEDS for rate in RATES]
    ends = set()
    for folder, training in zip(together(tmp_path, tiny_model, trainings), trainings, strict=True):
        other = alone(tiny_model, training)
        record = same(folder, other)
        assert (record.together, read_record(other).together) == (6, 1)
        assert nlls(tiny_model, folder) == pytest.approx(nlls(tiny_model, other), rel=1e-6)
        ends.add(round(record.losses[-1], 4))
    assert len(ends) == 6  # what is compared differs from one to the next


def test_on_a_four_bit_base(tmp_path: Path, alone: Alone) -> None:
    model = make_llama(tmp_path / "m", hidden_size=64, intermediate_size=128)
    base = ModelSpec("tiny", "sha-tiny", quantization="nf4")
    trainings = [spec(seed=seed, quantization="nf4") for seed in (0, 1)]
    folders = together(tmp_path, model, trainings, base)
    for folder, training in zip(folders, trainings, strict=True):
        other = alone(model, training, base)
        same(folder, other)
        assert nlls(model, folder, base) == pytest.approx(nlls(model, other, base), rel=1e-5)


# Adapters that neither begin nor end together, and share nothing but their shapes.
OWN: list[dict[str, Any]] = [
    {"max_steps": 3, "lora_dropout": 0.0, "lora_alpha": 16},
    {"max_steps": 7, "warmup_steps": 2, "max_grad_norm": 0.0, "lr_scheduler_type": "linear"},
    {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 3, "max_steps": 5},
    {"lora_dropout": 1.0, "optim": "sgd", "num_train_epochs": 1},
    {
        "rows": ROWS[:5],
        "optim": "adafactor",
        "stages": (Stage(ROWS[:2], 2, 1e-3), Stage(ROWS[2:5])),
    },
]


def test_every_adapter_has_its_own_settings(tiny_model: Path, tmp_path: Path, alone: Alone) -> None:
    trainings = [spec(seed=seed, **changes) for seed, changes in enumerate(OWN)]
    for folder, training in zip(together(tmp_path, tiny_model, trainings), trainings, strict=True):
        same(folder, alone(tiny_model, training))


def test_less_memory_with_gradient_checkpointing(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    checkpoint = torch.utils.checkpoint.checkpoint

    def spied(*args: Any, **settings: Any) -> Any:
        calls.append(1)
        return checkpoint(*args, **settings)

    monkeypatch.setattr("transformers.modeling_utils.checkpoint", spied)
    plain = [spec(seed=seed, lora_dropout=0.0, max_steps=3) for seed in (0, 1)]
    saving = [spec(**asdict(one.settings) | {"gradient_checkpointing": True}) for one in plain]
    expected = together(tmp_path / "plain", tiny_model, plain)
    assert not calls
    for folder, other in zip(
        together(tmp_path / "saving", tiny_model, saving), expected, strict=True
    ):
        same(folder, other)
    assert calls


def test_each_is_evaluated_and_its_best_is_kept(
    tiny_model: Path, tmp_path: Path, alone: Alone
) -> None:
    trainings = [spec(seed=seed, eval_steps=0.25, learning_rate=5e-2) for seed in (0, 1)]
    for folder, training in zip(together(tmp_path, tiny_model, trainings), trainings, strict=True):
        other = alone(tiny_model, training)
        curve = same(folder, other).evaluations
        assert [point.step for point in curve] == [0, 2, 4, 6, 8]
        expected = [point.mean_perplexity for point in read_record(other).evaluations]
        assert [point.mean_perplexity for point in curve] == pytest.approx(expected, rel=1e-5)
        assert nlls(tiny_model, folder) == pytest.approx(nlls(tiny_model, other), rel=1e-5)


def test_peft_reads_what_was_trained_together(
    tiny_model: Path, tmp_path: Path, alone: Alone
) -> None:
    ids = torch.arange(5, 40)[None]
    trainings = [spec(seed=seed) for seed in (0, 1)]
    for folder, training in zip(together(tmp_path, tiny_model, trainings), trainings, strict=True):
        other, logits, configs, files = alone(tiny_model, training), [], [], []
        for place in (folder, other):
            base = AutoModelForCausalLM.from_pretrained(tiny_model)
            adapted = PeftModel.from_pretrained(base, str(place)).eval()
            with torch.no_grad():
                logits.append(adapted(input_ids=ids).logits)
                with adapted.disable_adapter():
                    plain = adapted(input_ids=ids).logits
            config = json.loads((place / "adapter_config.json").read_text())
            configs.append(config | {"target_modules": sorted(config["target_modules"])})
            files.append({path.name for path in place.iterdir()})
        assert (logits[0] - logits[1]).norm() < 1e-5 * logits[1].norm()
        assert (logits[0] - plain).norm() > 1e-2 * plain.norm()
        assert configs[0] == configs[1]
        assert files[0] == files[1]


# ------------------------------------------------------------------------------------- NaN

WILD = {"learning_rate": 1e30, "max_grad_norm": 0.0, "lr_scheduler_type": "constant"}


@pytest.mark.parametrize("place", [0, 1], ids=["the first", "another"])
def test_a_loss_that_is_not_finite_ends_one_and_no_other(
    tiny_model: Path, tmp_path: Path, alone: Alone, place: int
) -> None:
    calm, wild = [spec(seed=seed) for seed in (0, 1)], spec(seed=7, **WILD)
    with pytest.raises(DivergenceError, match="the loss is nan at step") as caught:
        alone(tiny_model, wild)
    trainings = [*calm[:place], wild, *calm[place:]]
    siblings = Siblings()
    if place == 0:
        with pytest.raises(DivergenceError) as raised:
            together(tmp_path, tiny_model, trainings, siblings=siblings)
        assert str(raised.value) == str(caught.value)
    else:
        together(tmp_path, tiny_model, trainings, siblings=siblings)
    folders = [one.folder for one in wanted(tmp_path, trainings)]
    failed = folders.pop(place)
    assert {path: str(error) for path, error in siblings.failed.items()} == {
        failed: str(caught.value)
    }
    for folder, training in zip(folders, calm, strict=True):
        same(folder, alone(tiny_model, training))
    assert [path.name for path in tmp_path.glob(f"{failed.name}*")] == [f"{failed.name}.lock"]
    # Who asks for it later hears the same, and nothing is trained again.
    with pytest.raises(DivergenceError, match="the loss is nan"):
        train_once(failed, SPEC, tmp_path / "gone", PLAIN, wild, quiet, siblings=siblings)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_gradients_are_pefts_and_a_nan_stays_where_it_is(tmp_path: Path, quantization: Any) -> None:
    """Of three adapters in one batch, with dropout, each against PEFT's own forward alone."""
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
        together(tmp_path / "a", tiny_model, trainings, progress=killed)
    first, second, third = wanted(tmp_path / "a", trainings)
    assert is_complete(first.folder)  # it had made its steps
    assert not second.folder.exists()
    # The others are resumed, whichever of them is asked for.
    seen: list[int] = []
    train_once(
        *(third.folder, SPEC, tiny_model, PLAIN, third.training),
        *(lambda done, *_: seen.append(done), TEST),
        siblings=Siblings([first, second]),
    )
    assert seen == [5, 6, 7, 8, 9, 10]  # checkpoints come after shares of 0.2
    for folder, one in zip(whole, (first, second, third), strict=True):
        before, after = read_record(folder), read_record(one.folder)
        assert after.losses == before.losses
        assert after.evaluations == before.evaluations
        assert (one.folder / ADAPTER).read_bytes() == (folder / ADAPTER).read_bytes()
        assert after.resumed_from == (None if one is first else 4)
        assert after.together == (3 if one is first else 2)
    assert not list((tmp_path / "a").glob("*.work"))
