"""Training: the same layout as scoring, once for everybody, and no trace left on the base."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from harness.core import Example, ModelSpec, Prompt, Span, TrainingSettings, TrainingSpec
from harness.errors import ModelError, PromptError, TrainingError
from harness.models.encoding import Encoded
from harness.models.loading import LoadedModel, load, load_base
from harness.prompts.files import load_template
from harness.results.adapter_files import RECORD, is_complete, read_record
from harness.scoring.score import reference, score
from harness.training import cache as adapters_module
from harness.training.cache import adapter_key, train_once
from harness.training.collation import IGNORED, collate
from harness.training.gathering import DamagedAdapterWarning
from harness.training.train import encode_rows
from tests.builders.models import make_llama
from tests.builders.tasks import row

ROWS = tuple(Example(**row(i, 5 + i % 5, "train")) for i in range(12))
SPEC = ModelSpec("tiny", "sha-tiny")
PLAIN = load_template("plain")
QUIET = lambda *args: None  # noqa: E731


def settings(examples: tuple[Example, ...] = ROWS, **changes: Any) -> TrainingSpec:
    given: dict[str, Any] = {"r": 4, "lora_alpha": 8, "learning_rate": 1e-2}
    return TrainingSpec(examples, TrainingSettings(**{**given, **changes}))


def encoded(loaded: LoadedModel, count: int = 5) -> list[Encoded]:
    return [
        loaded.encoder.encode(Prompt(e.id, (Span(e.instruction + "\n"),), e.output))
        for e in ROWS[:count]
    ]


def test_only_the_answer_and_its_eos_are_labelled() -> None:
    prompt = Prompt("r", (Span("x"),), "y")
    rows = [Encoded(prompt, (1, 5, 6), (7, 8, 2)), Encoded(prompt, (1, 5), (9, 2))]
    batch = collate(rows)
    assert batch["input_ids"].tolist() == [[1, 5, 6, 7, 8, 2], [1, 5, 9, 2, 2, 2]]
    x = IGNORED
    # The row's own EOS is a label, the padding with the same id is not.
    assert batch["labels"].tolist() == [[x, x, x, 7, 8, 2], [x, x, 9, 2, x, x]]
    assert set(batch) == {"input_ids", "labels"}


def test_the_batch_loss_is_the_mean_nll_of_the_scored_tokens(tiny_model: Path) -> None:
    loaded = load(SPEC, tiny_model, None)
    rows = encoded(loaded)
    nll = sum(reference(loaded, rows, QUIET).nlls)
    loss = loaded.model(**collate(rows)).loss.item()
    assert loss == pytest.approx(nll / sum(len(r.answer) for r in rows), rel=1e-5)


def test_training_rows_are_encoded_as_zero_shot_prompts(tiny_model: Path) -> None:
    loaded = load(SPEC, tiny_model, None)
    assert encode_rows(loaded.encoder, PLAIN, ROWS[:5]) == encoded(loaded)


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters") / "first"
    steps: list[tuple[int, int]] = []
    spec = settings(num_train_epochs=6)
    train_once(folder, SPEC, tiny_model, PLAIN, spec, lambda a, b, note: steps.append((a, b)))
    assert steps[-1] == (18, 18)  # 6 epochs of 12 rows in batches of 4
    return folder


def test_training_lowers_the_perplexity_of_its_rows(trained: Path, tiny_model: Path) -> None:
    base, adapted = load(SPEC, tiny_model, None), load(SPEC, tiny_model, trained)
    before = sum(reference(base, encoded(base), QUIET).nlls)
    after = sum(reference(adapted, encoded(adapted), QUIET).nlls)
    assert after < 0.9 * before


def test_the_record_says_what_was_done(trained: Path) -> None:
    record = read_record(trained)
    assert record.rows == 12
    assert record.stages == ()  # none were asked for
    assert record.steps == len(record.losses) == 18
    assert record.settings["learning_rate"] == 1e-2
    assert record.losses[-1] < record.losses[0]
    # r · (inputs + outputs) of q, k, v, o, gate, up, down in two layers of 32/64, r = 4
    assert record.trainable_parameters == 2 * 4 * (64 + 48 + 48 + 64 + 96 + 96 + 96)
    names = {path.name for path in trained.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json"} <= names
    assert not any(name.endswith((".bin", ".pt", ".pth")) for name in names)


def test_the_same_training_gives_the_same_adapter(
    trained: Path, tiny_model: Path, tmp_path: Path
) -> None:
    again = train_once(tmp_path / "b", SPEC, tiny_model, PLAIN, settings(num_train_epochs=6), QUIET)
    name = "adapter_model.safetensors"
    assert (again / name).read_bytes() == (trained / name).read_bytes()
    other = train_once(
        tmp_path / "c", SPEC, tiny_model, PLAIN, settings(num_train_epochs=6, seed=1), QUIET
    )
    assert (other / name).read_bytes() != (trained / name).read_bytes()


def test_zero_shot_is_bit_identical_before_and_after_an_adapter(
    trained: Path, tiny_model: Path
) -> None:
    base = load(SPEC, tiny_model, None)
    before = score(base, encoded(base), "fast", QUIET)
    adapted = load(SPEC, tiny_model, trained)
    score(adapted, encoded(adapted), "fast", QUIET)
    fresh = load(SPEC, tiny_model, None)
    assert score(fresh, encoded(fresh), "fast", QUIET) == before


def test_nothing_is_left_in_training_mode(trained: Path, tiny_model: Path) -> None:
    adapted = load(SPEC, tiny_model, trained)
    assert not any(module.training for module in adapted.model.modules())
    rows = encoded(adapted)
    assert reference(adapted, rows, QUIET).nlls == reference(adapted, rows, QUIET).nlls


def test_a_zero_initialized_adapter_changes_no_bit(tiny_model: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    model = load_base(SPEC, tiny_model)
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    get_peft_model(model, config).save_pretrained(str(tmp_path / "zero"))  # B is zero
    base, adapted = load(SPEC, tiny_model, None), load(SPEC, tiny_model, tmp_path / "zero")
    rows = encoded(base)
    assert reference(adapted, rows, QUIET).nlls == reference(base, rows, QUIET).nlls


@pytest.mark.parametrize("quantization", ["nf4", "fp4", "int8"])
def test_quantized_training_is_scored_as_trained(tmp_path: Path, quantization: Any) -> None:
    tiny_model = make_llama(tmp_path / "m", hidden_size=64, intermediate_size=128)
    spec = ModelSpec("tiny", "sha-tiny", quantization=quantization)
    base = load(spec, tiny_model, None)
    plain = load(SPEC, tiny_model, None)
    rows = encoded(base)
    before = reference(base, rows, QUIET).nlls
    assert before != reference(plain, rows, QUIET).nlls  # it really is quantized
    # Batches and padding change no row's number, and scoring changes no weight.
    alone = [one.nll for one in score(base, rows, "fast", QUIET)[0]]
    assert alone == pytest.approx(before, rel=1e-5)
    assert reference(base, rows, QUIET).nlls == before
    assert before == pytest.approx(reference(plain, rows, QUIET).nlls, rel=0.3)
    folder = train_once(
        tmp_path / "a", spec, tiny_model, PLAIN, settings(num_train_epochs=6), QUIET
    )
    adapted = load(spec, tiny_model, folder)
    # score() re-scores a row at the end: the weights survived training, saving and scoring.
    after, _ = score(adapted, rows, "fast", QUIET)
    assert sum(one.nll for one in after) < 0.9 * sum(before)
    again = load(spec, tiny_model, None)
    assert reference(again, rows, QUIET).nlls == before


def test_an_adapter_is_trained_once_however_many_ask(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings: list[Path] = []

    def train(draft: Path, work: Path, *args: Any) -> None:
        trainings.append(draft)
        draft.mkdir()
        (draft / "adapter_model.safetensors").write_text("weights")
        sha = hashlib.sha256(b"weights").hexdigest()
        (draft / RECORD).write_text(json.dumps({"sha256": sha}))

    monkeypatch.setattr(adapters_module, "train", train)
    arguments = (tmp_path / "a", SPEC, tiny_model, PLAIN, settings(), QUIET)
    threads = [threading.Thread(target=train_once, args=arguments) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(trainings) == 1


@pytest.mark.parametrize("name", ["adapter_model.safetensors", RECORD])
def test_a_damaged_adapter_is_trained_again(
    trained: Path, tiny_model: Path, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "a"
    shutil.copytree(trained, folder)
    assert is_complete(folder)
    whole = (folder / "adapter_model.safetensors").read_bytes()
    (folder / name).write_bytes((folder / name).read_bytes()[:-7])
    with pytest.warns(DamagedAdapterWarning, match="adapter a is damaged; it is trained again"):
        train_once(folder, SPEC, tiny_model, PLAIN, settings(num_train_epochs=6), QUIET)
    assert (folder / "adapter_model.safetensors").read_bytes() == whole


def test_a_failed_training_leaves_nothing(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"the loss is nan at step \d+ of 6 .*learning rate"):
        train_once(
            tmp_path / "a",
            SPEC,
            tiny_model,
            PLAIN,
            settings(learning_rate=1e30, max_grad_norm=0.0, num_train_epochs=2),
            QUIET,
        )
    assert [path.name for path in tmp_path.iterdir()] == ["a.lock"]


def test_a_training_row_that_does_not_fit(tmp_path: Path) -> None:
    model = make_llama(tmp_path / "m", max_position_embeddings=40)
    with pytest.raises(PromptError, match=r"row 'train-\d+': \d+ tokens .* do not fit"):
        train_once(tmp_path / "a", SPEC, model, PLAIN, settings(), QUIET)


KEY_CHANGES: dict[str, dict[str, Any]] = {
    "seed": {"seed": 1},
    "learning rate": {"learning_rate": 2e-2},
    "rows": {"examples": ROWS[:11]},
    "rank": {"r": 8},
}


@pytest.mark.parametrize("changes", KEY_CHANGES.values(), ids=KEY_CHANGES.keys())
def test_what_determines_the_adapter_changes_its_name(changes: dict[str, Any]) -> None:
    first = adapter_key(SPEC, PLAIN, settings(), [("peft", "1")])
    assert adapter_key(SPEC, PLAIN, settings(**changes), [("peft", "1")]) != first
    assert adapter_key(SPEC, PLAIN, settings(), [("peft", "2")]) != first
    assert adapter_key(SPEC, load_template("role"), settings(), [("peft", "1")]) != first
    other = ModelSpec("tiny", "sha-tiny", quantization="nf4")
    assert adapter_key(other, PLAIN, settings(), [("peft", "1")]) != first


def test_what_does_not_determine_the_adapter_is_not_in_its_name() -> None:
    first = adapter_key(SPEC, PLAIN, settings(), [])
    # Steps are planned from the rows' ids; 4-bit settings say nothing of an unquantized base.
    assert adapter_key(SPEC, PLAIN, settings(examples=ROWS[::-1]), []) == first
    assert adapter_key(SPEC, PLAIN, settings(bnb_4bit_use_double_quant=False), []) == first
    four_bit = ModelSpec("tiny", "sha-tiny", quantization="nf4")
    single = ModelSpec("tiny", "sha-tiny", quantization="nf4", double_quant=False)
    keys = [adapter_key(spec, PLAIN, settings(), []) for spec in (four_bit, single)]
    assert keys[0] != keys[1]


class TestForeignAdapters:
    """An adapter that does not belong to the base is refused, never half-loaded."""

    @pytest.mark.parametrize(
        "changes",
        [{"hidden_size": 64}, {"num_hidden_layers": 1}, {"num_hidden_layers": 3}],
        ids=["other width", "fewer layers", "more layers"],
    )
    def test_another_shape(self, trained: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
        other = make_llama(tmp_path / "other", **changes)
        with pytest.raises(ModelError, match=r"--adapter=.*does not fit"):
            load(SPEC, other, trained)

    def test_another_hub_model_of_the_same_shape(
        self, trained: Path, tiny_model: Path, tmp_path: Path
    ) -> None:
        copy = tmp_path / "copy"
        shutil.copytree(trained, copy)
        config = json.loads((copy / "adapter_config.json").read_text())
        config["base_model_name_or_path"] = "owner/model-a"
        (copy / "adapter_config.json").write_text(json.dumps(config))
        (line,) = load(ModelSpec("owner/b", "sha"), tiny_model, copy).warnings
        assert "it names owner/model-a as its base, and is scored on owner/b" in line


def test_four_bit_weights_are_not_repacked_by_scoring(tmp_path: Path) -> None:
    """bitsandbytes 0.50 does so on CPUs with AVX512-bf16, and state_dict() then corrupts them."""
    spec = ModelSpec("tiny", "sha-tiny", quantization="nf4")
    model = make_llama(tmp_path / "m", hidden_size=64, intermediate_size=128)
    loaded = load(spec, model, None)
    before = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    first = score(loaded, encoded(loaded), "fast", QUIET)
    for name, value in loaded.model.state_dict().items():
        assert value.equal(before[name]), name
    assert score(loaded, encoded(loaded), "fast", QUIET) == first


def test_repacking_is_what_corrupts_four_bit_weights(tmp_path: Path) -> None:
    """What the test above is safe from, with the switch as bitsandbytes has it."""
    import torch

    spec = ModelSpec("tiny", "sha-tiny", quantization="nf4")
    base = load_base(spec, make_llama(tmp_path / "m", hidden_size=64, intermediate_size=128))
    layers = [m for m in base.modules() if hasattr(m, "support_avx512bf16_for_cpu")]
    flags = Path("/proc/cpuinfo")
    if not layers or not flags.exists() or "avx512_bf16" not in flags.read_text():
        pytest.skip("only happens on CPUs with AVX512-bf16, with bitsandbytes that repacks")
    before = {name: value.clone() for name, value in base.state_dict().items()}
    for layer in layers:
        layer.support_avx512bf16_for_cpu = True
    with torch.no_grad():
        base.eval()(input_ids=torch.ones((1, 3), dtype=torch.long))
    after = base.state_dict()
    assert any(not after[name].equal(before[name]) for name in before)


@pytest.mark.parametrize(
    "name",
    [
        "llama-tied-head",
        "llama-grouped-query",
        "gemma2-soft-capping",
        "granite-scaled-logits",
        "mistral-sliding-window",
        "gpt-oss-sinks",
        "bloom-alibi",
        "qwen3-next-linear-attention",
    ],
)
def test_the_loss_is_the_model_s_own(name: str, tmp_path: Path) -> None:
    """With labels, transformers' models compute the same from all logits; so are the gradients."""
    from harness.conformance.tiny_models import FAMILIES, make
    from harness.models.attention import short_row_attention
    from harness.scoring.losses import mean_loss

    model = load_base(SPEC, make(FAMILIES[name], tmp_path / "m"))
    loaded = load(SPEC, tmp_path / "m", None)
    batch = collate(encoded(loaded)[:4])
    count = int((batch["labels"] != IGNORED).sum())
    found = []
    for own in (True, False):
        model.zero_grad()
        if own:
            loss = model(**batch).loss
            loss.backward()
        else:
            with short_row_attention(model, training=True):
                loss = mean_loss(model, batch["input_ids"], batch["labels"], count)
                loss.backward()
        weights = model.get_input_embeddings().weight.grad
        found.append((loss.item(), weights.clone()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    difference = (found[0][1] - found[1][1]).norm() / found[0][1].norm()
    assert difference < 1e-5
