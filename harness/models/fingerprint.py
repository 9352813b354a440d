"""What determines a number, found out without importing torch: versions, bytes, the device."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from harness.core import digest
from harness.errors import ModelError, OptionError, StoreError
from harness.files import cache_dir, sha256, write_atomically

# What of a model or adapter folder can change a score. Other files (README, optimizer states)
# cannot.
WEIGHTS = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")

FOUR_BIT = ("nf4", "fp4")


def version(package: str) -> str:
    """Return the installed version of ``package``, or ``none``."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def libraries(*, quantized: bool, adapted: bool) -> tuple[tuple[str, str], ...]:
    """Return (package, version) of every library that takes part in computing a number."""
    names = ["torch", "transformers", "tokenizers"]
    if adapted:
        names += ["peft", "accelerate"]
    if quantized:
        names += ["bitsandbytes"]
    return tuple((name, version(name)) for name in sorted(names))


@cache
def cuda_device_count() -> int:
    """Number of visible CUDA devices, asked of the driver: importing torch takes seconds."""
    if version("torch").endswith("+cpu"):
        return 0
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def resolve_device(device: str) -> str:
    """Turn ``auto`` into ``cuda`` where there is one, else ``cpu``.

    Raises:
        OptionError: ``cuda`` was asked for and there is none.
    """
    if device == "cuda" and not cuda_device_count():
        raise OptionError("--device=cuda: no usable CUDA device; use --device=cpu or auto")
    if device == "auto":
        return "cuda" if cuda_device_count() else "cpu"
    return device


def resolve_dtype(dtype: str, device: str) -> str:
    """Turn ``auto`` into float32 on the CPU and bfloat16 on CUDA."""
    if dtype == "auto":
        return "bfloat16" if device == "cuda" else "float32"
    return dtype


def folder_digest(folder: Path, patterns: Iterable[str] = WEIGHTS) -> str:
    """SHA-256 over the names and bytes of the files in ``folder`` that can change a score.

    Hashing gigabytes at every start would be slow, so the hash of a file is remembered in the
    user's cache directory together with its size, modification time and inode, as build tools
    do; any of these changing makes it be read again.

    Raises:
        ModelError: a file cannot be read.
    """
    files = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    return digest([[path.name, file_digest(path)] for path in files])


def file_digest(path: Path) -> str:
    """SHA-256 of a file, remembered until it changes: see :func:`folder_digest`.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        stat = path.stat()
        seen = [str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ino]
        remembered = cache_dir() / "digests" / f"{digest(seen)}.json"
        try:
            known = json.loads(remembered.read_text(encoding="utf-8"))
            if isinstance(known, dict) and len(known.get("sha256", "")) == 64:
                return str(known["sha256"])
        except (OSError, ValueError):
            pass
        value = sha256(path)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    if stat.st_size > 1 << 20:  # small files are faster read than remembered
        with contextlib.suppress(StoreError):  # a cache that cannot be written costs time only
            write_atomically(remembered, json.dumps({"path": str(path), "sha256": value}))
    return value


def hardware(device: str) -> dict[str, str | int | None]:
    """Describe the machine for the report: nothing that changes from run to run."""
    facts: dict[str, str | int | None] = {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "device": device,
    }
    if device == "cuda":
        facts["gpu"] = _gpu_name()
    return facts


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _gpu_name() -> str:
    driver = ctypes.CDLL("libcuda.so.1")
    name = ctypes.create_string_buffer(100)
    handle = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(handle), 0):
        return "unknown"
    driver.cuDeviceGetName(name, len(name), handle)
    return name.value.decode("utf-8", "replace")
