"""Counting what a model computes, and measuring what the machine could."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

GEMM = 2048  # rows, columns and inner length of the product that the rate is measured with
GEMM_SECONDS = 0.5


class FlopMeter:
    """Counts multiplications and additions (two for each pair) of a transformer's forwards.

    Linear layers: 2 · tokens · inputs · outputs, by hooks on every one, adapters included.
    Attention: 4 · heads · head size for every query and every key before it, in every layer with
    softmax attention, whether a window leaves keys out or a kernel computes more. Experts stored
    as one tensor, and linear attention's own recurrences, are not counted.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.flops = 0
        self._lock = threading.Lock()  # batches are computed side by side
        config = model.config.get_text_config()
        heads = getattr(config, "num_attention_heads", None) or 0  # a state-space model has none
        size = getattr(config, "head_dim", None) or (config.hidden_size // heads if heads else 0)
        kinds = getattr(config, "layer_types", None) or ["attention"] * config.num_hidden_layers
        layers = sum("attention" in kind and "linear" not in kind for kind in kinds)
        self._per_pair = 4 * layers * heads * size

    @contextmanager
    def counting(self) -> Iterator[None]:
        """While active, every forward of the model is counted."""
        import torch
        from transformers.pytorch_utils import Conv1D

        handles = [self.model.register_forward_pre_hook(self._attention, with_kwargs=True)]
        handles += [
            module.register_forward_hook(self._linear)
            for module in self.model.modules()
            if isinstance(module, torch.nn.Linear | Conv1D)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _attention(self, module: Any, arguments: Any, named: dict[str, Any]) -> None:
        ids = named["input_ids"] if "input_ids" in named else arguments[0]
        past = named.get("past_key_values")
        before = past.get_seq_length() if past is not None else 0
        rows, length = ids.shape
        self._add(self._per_pair * rows * length * (2 * before + length + 1) // 2)

    def _linear(self, module: Any, arguments: Any, output: Any) -> None:
        inputs = arguments[0]
        self._add(2 * inputs.numel() * output.shape[-1])

    def _add(self, flops: int) -> None:
        with self._lock:
            self.flops += flops


def gemm_rate(device: Any, dtype: Any) -> float:
    """The best rate of a large matrix product with the kernels in use, in FLOP/s."""
    import torch

    a = torch.randn(GEMM, GEMM, device=device, dtype=dtype)
    b = torch.randn(GEMM, GEMM, device=device, dtype=dtype)

    def rounds(count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            torch.nn.functional.linear(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    rounds(2)
    count = max(1, round(GEMM_SECONDS / rounds(1)))
    return 2 * GEMM**3 * count / min(rounds(count) for _ in range(3))
