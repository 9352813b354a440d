"""A training run in progress: evaluated, stopped, resumed, and its best checkpoint chosen."""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.conformance.tiny_models import FAMILIES, make
from harness.core import Example, ModelSpec, Stage, TrainingSettings, TrainingSpec
from harness.errors import DivergenceError, OptionError, StoreError, TrainingError
from harness.models.loading import load
from harness.prompts.files import load_template
from harness.records import TrainingRecord
from harness.results.adapter_files import RECORD, read_record
from harness.scoring.score import score
from harness.training import checkpoints, collation, lanes
from harness.training import trainer as trainer_module
from harness.training.cache import adapter_key, train_once
from harness.training.train import TrainingWarning, encode_rows
from tests.builders import cells
from tests.builders.models import make_llama
from tests.builders.tasks import row

ROWS = tuple(Example(**row(i, 5 + i % 5, "train")) for i in range(16))
TEST = tuple(Example(**row(i, 6 + i % 3, "test")) for i in range(6))
SPEC = ModelSpec("tiny", "sha-tiny")
PLAIN = load_template("plain")
WEIGHTS = "adapter_model.safetensors"


def quiet(*args: object) -> None:
    """Show nothing."""


def spec(
    holdout: tuple[Example, ...] = (), stages: tuple[Stage, ...] = (), **changes: Any
) -> TrainingSpec:
    given: dict[str, Any] = {"r": 4, "lora_alpha": 8, "learning_rate": 1e-2, "eval_steps": 0.25}
    return TrainingSpec(ROWS, TrainingSettings(**{**given, **changes}), stages, holdout)


def train(
    folder: Path,
    model: Path,
    training: TrainingSpec,
    progress: Callable[[int, int, str], None] = quiet,
    base: ModelSpec = SPEC,
) -> TrainingRecord:
    train_once(folder, base, model, PLAIN, training, progress, TEST)
    return read_record(folder)


def perplexity(model: Path, adapter: Path | None, rows: tuple[Example, ...] = TEST) -> float:
    loaded = load(SPEC, model, adapter)
    encoded = encode_rows(loaded.encoder, PLAIN, rows)
    return cells.perplexity(score(loaded, encoded, "reference", lambda done: None)[0])


def test_the_learning_curve_ends_at_what_is_scored(tiny_model: Path, tmp_path: Path) -> None:
    record = train(tmp_path / "a", tiny_model, spec(num_train_epochs=3))
    curve = record.evaluations
    assert [point.step for point in curve] == [0, 3, 6, 9, 12]
    assert len(record.losses) == 12
    assert curve[0].mean_perplexity == pytest.approx(perplexity(tiny_model, None), rel=1e-5)
    best = min(curve, key=lambda point: point.mean_perplexity)
    assert record.best_step == best.step > 0
    assert record.select_on == "test"
    # Loaded again, the adapter gives what the curve says.
    scored = perplexity(tiny_model, tmp_path / "a")
    assert scored == pytest.approx(best.mean_perplexity, rel=1e-5)
    assert all(math.isfinite(point.loss) for point in curve)


def test_evaluating_changes_nothing(tiny_model: Path, tmp_path: Path) -> None:
    watched = train(tmp_path / "a", tiny_model, spec(lora_dropout=0.3, num_train_epochs=2))
    blind = train(
        tmp_path / "b", tiny_model, spec(lora_dropout=0.3, num_train_epochs=2, eval_steps=None)
    )
    assert watched.losses == blind.losses
    assert blind.evaluations == ()
    assert blind.best_step is None


def test_the_best_checkpoint_is_kept_not_the_last(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With perplexities made up so that the second of five evaluations is the best."""
    made_up = iter([30.0, 10.0, 20.0, 15.0, 11.0])
    steps: list[bytes] = []

    def evaluate(state: Any, loaded: Any) -> dict[str, float]:
        state.model.save_pretrained(str(tmp_path / "now"), save_embedding_layers=False)
        steps.append((tmp_path / "now" / WEIGHTS).read_bytes())
        return {"loss": 1.0, "mean_perplexity": next(made_up)}

    monkeypatch.setattr(trainer_module, "evaluate", evaluate)
    record = train(tmp_path / "a", tiny_model, spec())
    assert record.best_step == 1
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == steps[1] != steps[4]


def test_the_holdout_chooses_where_there_is_one(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = iter([(30.0, 5.0), (10.0, 4.0), (20.0, 3.0), (15.0, 9.0), (11.0, 9.0)])

    def evaluate(state: Any, loaded: Any) -> dict[str, float]:
        test, held = next(points)
        return {"loss": 1.0, "mean_perplexity": test, "holdout_perplexity": held}

    monkeypatch.setattr(trainer_module, "evaluate", evaluate)
    record = train(tmp_path / "a", tiny_model, spec(holdout=ROWS[:2]))
    assert record.best_step == 2
    assert record.select_on == "holdout"
    assert record.holdout_ids == ("train-000", "train-001")


def test_the_holdout_is_scored_too(tiny_model: Path, tmp_path: Path) -> None:
    record = train(tmp_path / "a", tiny_model, spec(holdout=ROWS[:3]))
    before = record.evaluations[0]
    assert before.holdout_perplexity == pytest.approx(
        perplexity(tiny_model, None, ROWS[:3]), rel=1e-5
    )
    assert before.holdout_loss != before.loss


def test_a_base_that_training_only_hurts_stays_as_it_is(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up = iter([10.0, 11.0, 12.0, math.nan, 13.0])
    monkeypatch.setattr(
        trainer_module, "evaluate", lambda *_: {"loss": 1.0, "mean_perplexity": next(made_up)}
    )
    assert train(tmp_path / "a", tiny_model, spec()).best_step == 0
    assert perplexity(tiny_model, tmp_path / "a") == perplexity(tiny_model, None)


class Killed(BaseException):
    """Stands for a process that ends in the middle."""


def killed_after(step: int) -> Callable[[int, int, str], None]:
    def progress(done: int, total: int, note: str) -> None:
        if done == step and note.startswith("steps"):
            raise Killed

    return progress


@pytest.mark.parametrize("eval_steps", [None, 0.25], ids=["blind", "watched"])
def test_a_killed_training_run_is_resumed_and_ends_the_same(
    tiny_model: Path, tmp_path: Path, eval_steps: float | None
) -> None:
    training = spec(
        eval_steps=eval_steps,
        lora_dropout=0.2,
        num_train_epochs=3,
        gradient_accumulation_steps=2,
        per_device_train_batch_size=2,
        weight_decay=0.1,
    )
    whole = train(tmp_path / "whole", tiny_model, training)
    with pytest.raises(Killed):
        train(tmp_path / "a", tiny_model, training, killed_after(8))
    assert not (tmp_path / "a").exists()
    (kept,) = (tmp_path / "a.work").glob("checkpoint-*")
    assert checkpoints.step_of(kept) == 7  # shares of 0.2 of 12 steps: 2, 5, 7, 10
    seen: list[int] = []
    again = train(tmp_path / "a", tiny_model, training, lambda done, *rest: seen.append(done))
    assert seen == [8, 9, 10, 11, 12]
    assert again.losses == pytest.approx(whole.losses, rel=1e-6)
    assert again.evaluations == whole.evaluations
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()
    assert sorted(path.name for path in tmp_path.glob("a*")) == ["a", "a.lock"]


def test_a_checkpoint_that_was_not_finished_does_not_count(
    tiny_model: Path, tmp_path: Path
) -> None:
    training = spec(num_train_epochs=3, save_total_limit=3)
    whole = train(tmp_path / "whole", tiny_model, training)
    with pytest.raises(Killed):
        train(tmp_path / "a", tiny_model, training, killed_after(11))
    ten, seven = (tmp_path / "a.work" / f"checkpoint-{step}" for step in (10, 7))
    (ten / checkpoints.MARK).unlink()  # killed while it was written
    seven_weights = seven / WEIGHTS
    seven_weights.write_bytes(seven_weights.read_bytes()[:-9])  # damaged since
    seen: list[int] = []
    train(tmp_path / "a", tiny_model, training, lambda done, *rest: seen.append(done))
    assert seen[0] == 6  # after checkpoint 5
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()
    assert whole.steps == 12


def test_old_checkpoints_go(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(
            tmp_path / "a",
            tiny_model,
            spec(num_train_epochs=3, save_steps=2, save_total_limit=2),
            killed_after(9),
        )
    names = sorted(path.name for path in (tmp_path / "a.work").glob("checkpoint-*"))
    assert names == ["checkpoint-6", "checkpoint-8"]


# What came of a full tmpfs: from safetensors, from torch.save, and from the system.
FULL = [
    "SafetensorError: Error while serializing: I/O error: No space left on device (os error 28)",
    "RuntimeError: [enforce fail at inline_container.cc:672] . unexpected pos 60480 vs 60368",
    "RuntimeError: basic_ios::clear: iostream error",
    "OSError: No space left on device",
]


@pytest.mark.parametrize("text", FULL)
def test_a_full_disk_loses_no_finished_checkpoint(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    from peft import PeftModel
    from safetensors import SafetensorError

    kind, _, words = text.partition(": ")
    kinds = {"SafetensorError": SafetensorError, "RuntimeError": RuntimeError}
    error = kinds[kind](words) if kind in kinds else OSError(errno.ENOSPC, words)
    training = spec(num_train_epochs=3, eval_steps=None)
    whole = train(tmp_path / "whole", tiny_model, training)
    save = PeftModel.save_pretrained

    def full(model: Any, folder: str, **settings: Any) -> None:
        if Path(folder).name == "checkpoint-7":
            Path(folder).mkdir(parents=True)
            (Path(folder) / WEIGHTS).write_bytes(b"half")
            raise error
        save(model, folder, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(PeftModel, "save_pretrained", full)
        with pytest.raises(StoreError) as caught:
            train(tmp_path / "a", tiny_model, training)
    said = str(caught.value)
    assert "cannot be written (is the disk full?): " in said
    assert "; what it had after step 5 is kept. Make room" in said
    assert "\n" not in said
    assert [path.name for path in (tmp_path / "a.work").iterdir()] == ["checkpoint-5"]
    train(tmp_path / "a", tiny_model, training)
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()
    assert whole.steps == 12


def test_divergence_names_step_rate_and_rows(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(DivergenceError) as caught:
        train(
            tmp_path / "a",
            tiny_model,
            spec(
                learning_rate=1e30,
                max_grad_norm=0.0,
                eval_steps=None,
                save_steps=1,
                per_device_train_batch_size=2,
                lr_scheduler_type="constant",
            ),
        )
    said = str(caught.value)
    assert " of 8 (learning rate 1e+30, rows 'train-" in said
    # Exactly the rows of that step are named.
    named = [part for part in said.split("'") if part.startswith("train-")]
    assert len(named) == 2
    assert "\n" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["a.lock"]  # it would end the same again


def test_out_of_memory_names_what_would_help(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")

    monkeypatch.setattr(lanes, "mean_loss", full)
    with pytest.raises(TrainingError) as caught:
        train(tmp_path / "a", tiny_model, spec(max_length=64))
    for name in (
        "per_device_train_batch_size (4",
        "gradient_checkpointing=true",
        "max_length (64)",
    ):
        assert f"qlora.{name}" in str(caught.value)


def test_rows_that_are_too_long_are_left_out_and_named(tiny_model: Path, tmp_path: Path) -> None:
    loaded = load(SPEC, tiny_model, None)
    lengths = {r.prompt.id: len(r) for r in encode_rows(loaded.encoder, PLAIN, ROWS)}
    limit = sorted(lengths.values())[10]
    long = [name for name, length in lengths.items() if length > limit]
    with pytest.warns(TrainingWarning, match=f"{len(long)} of 16 training rows have more than"):
        record = train(tmp_path / "a", tiny_model, spec(max_length=limit, eval_steps=None))
    assert list(record.left_out) == long
    assert record.rows == 16 - len(long)
    assert not set(record.ids) & set(long)
    with pytest.raises(OptionError, match=r"qlora\.max_length=3: all 16 training rows are longer"):
        train(tmp_path / "b", tiny_model, spec(max_length=3))


def test_rows_too_long_for_the_model_are_left_out_where_there_is_a_limit(tmp_path: Path) -> None:
    model = make_llama(tmp_path / "m", max_position_embeddings=64)
    with pytest.warns(TrainingWarning, match="9 of 16 training rows have more than"):
        record = train(tmp_path / "a", model, spec(max_length=512, eval_steps=None))
    assert record.rows == 7


def test_stages_train_on_their_rows_at_their_rates(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, set[str]]] = []
    classes = trainer_module._classes

    def spied() -> tuple[Any, Any]:
        trainer_class, callback_class = classes()

        class Spy(trainer_class):  # type: ignore[misc]
            def training_step(self, model: Any, inputs: Any, count: Any = None) -> Any:
                seen.append((self._get_learning_rate(), set(inputs["row_ids"])))
                return super().training_step(model, inputs, count)

        return Spy, callback_class

    monkeypatch.setattr(trainer_module, "_classes", spied)
    stages = (Stage(ROWS[:8], 2, 1e-2), Stage(ROWS[8:], learning_rate=1e-3))
    record = train(
        tmp_path / "a",
        tiny_model,
        spec(stages=stages, lr_scheduler_type="constant", eval_steps=None),
    )
    assert [rate for rate, _ in seen] == [1e-2] * 4 + [1e-3] * 2
    first, second = ({r.id for r in ROWS[:8]}, {r.id for r in ROWS[8:]})
    assert [ids <= first for _, ids in seen] == [True] * 4 + [False] * 2
    assert seen[0][1] | seen[1][1] == first
    assert seen[4][1] | seen[5][1] == second
    assert [stage.steps for stage in record.stages] == [4, 2]
    assert [set(stage.ids) for stage in record.stages] == [first, second]


def test_a_paged_optimizer_falls_back_to_a_plain_one_on_the_cpu(
    tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.warns(
        TrainingWarning,
        match="paged_adamw_32bit needs CUDA; on the CPU it falls back to adamw_torch",
    ):
        paged = train(tmp_path / "a", tiny_model, spec(optim="paged_adamw_32bit"))
    plain = train(tmp_path / "b", tiny_model, spec())
    assert paged.optimizer == plain.optimizer == "adamw_torch"
    assert paged.losses == plain.losses


def test_gradient_checkpointing_changes_nothing_but_memory(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch.utils.checkpoint

    calls: list[int] = []
    plain = train(tmp_path / "a", tiny_model, spec())
    checkpoint = torch.utils.checkpoint.checkpoint

    def spied(*args: Any, **settings: Any) -> Any:
        calls.append(1)
        return checkpoint(*args, **settings)

    monkeypatch.setattr(torch.utils.checkpoint, "checkpoint", spied)
    monkeypatch.setattr("transformers.modeling_utils.checkpoint", spied)
    saving = train(tmp_path / "b", tiny_model, spec(gradient_checkpointing=True))
    assert calls
    assert saving.losses == pytest.approx(plain.losses, rel=1e-5)


def test_accumulated_batches_are_one_step(tiny_model: Path, tmp_path: Path) -> None:
    """Four rows at once or in four batches: the mean over the same answer tokens."""
    plain = train(tmp_path / "a", tiny_model, spec(eval_steps=None))
    parts = spec(eval_steps=None, per_device_train_batch_size=1, gradient_accumulation_steps=4)
    assert train(tmp_path / "b", tiny_model, parts).losses == pytest.approx(plain.losses, rel=1e-5)


def test_how_rows_are_put_into_batches_changes_nothing_else(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = train(tmp_path / "a", tiny_model, spec(eval_steps=None))
    sizes: list[tuple[int, ...]] = []
    loss = lanes.mean_loss

    def spied(model: Any, ids: Any, *rest: Any) -> Any:
        sizes.append(tuple(ids.shape))
        return loss(model, ids, *rest)

    monkeypatch.setattr(collation, "CPU_TOKENS", 1)
    monkeypatch.setattr(lanes, "mean_loss", spied)
    cut = train(tmp_path / "b", tiny_model, spec(eval_steps=None))
    assert cut.losses == pytest.approx(plain.losses, rel=1e-5)
    assert [rows for rows, _ in sizes] == [1] * 16
    assert cut.trained_rows == 16


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_evaluating_a_quantized_base_does_not_change_it(tmp_path: Path, quantization: Any) -> None:
    """A forward in eval mode repacks 4-bit weights on some CPUs; training on would go wrong."""
    model = make_llama(tmp_path / "m", hidden_size=64, intermediate_size=128)
    base = ModelSpec("tiny", "sha-tiny", quantization=quantization)
    watched = train(tmp_path / "a", model, spec(quantization=quantization), base=base)
    blind = train(
        tmp_path / "b", model, spec(quantization=quantization, eval_steps=None), base=base
    )
    assert watched.losses == blind.losses
    loaded = load(base, model, tmp_path / "a")
    rows = encode_rows(loaded.encoder, PLAIN, TEST)
    scored = cells.perplexity(score(loaded, rows, "fast", lambda done: None)[0])
    best = min(point.mean_perplexity for point in watched.evaluations)
    assert scored == pytest.approx(best, rel=1e-5)


# Qwen3; Qwen2.5; LLaMA-2 and Taiwan-LLM; Llama 3 and 3.1; Gemma 2: the recipes' architectures.
ARCHITECTURES = ("qwen3", "qwen2", "llama", "llama-grouped-query", "gemma2-soft-capping")


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_recipes_architectures_train_and_are_scored_as_trained(
    tmp_path: Path, name: str, quantization: Any
) -> None:
    family = FAMILIES[name]
    wide = {**family.settings, "hidden_size": 64, "intermediate_size": 128}
    model = make(replace(family, settings=wide), tmp_path / "m")
    base = ModelSpec(name, "sha", quantization=quantization)
    training = spec(
        quantization=quantization,
        num_train_epochs=3,
        gradient_accumulation_steps=2,
        per_device_train_batch_size=2,
        lora_dropout=0.05,
        optim="adamw_torch",
    )
    curve = train(tmp_path / "a", model, training, base=base).evaluations
    best = min(point.mean_perplexity for point in curve)
    assert best < 0.9 * curve[0].mean_perplexity
    loaded = load(base, model, tmp_path / "a")
    rows = encode_rows(loaded.encoder, PLAIN, TEST)
    for scorer in ("fast", "reference"):
        scored = cells.perplexity(score(loaded, rows, scorer, lambda done: None)[0])
        assert scored == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
def test_a_merged_adapter_is_another_number_where_weights_are_rounded(
    tmp_path: Path, quantization: Any
) -> None:
    model = make_llama(tmp_path / "m", hidden_size=64, intermediate_size=128)
    base = ModelSpec("tiny", "sha-tiny", quantization=quantization)
    train(tmp_path / "a", model, spec(num_train_epochs=4, eval_steps=None), base=base)
    nlls = []
    for how in ("trained", "merged"):
        scored_as = ModelSpec("tiny", "sha-tiny", quantization=quantization, score_as=how)
        loaded = load(scored_as, model, tmp_path / "a")
        rows = encode_rows(loaded.encoder, PLAIN, TEST)
        nlls.append([one.nll for one in score(loaded, rows, "fast", lambda done: None)[0]])
    if quantization == "none":
        assert nlls[1] == pytest.approx(nlls[0], rel=1e-5)
    else:
        assert nlls[1] != pytest.approx(nlls[0], rel=1e-5)
        assert nlls[1] == pytest.approx(nlls[0], rel=0.2)


def key(training: TrainingSpec, test: tuple[Example, ...] = TEST) -> str:
    return adapter_key(SPEC, PLAIN, training, [], test)


def test_what_the_key_of_an_evaluated_training_run_is_made_of() -> None:
    assert key(spec()) != key(spec(), TEST[:5])  # the checkpoint is chosen on them
    assert key(spec(eval_steps=None)) == key(spec(eval_steps=None), TEST[:5])
    assert key(spec()) != key(spec(holdout=ROWS[:2]))
    assert key(spec()) != key(spec(stages=(Stage(ROWS),)))
    assert key(spec()) != key(spec(eval_steps=0.5))
    assert key(spec()) == key(spec(save_steps=0.5, save_total_limit=4))  # saves nothing but time


def test_who_waits_for_another_process_says_so(tiny_model: Path, tmp_path: Path) -> None:
    from filelock import FileLock

    training = spec(eval_steps=None)
    train(tmp_path / "a", tiny_model, training)
    other = FileLock(tmp_path / "a.lock", thread_local=False)
    other.acquire()
    notes: list[str] = []

    def progress(done: int, total: int, note: str) -> None:
        notes.append(note)
        other.release()

    train(tmp_path / "a", tiny_model, training, progress)
    assert notes == ["waiting for another process to train"]


def test_the_record_is_plain_json(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up = iter([math.inf, 12.0, math.nan])
    monkeypatch.setattr(
        trainer_module, "evaluate", lambda *_: {"loss": 1.0, "mean_perplexity": next(made_up)}
    )
    train(tmp_path / "a", tiny_model, spec(num_train_epochs=0.5))
    text = (tmp_path / "a" / RECORD).read_text()
    record = json.loads(text, parse_constant=pytest.fail)
    assert [point["mean_perplexity"] for point in record["evaluations"]] == [None, 12.0, None]
    assert record["best_step"] == 1
    assert record["trained_rows"] == 8
    assert record["trained_tokens"] < record["tokens"]
    assert record["seconds"] > 0
