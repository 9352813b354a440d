"""The machine's fastest float32 matrix product that is still float32 by its error.

oneDNN offers CPUs with bf16 instructions a product that it calls "bf16" precision. On some
processors (AMD Zen 4 and later) that selects another kernel, not another precision, and doubles
the rate; on others (Intel AMX) it really rounds to bf16. The name does not tell, so the error is
measured here, against float64, and the switch stays on only where nothing is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

TORCH = "torch default"
TOLERANCE = 1e-6  # relative; float32 products of these shapes have 2e-7 to 6e-7
SHAPES = ((7, 576, 1536), (300, 1536, 576), (300, 64, 300), (128, 2048, 2048))


@cache
def use_exact_kernels() -> str:
    """Switch the faster product on if it is exact here; return what is used, for the record."""
    import torch

    # Any: attributes that not every version of torch has.
    backend: Any = getattr(torch.backends, "mkldnn", None)
    matmul: Any = getattr(backend, "matmul", None)
    if not hasattr(matmul, "fp32_precision") or not backend.is_available():
        return TORCH
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    if max(_error(*shape) for shape in SHAPES) <= TOLERANCE:
        return "oneDNN bf16 decomposition, float32 by its measured error"
    matmul.fp32_precision = before
    return TORCH


@contextmanager
def default_kernels() -> Iterator[None]:
    """While active, torch multiplies as it does when nobody chooses for it."""
    import torch

    if use_exact_kernels() == TORCH:
        yield
        return
    matmul = torch.backends.mkldnn.matmul
    chosen, matmul.fp32_precision = matmul.fp32_precision, "none"
    try:
        yield
    finally:
        matmul.fp32_precision = chosen


def _error(rows: int, inner: int, columns: int) -> float:
    import torch

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, inner, generator=generator)
    w = torch.randn(columns, inner, generator=generator)
    exact = x.double() @ w.double().T
    found = torch.nn.functional.linear(x, w)
    return float((found - exact).norm() / exact.norm())
