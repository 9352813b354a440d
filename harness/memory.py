"""How much memory a cell took."""

from __future__ import annotations

import resource
import sys


def peak_memory(device: str) -> int:
    """Peak memory in bytes: of the device on CUDA (since the last call), else of this process."""
    if device == "cuda":
        import torch

        peak = int(torch.cuda.max_memory_allocated())
        torch.cuda.reset_peak_memory_stats()
        return peak
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB
