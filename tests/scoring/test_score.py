"""Scores equal an independent float64 computation, however they are computed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from harness.conformance.tiny_models import FAMILIES, make
from harness.core import Prompt, Span
from harness.errors import ModelError
from harness.models.encoding import Encoded
from harness.models.kernels import SHAPES, TOLERANCE, _error, use_exact_kernels
from harness.models.loading import LoadedModel, load
from harness.scoring.batches import common_prefix, plan_batches
from harness.scoring.fast import fast
from harness.scoring.score import reference, score
from tests.builders.models import make_llama
from tests.builders.scoring import PREFIX, QUIET, encode, spec


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> LoadedModel:
    return load(spec(), tiny_model, None)


def independent(model: Any, ids: tuple[int, ...], answer: int) -> float:
    """NLL of the last ``answer`` ids in float64, from the definition, token by token."""
    import torch

    with torch.no_grad():
        logits = model.double()(input_ids=torch.tensor([ids])).logits[0]
    model.float()
    total = 0.0
    for position in range(len(ids) - answer, len(ids)):
        row = logits[position - 1]
        total -= (
            row[ids[position]] - torch.log(torch.exp(row - row.max()).sum()) - row.max()
        ).item()
    return total


def test_reference_equals_an_independent_float64_computation(loaded: LoadedModel) -> None:
    rows = encode(loaded.encoder)
    found = reference(loaded, rows, QUIET).nlls
    for row, nll in zip(rows, found, strict=True):
        expected = independent(loaded.model, row.ids, len(row.answer))
        assert nll == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2-learned-positions", "gemma2-soft-capping"])
def test_fast_really_reuses_the_prefix(name: str, tmp_path: Path) -> None:
    loaded = load(spec(name), make(FAMILIES[name], tmp_path / "m"), None)
    rows = encode(loaded.encoder)
    seen: list[tuple[int, ...]] = []
    hook = loaded.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    fast(loaded, rows, QUIET)  # checks the prefix on a row first
    seen.clear()
    fast(loaded, rows, QUIET)
    hook.remove()
    length = common_prefix(rows)
    assert length >= len(PREFIX.encode())
    assert seen[0] == (1, length)
    assert sum(a for a, _ in seen[1:]) == len(rows)
    assert max(width for _, width in seen[1:]) == max(map(len, rows)) - length


def test_rows_do_not_depend_on_their_company_or_order(loaded: LoadedModel) -> None:
    rows = encode(loaded.encoder)
    together = fast(loaded, rows, QUIET).nlls
    alone = [fast(loaded, [row], QUIET).nlls[0] for row in rows]
    assert together == pytest.approx(alone, rel=1e-5)
    order = random.Random(1).sample(range(len(rows)), len(rows))
    shuffled = fast(loaded, [rows[index] for index in order], QUIET).nlls
    assert [shuffled[order.index(index)] for index in range(len(rows))] == pytest.approx(
        together, rel=1e-5
    )


def test_rows_that_share_nothing(loaded: LoadedModel) -> None:
    rows = [encode(loaded.encoder, 1, shared=chr(0x4E00 + i), seed=i)[0] for i in range(5)]
    assert common_prefix(rows) < 16
    assert fast(loaded, rows, QUIET).nlls == pytest.approx(
        reference(loaded, rows, QUIET).nlls, rel=1e-5
    )


def test_contexts_that_are_equal_or_prefixes_of_each_other(loaded: LoadedModel) -> None:
    texts = [PREFIX, PREFIX, PREFIX + "天"]
    rows = [
        loaded.encoder.encode(Prompt(str(i), (Span(text),), "答" * (i + 1)))
        for i, text in enumerate(texts)
    ]
    # A token of context stays with each row: its logits predict the answer's first token.
    assert common_prefix(rows) == len(rows[0].context) - 1
    assert fast(loaded, rows, QUIET).nlls == pytest.approx(
        reference(loaded, rows, QUIET).nlls, rel=1e-5
    )


def test_two_cells_in_a_row_on_one_model(loaded: LoadedModel) -> None:
    first, second = encode(loaded.encoder, seed=1), encode(loaded.encoder, seed=2)
    before = fast(loaded, first, QUIET).nlls
    fast(loaded, second, QUIET)
    assert fast(loaded, first, QUIET).nlls == before  # the same bits


def test_pad_and_eos_ids_inside_an_answer_are_scored(loaded: LoadedModel) -> None:
    eos = loaded.encoder.eos
    (row,) = encode(loaded.encoder, 1)
    odd = Encoded(row.prompt, row.context, (eos, 0, *row.answer))
    rows = [odd, *encode(loaded.encoder, 4, seed=3)]
    found = fast(loaded, rows, QUIET).nlls
    expected = independent(loaded.model, odd.ids, len(odd.answer))
    assert found[0] == pytest.approx(expected, rel=1e-5)


def test_the_eos_is_scored_once(loaded: LoadedModel) -> None:
    (row,) = encode(loaded.encoder, 1)
    (scored,), _ = score(loaded, [row], "fast", QUIET)
    assert scored.n_tokens == len(row.prompt.answer.encode()) + 1  # a token a byte, and the EOS
    assert scored.n_bytes == len(row.prompt.answer.encode())
    assert scored.n_chars == len(row.prompt.answer)
    assert scored.n_context == len(row.context)
    without = independent(loaded.model, row.ids[:-1], len(row.answer) - 1)
    assert scored.nll > without


def test_a_one_character_answer(loaded: LoadedModel) -> None:
    row = loaded.encoder.encode(Prompt("r", (Span("問"),), "x"))
    assert len(row.answer) == 2
    assert fast(loaded, [row], QUIET).nlls[0] == pytest.approx(
        independent(loaded.model, row.ids, 2), rel=1e-5
    )


@pytest.mark.parametrize("scorer", ["fast", "reference"])
def test_a_drifting_model_fails_the_cell(tmp_path: Path, scorer: str) -> None:
    import torch

    loaded = load(spec(), make_llama(tmp_path / "m"), None)
    rows = encode(loaded.encoder, 3)

    def corrupt(done: int) -> None:
        if done == len(rows):
            with torch.no_grad():
                loaded.model.lm_head.weight.add_(
                    0.01 * torch.randn_like(loaded.model.lm_head.weight)
                )

    with pytest.raises(ModelError, match="row 'r0' had an NLL of .* weights changed"):
        score(loaded, rows, scorer, corrupt)


@pytest.mark.parametrize("scorer", ["fast", "reference"])
def test_nan_is_reported_not_hidden(tmp_path: Path, scorer: str) -> None:
    import math

    import torch

    loaded = load(spec(), make_llama(tmp_path / "m"), None)
    with torch.no_grad():
        loaded.model.lm_head.weight.fill_(float("nan"))
    scores, _ = score(loaded, encode(loaded.encoder, 3), scorer, QUIET)
    assert all(math.isnan(one.nll) for one in scores)


def test_batches_hold_every_row_once_and_stay_in_budget() -> None:
    rng = random.Random(0)
    lengths = [rng.randint(1, 900) for _ in range(300)]
    scored = [max(1, length // 2) for length in lengths]
    batches = plan_batches(lengths, scored, 700, 49_152)
    assert sorted(row for batch in batches for row in batch.rows) == list(range(300))
    for batch in batches:
        assert batch.width == max(lengths[row] for row in batch.rows)
        if len(batch.rows) > 1:
            assert len(batch.rows) * batch.width <= 2048
            assert len(batch.rows) * (batch.width + 700) <= 16_384
            assert sum(scored[row] for row in batch.rows) * 49_152 <= 1 << 26
    assert plan_batches(lengths, scored, 700, 49_152) == batches


def test_kernels_in_use_are_float32_by_their_error() -> None:
    assert use_exact_kernels()
    assert max(_error(*shape) for shape in SHAPES) <= TOLERANCE
