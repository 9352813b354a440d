"""Attention from its formula, and the shapes in which it is looked at."""

from __future__ import annotations

from typing import Any

GEOMETRY = [
    # rows, heads, key heads, length, shared, size, value size
    (3, 6, 2, 17, 29, 8, 8),
    (3, 4, 4, 17, 29, 8, 8),
    (2, 4, 1, 5, 16, 16, 16),
    (3, 6, 2, 1, 29, 8, 8),  # one own key: it sees itself
    (3, 6, 2, 17, 1, 8, 8),  # a prefix of one token
    (3, 6, 2, 17, 0, 8, 8),  # no prefix
    (1, 2, 2, 33, 40, 8, 8),  # sums padded beyond a multiple of 32
    (2, 6, 2, 7, 9, 12, 12),  # a head that has to be padded
    (2, 4, 4, 7, 9, 24, 16),  # latent attention: values smaller than keys
]


def definition(query: Any, key: Any, value: Any, scale: float, before: int) -> Any:
    """Softmax attention from its formula: query i sees the first ``before`` keys and its past."""
    import torch

    rows, heads, length, _ = query.shape
    groups = heads // key.shape[1]
    output = torch.zeros(rows, length, heads, value.shape[-1], dtype=torch.float64)
    for row in range(rows):
        for head in range(heads):
            keys = key[row, head // groups].double()
            for place in range(length):
                seen = before + place + 1
                products = keys[:seen] @ query[row, head, place].double() * scale
                weights = torch.exp(products - products.max())
                weighted = (weights / weights.sum()) @ value[row, head // groups, :seen].double()
                output[row, place, head] = weighted
    return output
