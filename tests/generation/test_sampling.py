"""Warpers against transformers' logits processors, and choices that rounding could make."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy import stats
from transformers.generation import logits_process as theirs

from harness.core import DecodingSpec
from harness.generation.noise import key
from harness.generation.sampling import NEAR, choose, process, warp

VOCABULARY = 60
LOGITS = torch.randn((4, VOCABULARY), generator=torch.Generator().manual_seed(0)) * 3
WRITTEN = [[3, 5, 7, 3, 5], [1, 1, 1], [], [9, 8, 9, 8, 9]]


def spec(**settings: Any) -> DecodingSpec:
    return DecodingSpec("x", do_sample=True, **settings)


@pytest.mark.parametrize("temperature", [1.0, 0.7, 1.5])
@pytest.mark.parametrize("top_k", [0, 1, 7, 200])
@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.3])
@pytest.mark.parametrize("min_p", [0.0, 0.05])
def test_what_may_be_drawn(temperature: float, top_k: int, top_p: float, min_p: float) -> None:
    """transformers' own warpers in its own order give the same distribution."""
    right = theirs.TemperatureLogitsWarper(temperature)(None, LOGITS)
    right = theirs.TopKLogitsWarper(top_k)(None, right) if top_k else right
    right = theirs.TopPLogitsWarper(top_p)(None, right)
    right = theirs.MinPLogitsWarper(min_p)(None, right) if min_p else right
    ids, scores, _ = warp(
        LOGITS, spec(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    )
    found = torch.full_like(right, float("-inf")).scatter(1, ids.expand(len(scores), -1), scores)
    torch.testing.assert_close(found.softmax(-1), right.softmax(-1))


@pytest.mark.parametrize("top_p", [0.5, 0.95])
def test_a_flat_distribution_has_more_candidates_than_are_looked_at_first(top_p: float) -> None:
    flat = torch.randn((2, 3000), generator=torch.Generator().manual_seed(1)) * 0.1
    right = theirs.TopPLogitsWarper(top_p)(None, flat)
    ids, scores, _ = warp(flat, spec(top_p=top_p))
    found = torch.full_like(right, float("-inf")).scatter(1, ids, scores)
    assert torch.equal(found.isinf(), right.isinf())


def test_penalties_count_the_answer_alone() -> None:
    """transformers' processors, given each row's answer without what stands before it."""
    found = process(LOGITS, WRITTEN, spec(repetition_penalty=1.3, no_repeat_ngram_size=2), [0])
    for row, tokens in enumerate(WRITTEN):
        ids = torch.tensor([tokens], dtype=torch.long)
        right = theirs.RepetitionPenaltyLogitsProcessor(1.3)(ids, LOGITS[row : row + 1])
        right = theirs.NoRepeatNGramLogitsProcessor(2)(ids, right)
        assert torch.equal(found[row], right[0])


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_n_grams_that_may_not_come_again(size: int) -> None:
    found = process(LOGITS, WRITTEN, spec(no_repeat_ngram_size=size), [0])
    for row, tokens in enumerate(WRITTEN):
        ids = torch.tensor([tokens], dtype=torch.long)
        right = theirs.NoRepeatNGramLogitsProcessor(size)(ids, LOGITS[row : row + 1])
        assert torch.equal(found[row], right[0])


def test_no_end_before_the_least_number_of_tokens() -> None:
    found = process(LOGITS, WRITTEN, spec(min_new_tokens=4), [0, 2])
    assert found[:, [0, 2]].isinf().all(dim=1).tolist() == [False, True, True, False]


def test_log_probabilities_are_the_model_s_own() -> None:
    choice = choose(LOGITS, WRITTEN, spec(temperature=0.3, top_k=2), [0], [1, 2, 3, 4])
    right = LOGITS.double().log_softmax(-1).gather(1, choice.tokens[:, None]).squeeze(1)
    torch.testing.assert_close(choice.logprobs, right)


@pytest.mark.parametrize(
    "decoding", [spec(), spec(temperature=0.7, top_k=30, top_p=0.9), spec(min_p=0.1)]
)
def test_draws_follow_the_distribution(decoding: DecodingSpec) -> None:
    """2,000 draws under 2,000 row ids; χ² against the warped probabilities."""
    draws = 2000
    flat = LOGITS[:1] / 3
    logits = flat.expand(draws, -1)
    tokens = [
        choose(
            logits, [[]] * draws, decoding, [0], [key(seed, f"r{i}", 0, 0) for i in range(draws)]
        ).tokens
        for seed in (0, 1)
    ]
    assert not torch.equal(*tokens)
    ids, scores, _ = warp(flat, decoding)
    likely = torch.zeros(VOCABULARY).scatter(0, ids.flatten(), scores[0].softmax(-1)) * draws
    for drawn in tokens:
        counts = torch.bincount(drawn, minlength=VOCABULARY).float()
        assert not counts[likely == 0].any()
        often = likely >= 5
        seen = [*counts[often].tolist(), counts[~often].sum().item()]
        wanted = [*likely[often].tolist(), likely[~often].sum().item()]
        if wanted[-1] == 0:
            seen, wanted = seen[:-1], wanted[:-1]
        wanted = [value * draws / sum(wanted) for value in wanted]
        assert stats.chisquare(seen, wanted).pvalue > 0.001


@pytest.mark.parametrize(
    ("logits", "decoding"),
    [
        ([2.0, 2.0 - NEAR / 2, 0.0], DecodingSpec("greedy")),
        ([2.0, 1.0, 1.0 - NEAR / 2, 0.0], spec(top_k=2)),
        ([2.0, 2.0 + torch.tensor(0.25).log().item() - NEAR / 2], spec(min_p=0.25)),
        (torch.tensor([0.6 - 1e-6, 0.4 + 1e-6]).log().tolist(), spec(top_p=0.6)),
    ],
)
def test_a_choice_that_rounding_could_make_is_noticed(
    logits: list[float], decoding: DecodingSpec
) -> None:
    """Some of a hundred draws take the token of which rounding decides if it may be drawn."""
    count = 100 if decoding.do_sample else 1
    keys = [key(0, "r", 0, step) for step in range(count)]
    rows = torch.tensor([logits]).expand(count, -1)
    near = choose(rows, [[]] * count, decoding, [0], keys, NEAR).near
    assert near.any()
    clear = torch.tensor([[5.0, 3.0, -9.0, -9.0]]).expand(count, -1)
    assert choose(clear, [[]] * count, decoding, [0], keys, NEAR).near.float().mean() < 0.1
    assert not choose(rows, [[]] * count, decoding, [0], keys, 0.0).near.any()
