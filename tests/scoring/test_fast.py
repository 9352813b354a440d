"""The fast scorer under scarce memory, with models that cannot share, and what it records."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.conformance.tiny_models import FAMILIES, Family, make
from harness.core import ModelSpec
from harness.errors import ModelError
from harness.models.encoding import Encoded
from harness.models.loading import LoadedModel, load
from harness.models.memory import peak_memory, reset_peak
from harness.records import COPIED, IN_PLACE, NONE, Precision
from harness.scoring import changes, sharing, single
from harness.scoring import fast as module
from harness.scoring.batches import BUDGETS, Budget, plan_batches
from harness.scoring.fast import OutOfMemoryWarning, fast
from harness.scoring.prefix import SharedPrefix
from harness.scoring.score import reference
from harness.scoring.single import whole_row
from tests.builders.models import make_llama
from tests.builders.scoring import PREFIX, QUIET, encode, spec


@pytest.fixture
def loaded(tiny_model: Path) -> LoadedModel:
    return load(spec(), tiny_model, None)


def scarce(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """Let batches of more than ``most`` tokens run out of memory; return the sizes tried."""
    import torch

    plain, tried = single.batch_losses, []

    def limited(loaded: Any, rows: Any, prefix: Any, width: int, budget: Any) -> Any:
        tried.append(len(rows) * width)
        if len(rows) * width > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return plain(loaded, rows, prefix, width, budget)

    monkeypatch.setattr(single, "batch_losses", limited)
    return tried


def test_a_batch_that_does_not_fit_is_halved(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = encode(loaded.encoder)
    expected = fast(loaded, rows, QUIET).nlls
    longest = max(map(len, rows)) - len(PREFIX.encode()) - 1
    tried = scarce(monkeypatch, 2 * longest)
    with pytest.warns(OutOfMemoryWarning, match=r"tiny: a batch of 9 rows of \d+ tokens") as said:
        scored = fast(loaded, rows, QUIET)
    assert len(said) == 1  # once, however often
    assert scored.nlls == pytest.approx(expected, rel=1e-5)
    assert scored.how.halved >= 1
    # What is known not to fit is not tried again.
    failed = [size for size in tried if size > 2 * longest]
    assert len(failed) == len(set(failed)) == scored.how.halved


def test_batches_of_a_size_that_did_not_fit_are_not_tried(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen equal rows in four batches: the first fails, the others are halved beforehand."""
    rows = [encode(loaded.encoder, 1)[0]] * 16
    length = len(rows[0])
    budget = replace(BUDGETS["cpu"], tokens=4 * length)
    tried = scarce(monkeypatch, 2 * length)
    with pytest.warns(OutOfMemoryWarning):
        scored = fast(loaded, rows, QUIET, budget, share=False, workers=1)
    assert [size // length for size in tried] == [4] + [2] * 8
    assert scored.how.halved == 1


@pytest.mark.parametrize("in_place", [True, False])
def test_keys_lie_where_they_are_only_if_they_may(loaded: LoadedModel, in_place: bool) -> None:
    import torch

    with torch.inference_mode():
        prefix = SharedPrefix(loaded.model, tuple(range(3, 23)), 40, in_place)
    assert prefix.way == (IN_PLACE if in_place else COPIED)


def test_the_cpu_s_own_words_for_it(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = single.batch_losses

    def limited(loaded: Any, rows: Any, *more: Any) -> Any:
        if len(rows) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ...")
        return plain(loaded, rows, *more)

    monkeypatch.setattr(single, "batch_losses", limited)
    with pytest.warns(OutOfMemoryWarning):
        scored = fast(loaded, encode(loaded.encoder, 4), QUIET)
    assert all(map(math.isfinite, scored.nlls))


def test_a_row_that_does_not_fit_alone_is_named(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = encode(loaded.encoder)
    fast(loaded, rows, QUIET)  # the prefix is known to be shared rightly
    scarce(monkeypatch, 3)
    with (
        pytest.warns(OutOfMemoryWarning),
        pytest.raises(
            ModelError, match=r"row 'r\d': \d+ tokens do not fit into memory .* --quant=nf4"
        ),
    ):
        fast(loaded, rows, QUIET)


def test_another_error_is_not_taken_for_want_of_memory(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*more: Any) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(single, "batch_losses", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        fast(loaded, encode(loaded.encoder, 3, shared=""), QUIET)


def test_what_is_recorded(loaded: LoadedModel, tmp_path: Path) -> None:
    rows = encode(loaded.encoder)
    small = Budget(tokens=60, keys=1 << 14, logits=1 << 26, softmax=1 << 22)
    how = fast(loaded, rows, QUIET, small).how
    assert how.prefix == IN_PLACE
    assert how.prefix_tokens == 1 + len(PREFIX.encode()) + _more_in_common(rows)
    assert how.batches > 1
    assert how.halved == 0
    assert how.refused == {}
    assert fast(loaded, rows[:1], QUIET).how.prefix == NONE


def _more_in_common(rows: list[Encoded]) -> int:
    """Bytes after the prefix that the rows happen to share: Chinese characters begin alike."""
    texts = [row.prompt.text[len(PREFIX) :].encode() for row in rows]
    return next(i for i in range(99) if len({text[: i + 1] for text in texts}) > 1)


def test_a_model_that_gets_sharing_wrong_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mamba 2 takes a cache by another name and ignores this one: only numbers can tell."""
    for place in (module, sharing, changes):
        monkeypatch.setattr(place, "must_be_alone", lambda model, longest: None)
    loaded = load(spec("mamba2"), make(FAMILIES["mamba2-state-space"], tmp_path / "m"), None)
    scored = fast(loaded, encode(loaded.encoder), QUIET)
    assert scored.how.prefix == NONE
    assert COPIED in scored.how.refused


def test_rows_of_a_model_without_attention_are_alone(tmp_path: Path) -> None:
    loaded = load(spec("mamba2"), make(FAMILIES["mamba2-state-space"], tmp_path / "m"), None)
    rows = encode(loaded.encoder)
    scored = fast(loaded, rows, QUIET)
    assert scored.how.batches == len(rows)
    assert "no attention" in scored.how.refused[COPIED]
    assert scored.nlls == pytest.approx(reference(loaded, rows, QUIET).nlls, rel=1e-5)


def test_shared_keys_that_are_wrong_in_place_are_copied_instead(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from harness.models import attention

    plain = attention.full
    monkeypatch.setattr(attention, "full", lambda *parts: [-torch.abs(p) for p in plain(*parts)])
    rows = encode(loaded.encoder)
    scored = fast(loaded, rows, QUIET)
    assert scored.how.prefix == COPIED
    assert "with a shared prefix and" in scored.how.refused[IN_PLACE]
    assert scored.nlls == pytest.approx([whole_row(loaded, row) for row in rows], rel=1e-5)


def test_a_longer_prefix_is_checked_again(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[int] = []
    plain = sharing._check_each

    def noted(loaded: LoadedModel, prefix: SharedPrefix, rows: list[Encoded]) -> None:
        checked.extend([prefix.length] * len(rows))
        plain(loaded, prefix, rows)

    monkeypatch.setattr(sharing, "_check_each", noted)
    for times in (1, 2, 1, 2, 3):
        fast(loaded, encode(loaded.encoder, shared=PREFIX * times), QUIET)
    assert len(set(checked)) == 3
    assert len(checked) == 6  # the shortest and the longest row
    assert checked == sorted(checked)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts a process's peak anew")
def test_memory_grows_with_scored_positions_and_not_with_the_prompt(tmp_path: Path) -> None:
    """With 262,144 tokens in the vocabulary, logits of 1,500 positions would be 1.6 GB."""
    family = Family("LlamaConfig", {"vocab_size": 1 << 18})
    loaded = load(ModelSpec("wide", "wide"), make(family, tmp_path / "m"), None)

    def peak(context: int, answer: int) -> int:
        rows = [
            Encoded(row.prompt, row.context + (65 + i,) * context, (66,) * answer)
            for i, row in enumerate(encode(loaded.encoder, 3, shared=""))
        ]
        reset_peak("cpu")
        before = peak_memory("cpu")
        fast(loaded, rows, QUIET)
        return peak_memory("cpu") - before

    peak(100, 8)
    short, long = peak(100, 8), peak(1500, 8)
    many = peak(100, 80)
    one = 4 << 18  # bytes of one position's logits
    assert long - short < 100 * one
    assert many - short > 100 * one


def test_batches_go_from_long_to_short_and_keep_the_order_of_equals() -> None:
    lengths, scored = [5, 9, 9, 1, 7, 9], [1, 2, 3, 1, 2, 2]
    batches = plan_batches(lengths, scored, 7, 100, Budget(18, 999, 9999, 99))
    assert [batch.rows for batch in batches] == [(1, 2), (5, 4), (0, 3)]
    assert [batch.width for batch in batches] == [9, 9, 5]


def test_half_precision_states_its_error(tmp_path: Path) -> None:
    from harness.models.pool import ModelPool
    from harness.scoring.precision import precision

    folder = make_llama(tmp_path / "m", initializer_range=0.1)
    half = spec(dtype="bfloat16")
    rows = encode(load(half, folder, None).encoder, 5)
    found = precision(ModelPool(), half, folder, rows)
    exact, rounded = load(spec(), folder, None), load(half, folder, None)
    changes, logs = [], []
    for row in rows:
        a, b = (reference(one, [row], QUIET).nlls[0] for one in (rounded, exact))
        changes.append(abs(a - b) / b)
        logs.append((a - b) / len(row.answer))
    assert found.rows == 5
    # bfloat16 depends on the batch, so the two agree in size, not in digits.
    assert 0 < found.worst < 0.05
    assert found.worst == pytest.approx(max(changes), rel=0.9)
    assert found.mean <= found.worst
    assert abs(found.perplexity - math.expm1(sum(logs) / 5)) < 0.01


def test_half_precision_of_a_model_too_large_for_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from harness.models.pool import ModelPool
    from harness.scoring.precision import precision

    def refuse(self: Any, spec: ModelSpec, *more: Any) -> Any:
        assert spec.dtype == "float32"
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(ModelPool, "get", refuse)
    found = precision(ModelPool(), spec(dtype="bfloat16"), tmp_path, [])
    assert found == Precision(unknown="the model does not fit into memory in float32")


def test_how_a_cell_is_computed_does_not_depend_on_the_cells_before(tmp_path: Path) -> None:
    """Short rows fit the window, long ones do not; either comes first."""
    folder = make(FAMILIES["mistral-sliding-window"], tmp_path / "m")
    found = []
    for order in ((1, 9), (9, 1)):
        loaded = load(spec("mistral"), folder, None)
        loaded.model.config.sliding_window = 150
        for layer in loaded.model.model.layers:
            layer.self_attn.sliding_window = 150
        scored = {n: fast(loaded, encode(loaded.encoder, shared=PREFIX * n), QUIET) for n in order}
        found.append({n: (one.how.prefix, one.nlls) for n, one in sorted(scored.items())})
    assert found[0] == found[1]  # the same bits
    assert [way for way, _ in found[0].values()] == [IN_PLACE, COPIED]


def test_long_rope_is_scored_a_row_at_a_time(tmp_path: Path) -> None:
    """A short row in a batch with a long one would have the long one's frequencies."""
    loaded = load(spec("phi3"), make(FAMILIES["phi3-long-rope"], tmp_path / "m"), None)
    rows = encode(loaded.encoder, 6, shared="") + encode(loaded.encoder, 3, shared=PREFIX * 3)
    assert min(map(len, rows)) < 120 < max(map(len, rows))
    scored = fast(loaded, rows, QUIET)
    assert scored.how.batches == len(rows)
    assert scored.nlls == pytest.approx(reference(loaded, rows, QUIET).nlls, rel=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["llama-grouped-query", "deepseek-v3-latent-attention"])
def test_half_precision_shares_too(name: str, dtype: str, tmp_path: Path) -> None:
    loaded = load(spec(name, dtype=dtype), make(FAMILIES[name], tmp_path / "m"), None)
    exact = load(spec(name), tmp_path / "m", None)
    rows = encode(loaded.encoder)
    scored = fast(loaded, rows, QUIET)
    assert scored.how.prefix == FAMILIES[name].sharing
    right = reference(exact, rows, QUIET).nlls
    for row, found, expected in zip(rows, scored.nlls, right, strict=True):
        assert abs(found - expected) < 0.3 * len(row.answer)


def test_torch_s_own_attention_is_put_back(loaded: LoadedModel) -> None:
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fast(loaded, encode(loaded.encoder), stop)
    assert AttentionInterface()["sdpa"] is sdpa_attention_forward


def test_a_way_that_was_refused_is_not_taken_unchecked_later(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from harness.models import attention

    plain = attention.full
    monkeypatch.setattr(attention, "full", lambda *parts: [-torch.abs(p) for p in plain(*parts)])
    for seed in (0, 1):
        rows = encode(loaded.encoder, seed=seed)
        scored = fast(loaded, rows, QUIET)
        assert scored.how.prefix == COPIED
        assert scored.nlls == pytest.approx([whole_row(loaded, row) for row in rows], rel=1e-5)
