"""Which token comes next, and whether rounding could have decided it.

Logits are changed in transformers' order: repetition penalty, n-grams that may not come again, no
end before ``min_new_tokens``; and, where tokens are drawn, temperature, top_k, top_p, min_p. What
is then the highest is taken, where tokens are drawn with Gumbel noise added.

The logits of a row differ a little with the batch it stands in, in float32 by up to 1e-4 nats. So
each choice says whether another one was near: whether another token would come first, or come in
question at all, if the logits moved by no more than that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core import DecodingSpec
from harness.generation.noise import gumbel

if TYPE_CHECKING:
    from torch import Tensor

NEAR = 1e-4  # nats: nearer choices are made again from the row alone; more where more was seen
MASS = 1e-5  # probability: nearer to top_p's bound, a token is in question
CANDIDATES = 512  # most likely tokens that are looked at first where not all may be drawn


@dataclass(frozen=True)
class Choice:
    """The next token of each row.

    Attributes:
        tokens: ids, shape (rows,).
        logprobs: of these under the model's own distribution, float64, shape (rows,).
        near: whether another choice was so near that rounding could have made it, shape (rows,).
    """

    tokens: Tensor
    logprobs: Tensor
    near: Tensor


def choose(
    logits: Tensor,
    written: Sequence[Sequence[int]],
    decoding: DecodingSpec,
    ends: Sequence[int],
    keys: Sequence[int],
    near: float = NEAR,
) -> Choice:
    """Choose each row's next token.

    Args:
        logits: the model's own, float32, shape (rows, vocabulary).
        written: the tokens of each row's answer so far.
        decoding: by which rules.
        ends: ids of end tokens.
        keys: of each row's noise at this step; not read where nothing is drawn.
        near: nats that rounding may move a logit by; 0 where the choice is final.
    """
    changed = process(logits, written, decoding, ends)
    if decoding.do_sample:
        near /= min(1.0, decoding.temperature)
        tokens, close = _draw(*warp(changed, decoding, near), keys, near)
    else:
        values, indices = changed.topk(2, dim=-1)
        tokens, close = indices[:, 0], values[:, 0] - values[:, 1] < near
    return Choice(tokens, logprob(logits, tokens), close)


def logprob(logits: Tensor, tokens: Tensor) -> Tensor:
    """Log-probability of a token in each row, float64; the sum is taken in float64."""
    import torch

    largest = logits.amax(dim=-1, keepdim=True)
    total = (logits - largest).exp_().sum(dim=-1, dtype=torch.float64)
    picked = (logits.gather(1, tokens[:, None]) - largest).squeeze(1).double()
    return picked - total.log()


def process(
    logits: Tensor, written: Sequence[Sequence[int]], decoding: DecodingSpec, ends: Sequence[int]
) -> Tensor:
    """Logits after what holds for every way of decoding; shape as before."""
    import torch

    penalty, size = decoding.repetition_penalty, decoding.no_repeat_ngram_size
    early = [len(row) < decoding.min_new_tokens for row in written]
    if penalty == 1.0 and not size and not any(early):
        return logits
    changed = logits.clone()
    for row, tokens in enumerate(written):
        if penalty != 1.0 and tokens:
            ids = torch.tensor(sorted(set(tokens)), device=logits.device)
            values = changed[row, ids]
            changed[row, ids] = torch.where(values < 0, values * penalty, values / penalty)
        if size:
            changed[row, _completing(tokens, size)] = float("-inf")
        if early[row]:
            changed[row, list(ends)] = float("-inf")
    return changed


def _completing(tokens: Sequence[int], size: int) -> list[int]:
    """Tokens that would complete a sequence of ``size`` tokens that has been written before."""
    if len(tokens) + 1 < size:
        return []
    last = tuple(tokens[len(tokens) - size + 1 :])
    starts = range(len(tokens) - size + 1)
    return [tokens[at + size - 1] for at in starts if tuple(tokens[at : at + size - 1]) == last]


def warp(
    logits: Tensor, decoding: DecodingSpec, near: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """What may be drawn, and what could be if the scores moved by ``near``.

    Returns:
        ids: shape (rows, some), or (vocabulary,) where every token may be drawn;
        scores: log-probabilities up to a constant of the row, −∞ for what may not be drawn;
        unsure: whether rounding could have decided if a token may be drawn, shape of scores.
    """
    import torch

    scaled = logits / decoding.temperature
    if not decoding.top_k and decoding.top_p >= 1.0 and not decoding.min_p:
        ids = torch.arange(logits.shape[-1], device=logits.device)
        return ids, scaled, torch.zeros_like(scaled, dtype=torch.bool)
    size = logits.shape[-1]
    count = min(size, max(CANDIDATES, decoding.top_k + 8))
    while True:
        values, ids = scaled.topk(count, dim=-1)
        kept, unsure = _kept(values, scaled, decoding, near)
        # Sorted, what may be drawn stands first; if the last one may, there could be more.
        if count == size or not bool((kept | unsure)[:, -1].any()):
            return ids, values.masked_fill(~(kept | unsure), float("-inf")), unsure
        count = min(size, count * 8)


def _kept(
    values: Tensor, scaled: Tensor, decoding: DecodingSpec, near: float
) -> tuple[Tensor, Tensor]:
    """Which of the sorted values may be drawn, and of which rounding decides; as ``values``."""
    import torch

    kept = torch.ones_like(values, dtype=torch.bool)
    unsure = torch.zeros_like(kept)
    total = scaled.double().logsumexp(dim=-1, keepdim=True)
    if decoding.top_k:
        k = min(decoding.top_k, values.shape[-1])
        bound = values[:, k - 1 : k]  # equal ones are all kept, as in transformers
        kept &= values >= bound
        unsure |= ((values - bound).abs() < near) & _contested(values, bound, near, k)
        total = values.masked_fill(~kept, float("-inf")).double().logsumexp(-1, keepdim=True)
    if decoding.top_p < 1.0:
        likely = (values.double() - total).exp().masked_fill(~kept, 0.0)
        before = likely.cumsum(dim=-1) - likely  # probability of what is more likely
        inside = before < decoding.top_p
        inside[:, 0] = True
        doubtful = (before - decoding.top_p).abs() < (MASS if near else 0.0)
        doubtful[:, 0] = False
        doubtful |= _swapped(values, inside, near)
        unsure = (unsure & inside) | (doubtful & kept)
        kept &= inside
    if decoding.min_p:
        depth = values[:, :1] - values + math.log(decoding.min_p)
        unsure = (unsure & (depth <= near)) | ((depth.abs() < near) & kept)
        kept &= depth <= 0
        kept[:, 0] = True
    unsure[:, 0] = False
    return kept, unsure


def _contested(values: Tensor, bound: Tensor, near: float, k: int) -> Tensor:
    """Whether a row has a value outside of its first ``k`` that is as good as their last."""
    if k >= values.shape[-1]:
        return bound.new_zeros(bound.shape).bool()
    return bound - values[:, k : k + 1] < near


def _swapped(values: Tensor, inside: Tensor, near: float) -> Tensor:
    """Values so near to the bound of what is inside that they could stand on its other side."""
    last = values.masked_fill(~inside, float("inf")).amin(dim=-1, keepdim=True)
    first = values.masked_fill(inside, float("-inf")).amax(dim=-1, keepdim=True)
    close = last - first < near
    return close & (((values - last).abs() < near) | ((values - first).abs() < near))


def _draw(
    ids: Tensor, scores: Tensor, unsure: Tensor, keys: Sequence[int], near: float
) -> tuple[Tensor, Tensor]:
    """The token of each row that is highest with noise, and whether another one was near."""
    noisy = scores.double().add_(gumbel(keys, ids))
    values, places = noisy.topk(min(2, noisy.shape[-1]), dim=-1)
    best = places[:, :1]
    close = unsure.gather(1, best).squeeze(1)
    if values.shape[-1] > 1:
        close |= values[:, 0] - values[:, 1] < near
    tokens = (ids.expand(len(keys), -1) if ids.dim() == 1 else ids).gather(1, best).squeeze(1)
    return tokens, close
