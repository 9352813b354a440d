"""4-bit weights decoded once for all tokens, where memory allows: CPUs decode them at every step.

bitsandbytes multiplies by the decoded weight, so the products are the same to the bit.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from harness.models.loading import LoadedModel

SHARE = 0.5  # of the free memory that decoded weights may take
FLOAT = 4  # bytes


@contextmanager
def unpacked(loaded: LoadedModel) -> Iterator[int]:
    """Hold the decoded weights of a model's 4-bit layers while it writes on a CPU.

    Yields:
        How many layers are decoded; 0 on other devices, or where they would not fit.
    """
    layers = _packed(loaded) if loaded.device.type == "cpu" else []
    size = FLOAT * sum(layer.in_features * layer.out_features for layer in layers)
    if not layers or size > SHARE * _free():
        yield 0
        return
    try:
        for layer in layers:
            layer.forward = _decoded(layer)
        yield len(layers)
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def _packed(loaded: LoadedModel) -> list[Any]:
    """The 4-bit layers whose arithmetic is float32, as that of everything else is."""
    import torch

    return [
        module
        for module in loaded.model.modules()
        if type(getattr(module, "weight", None)).__name__ == "Params4bit"
        and getattr(module, "compute_dtype", None) == torch.float32
    ]


def _decoded(layer: Any) -> Any:
    import torch
    from bitsandbytes.functional import dequantize_4bit

    weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state).to(torch.float32)

    def forward(inputs: Any) -> Any:
        return torch.nn.functional.linear(inputs, weight, layer.bias)

    return forward


def _free() -> float:
    """Bytes of memory that nobody uses; 0 where the system does not say."""
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError):
        return 0.0
