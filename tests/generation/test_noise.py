"""Noise against SplitMix64 in whole numbers, and against the Gumbel distribution."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from harness.generation.noise import gumbel, key

WORD = (1 << 64) - 1


def by_whole_numbers(one: int, token: int) -> float:
    """SplitMix64 as published, in Python's integers."""
    z = (one + (token + 1) * 0x9E3779B97F4A7C15) & WORD
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
    z ^= z >> 31
    return -math.log(-math.log(((z >> 11) + 0.5) / 2**53))


def test_it_is_splitmix_of_the_key_and_the_token() -> None:
    keys = [key(0, "r0", 0, 0), key(7, "前", 2, 31)]
    tokens = torch.tensor([0, 1, 49_151, 255_999])
    found = gumbel(keys, tokens)
    for row, one in enumerate(keys):
        for column, token in enumerate(tokens.tolist()):
            assert found[row, column].item() == pytest.approx(by_whole_numbers(one, token))


def test_a_token_has_its_noise_whatever_stands_beside_it() -> None:
    some = torch.tensor([[5, 900, 17], [17, 5, 3]])
    whole = gumbel([11, 12], torch.arange(1000))
    assert torch.equal(gumbel([11, 12], some), whole.gather(1, some))


def test_everything_it_is_for_matters() -> None:
    keys = {
        key(0, "a", 0, 0),
        key(1, "a", 0, 0),
        key(0, "b", 0, 0),
        key(0, "a", 1, 0),
        key(0, "a", 0, 1),
    }
    assert len(keys) == 5


def test_it_is_distributed_as_gumbel() -> None:
    noise = gumbel([key(0, "r", 0, step) for step in range(4)], torch.arange(5000)).flatten()
    assert stats.kstest(noise.numpy(), stats.gumbel_r.cdf).pvalue > 0.01
