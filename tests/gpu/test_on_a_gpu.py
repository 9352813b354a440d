"""What only a CUDA device can show: the same numbers there, in every precision and batch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.conformance.tiny_models import FAMILIES, make
from harness.core import DecodingSpec, Example, TrainingSettings, TrainingSpec
from harness.generation.engine import Load, write
from harness.models.attention import short_row_attention
from harness.models.cuda_attention import merged
from harness.models.loading import LoadedModel, load
from harness.prompts.files import load_template
from harness.records import IN_PLACE
from harness.results.adapter_files import read_record
from harness.scoring import single
from harness.scoring.batches import BUDGETS, common_prefix
from harness.scoring.fast import OutOfMemoryWarning, fast
from harness.scoring.losses import batch_losses
from harness.scoring.prefix import SharedPrefix
from harness.scoring.score import reference, score
from harness.scoring.sharing import allowed
from harness.scoring.single import whole_row
from harness.training.cache import train_once
from tests.builders.attention import GEOMETRY, definition
from tests.builders.models import make_llama
from tests.builders.scoring import PREFIX, QUIET, encode, spec

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]
ROWS = tuple(Example(f"t{i}", f"第{i}問", f"答{i % 3}") for i in range(8))
FAMILY = ["llama-grouped-query", "mistral-sliding-window", "gpt2-learned-positions"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("llama") / "m")


def on_cuda(folder: Path, **changes: Any) -> LoadedModel:
    return load(spec(device="cuda", **changes), folder, None)


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("shared", ["", PREFIX])
def test_float32_has_the_cpu_s_numbers(name: str, shared: str, tmp_path: Path) -> None:
    """TF32 is off: with it, a row is off by 1e-3."""
    folder = make(FAMILIES[name], tmp_path / "m")
    here, there = load(spec(name), folder, None), on_cuda(folder, name=name)
    rows = encode(here.encoder, shared=shared)
    right = reference(here, rows, QUIET).nlls
    assert fast(there, rows, QUIET).nlls == pytest.approx(right, rel=1e-5)
    assert reference(there, rows, QUIET).nlls == pytest.approx(right, rel=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_near_its_own_whole_rows(folder: Path, dtype: str) -> None:
    loaded = on_cuda(folder, dtype=dtype)
    rows = encode(loaded.encoder)
    for row, nll in zip(rows, fast(loaded, rows, QUIET).nlls, strict=True):
        assert abs(nll - whole_row(loaded, row)) <= allowed(dtype, nll, len(row.answer))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("heads", [2, 4])
def test_shared_keys_are_read_where_they_lie(tmp_path: Path, dtype: str, heads: int) -> None:
    """Half precision by flash attention, float32 by the memory-efficient kernel."""
    folder = make_llama(tmp_path / "m", num_attention_heads=4, num_key_value_heads=heads)
    loaded = on_cuda(folder, dtype=dtype)
    rows = encode(loaded.encoder, 40)
    scored = fast(loaded, rows, QUIET)
    assert scored.how.prefix == IN_PLACE
    assert not scored.how.refused
    for row, nll in zip(rows, scored.nlls, strict=True):
        assert abs(nll - whole_row(loaded, row)) <= allowed(dtype, nll, len(row.answer))


def test_a_batch_behind_a_prefix_waits_for_nothing(folder: Path) -> None:
    """Nothing is read from the device: torch raises where the host would wait for it."""
    loaded = on_cuda(folder, dtype="bfloat16")
    rows = encode(loaded.encoder)
    shared = rows[0].context[: common_prefix(rows)]
    width = max(map(len, rows)) - len(shared)
    with torch.inference_mode(), short_row_attention(loaded.model):
        prefix = SharedPrefix(loaded.model, shared, max(map(len, rows)), in_place=True)
        expected = batch_losses(loaded, rows, prefix, width, BUDGETS["cuda"])
        torch.cuda.set_sync_debug_mode("error")
        try:
            found = batch_losses(loaded, rows, prefix, width, BUDGETS["cuda"])
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(found.cpu(), expected.cpu())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", GEOMETRY)
def test_the_kernels_are_merged_to_the_definition(dtype: str, shape: tuple[int, ...]) -> None:
    rows, heads, key_heads, length, shared, size, value_size = shape
    torch.manual_seed(0)
    query, key, value, keys, values = (
        torch.randn(count, several, long, wide).to(getattr(torch, dtype))
        for count, several, long, wide in (
            (rows, heads, length, size),
            (rows, key_heads, length, size),
            (rows, key_heads, length, value_size),
            (1, key_heads, shared, size),
            (1, key_heads, shared, value_size),
        )
    )
    on_device = (one.cuda() for one in (query, key, value, keys, values))
    found = merged(*on_device, 0.3).cpu().double()
    both = [
        torch.cat([first.expand(rows, -1, -1, -1), own], 2)
        for first, own in ((keys, key), (values, value))
    ]
    expected = definition(query, *both, 0.3, shared)
    # bfloat16 has 8 bits: weights, both parts and the result are rounded, each by 2**-9 of values
    # of up to 4.
    assert (found - expected).abs().max() < (1e-5 if dtype == "float32" else 4 * 4 * 2**-9)


@pytest.mark.parametrize("quantization", ["nf4", "fp4", "int8"])
def test_quantized_weights_score_a_row_alike_in_any_company(
    tmp_path: Path, quantization: Any
) -> None:
    # bitsandbytes' blocks are of 64 values, and its 8-bit product wants multiples of them.
    folder = make_llama(tmp_path / "m", hidden_size=128, intermediate_size=256)
    loaded = on_cuda(folder, quantization=quantization, dtype="float16")
    rows = encode(loaded.encoder)
    together = [one.nll for one in score(loaded, rows, "fast", QUIET)[0]]
    for row, nll in zip(rows, together, strict=True):
        alone = score(loaded, [row], "fast", QUIET)[0][0].nll
        assert abs(nll - alone) <= allowed("float16", alone, len(row.answer))


def test_a_batch_that_does_not_fit_is_halved(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = on_cuda(folder)
    rows = encode(loaded.encoder)
    right = fast(loaded, rows, QUIET).nlls
    plain = single.batch_losses

    def scarce(loaded: Any, some: Any, *more: Any) -> Any:
        if len(some) > 2:
            torch.empty(1 << 50, device="cuda")  # more than any device has
        return plain(loaded, some, *more)

    monkeypatch.setattr(single, "batch_losses", scarce)
    with pytest.warns(OutOfMemoryWarning):
        scored = fast(loaded, rows, QUIET)
    assert scored.how.halved >= 1
    assert scored.nlls == pytest.approx(right, rel=1e-5)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_training_lowers_the_perplexity_and_is_scored_as_trained(
    tmp_path: Path, quantization: Any
) -> None:
    folder = make_llama(tmp_path / "m", hidden_size=128, intermediate_size=256)
    base = spec(device="cuda", quantization=quantization, dtype="bfloat16")
    settings = TrainingSettings(r=4, lora_alpha=8, learning_rate=1e-2, num_train_epochs=4)
    training = TrainingSpec(ROWS, settings)
    adapter = train_once(
        tmp_path / "a", base, folder, load_template("plain"), training, lambda *args: None
    )
    losses = read_record(adapter).losses
    assert losses[-1] < losses[0]
    before, after = load(base, folder, None), load(base, folder, adapter)
    rows = encode(before.encoder, 3, shared="")
    assert fast(before, rows, QUIET).nlls != fast(after, rows, QUIET).nlls


@pytest.mark.parametrize(
    "decoding",
    [
        DecodingSpec(max_new_tokens=12),
        DecodingSpec(max_new_tokens=12, do_sample=True, temperature=0.9),
        DecodingSpec(max_new_tokens=12, num_beams=3),
    ],
    ids=["greedy", "sample", "beam"],
)
def test_an_answer_is_the_same_alone_and_in_a_batch(folder: Path, decoding: DecodingSpec) -> None:
    loaded = on_cuda(folder)
    rows = encode(loaded.encoder)
    found = []
    for room in (Load(1, 1, 1), Load(1 << 30, 1 << 30, 1 << 30)):
        answers, _ = write(loaded, rows, decoding, 0, QUIET, load=room)
        found.append({(one.id, one.draw): one.text for one in answers})
    assert found[0] == found[1]


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices here")
def test_a_model_over_two_gpus_has_the_numbers_of_one(folder: Path) -> None:
    one, two = on_cuda(folder), on_cuda(folder, gpus=2)
    rows = encode(one.encoder)
    expected = pytest.approx(fast(one, rows, QUIET).nlls, rel=1e-5)
    assert fast(two, rows, QUIET).nlls == expected


def test_doctor_names_the_gpu() -> None:
    from harness.doctor import gpu

    (finding,) = gpu()
    assert dataclasses.asdict(finding)
    assert torch.cuda.get_device_name(0) in str(dataclasses.asdict(finding))
