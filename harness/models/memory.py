"""How much memory a cell took, and what to do when there is none left."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import sys
from pathlib import Path

# What RuntimeErrors say where torch has no class of its own: CPU allocator, driver, cuBLAS.
NO_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def reset_peak(device: str) -> None:
    """Start counting anew, where the system can: CUDA devices, and processes on Linux.

    What earlier work has freed goes back to the system first, so that it is not counted.
    """
    _trim()
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
    else:
        with contextlib.suppress(OSError):  # not Linux, or not permitted
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory(device: str) -> int:
    """Peak memory in bytes since ``reset_peak``: of the device on CUDA, else of this process.

    Where the system cannot count anew, since the process started.
    """
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    with contextlib.suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch ran out of memory; on CPUs it says so in a RuntimeError."""
    return type(error).__name__ == "OutOfMemoryError" or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)
    )


def free() -> None:
    """Give back what nothing refers to any more, on the device and in the process."""
    gc.collect()
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    _trim()


def _trim() -> None:
    with contextlib.suppress(OSError, AttributeError):  # glibc has it, others have not
        ctypes.CDLL(None).malloc_trim(0)
