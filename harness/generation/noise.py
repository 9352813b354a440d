"""Gumbel noise that depends on what it is for, and on nothing else.

The noise of a token is a function of (seed, row id, draw, step, token id): whichever rows are
written together, in whichever order, on whichever device, a token has the same noise. Adaptations
and settings that are compared draw under the same noise.

    key   = the first 64 bits of SHA-256(seed, row id, draw, step)
    bits  = SplitMix64(key + (token id + 1) · 0x9E3779B97F4A7C15)
    noise = −log(−log(u)),  u = (the upper 53 bits of bits + ½) / 2⁵³

argmax over tokens of log p + noise is a draw from p (Gumbel 1954; Maddison et al. 2014,
"A* Sampling", arXiv:1411.0030).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# SplitMix64's constants (Steele, Lea & Flood 2014), as signed 64-bit integers.
STEP = 0x9E3779B97F4A7C15 - (1 << 64)
FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
SECOND = 0x94D049BB133111EB - (1 << 64)


def key(seed: int, row_id: str, draw: int, step: int) -> int:
    """What the noise of one token of an answer depends on, as a signed 64-bit integer."""
    text = f"{seed}\n{draw}\n{step}\n{row_id}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)


def gumbel(keys: Sequence[int], tokens: Tensor) -> Tensor:
    """Noise of tokens, float64.

    Args:
        keys: one for each row.
        tokens: ids, int64, of shape (rows, any), or (any,) for the same ids in every row.

    Returns:
        Shape (rows, any).
    """
    import torch

    found = torch.empty((len(keys), tokens.shape[-1]), dtype=torch.float64, device=tokens.device)
    for row, one in enumerate(keys):  # one at a time: its numbers stay in the processor's cache
        ids = tokens if tokens.dim() == 1 else tokens[row]
        bits = ids.add(1).mul_(STEP).add_(one)
        for shift, factor in ((30, FIRST), (27, SECOND)):
            bits.bitwise_xor_(_shifted(bits, shift)).mul_(factor)
        bits.bitwise_xor_(_shifted(bits, 31))
        uniform = _shifted(bits, 11).double().add_(0.5).mul_(2.0**-53)
        found[row] = uniform.log_().neg_().log_().neg_()
    return found


def _shifted(bits: Tensor, by: int) -> Tensor:
    """Bits shifted right, zeros coming in from the left."""
    return (bits >> by).bitwise_and_((1 << (64 - by)) - 1)
