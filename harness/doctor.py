"""What this machine has for adaptbench, and what to do about what it has not.

Each check is a line: ``ok``, ``note`` where something is missing that only some need, or ``wrong``
where runs would fail. A check that itself goes wrong says so in its line, and spoils no other.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import __version__
from harness.errors import one_line
from harness.files import CACHE_VARIABLE, cache_dir

OK, NOTE, WRONG = "ok", "note", "wrong"
NEEDED_BYTES = 2 * 10**9  # of a first run: the embedded model, and results
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


@dataclass(frozen=True)
class Finding:
    """One line.

    Attributes:
        state: ``ok``, ``note`` or ``wrong``.
        what: was looked at.
        found: what is there.
        remedy: what to do; empty where nothing has to be done.
    """

    state: str
    what: str
    found: str
    remedy: str = ""


Check = Callable[[], Iterable[Finding]]


def examine_machine(results: Path) -> list[Finding]:
    """Look at everything.

    Args:
        results: the folder that results would be written into.
    """
    checks: Sequence[tuple[str, Check]] = (
        ("Python", python),
        ("packages", packages),
        ("processor", processor),
        ("GPU", gpu),
        ("4-bit weights", four_bit),
        ("disk", lambda: disk(cache_dir(), results)),
        ("browser", browser),
        ("judges", judges),
    )
    return [finding for what, check in checks for finding in _safe(what, check)]


def _safe(what: str, check: Check) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:  # whatever a broken installation raises
        yield Finding(WRONG, what, f"{type(error).__name__}: {one_line(error)}", "install it anew")


def python() -> Iterator[Finding]:
    """The interpreter."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    old = sys.version_info < (3, 10)
    yield Finding(WRONG if old else OK, "Python", found, "use 3.10 or later" if old else "")


def packages() -> Iterator[Finding]:
    """Every package that adaptbench needs, against the versions that it is made for."""
    from packaging.requirements import Requirement

    yield Finding(OK, "adaptbench", __version__)
    for text in importlib.metadata.requires("adaptbench") or ():
        needed = Requirement(text)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        install = f"pip install '{needed.name}{needed.specifier}'"
        try:
            found = importlib.metadata.version(needed.name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(WRONG, needed.name, "not installed", install)
            continue
        right = needed.specifier.contains(found, prereleases=True)
        text = found if right else f"{found}, made for {needed.specifier}"
        yield Finding(OK if right else WRONG, needed.name, text, "" if right else install)


def processor() -> Iterator[Finding]:
    """Cores, the instructions that speed depends on, and the matrix product that is used."""
    from harness.models.fingerprint import hardware
    from harness.models.kernels import use_exact_kernels

    facts = hardware("cpu")
    known = _cpu_flags()
    has = ", ".join(flag for flag in FLAGS if flag in known) if known else "flags not known"
    name = f"{facts['processor']}, {facts['cores']} cores"
    yield Finding(OK, "processor", f"{name}; {has or 'none of ' + ', '.join(FLAGS)}")
    yield Finding(OK, "matrix product", use_exact_kernels())
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    busy = load > 0.5 * (os.cpu_count() or 1)
    yield Finding(
        NOTE if busy else OK,
        "load",
        f"{load:.1f} on {facts['cores']} cores",
        "other programs are computing; runs take longer" if busy else "",
    )


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return set(flags.partition(":")[2].split())


def gpu() -> Iterator[Finding]:
    """CUDA devices, and whether this torch can use them."""
    import torch

    from harness.models.fingerprint import cuda_device_count, hardware

    count = cuda_device_count()
    if count:
        usable = torch.cuda.is_available()
        remedy = "" if usable else "install the torch that is made for this driver's CUDA"
        found = f"{count} × {hardware('cuda')['gpu']}, torch {torch.__version__}"
        yield Finding(OK if usable else WRONG, "GPU", found, remedy)
    elif shutil.which("nvidia-smi"):
        found = f"a driver is here, and torch {torch.__version__} cannot use it"
        yield Finding(NOTE, "GPU", found, "install a torch with CUDA; until then runs use the CPU")
    else:
        yield Finding(NOTE, "GPU", "none", "runs use the CPU; small models are fine on it")


def four_bit() -> Iterator[Finding]:
    """Whether bitsandbytes quantizes and multiplies here, which QLoRA needs."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # of kernels that are optional

    import torch
    from bitsandbytes import functional

    weights = torch.linspace(-1, 1, 64 * 64).reshape(64, 64)
    packed, state = functional.quantize_4bit(weights, quant_type="nf4")
    error = float((functional.dequantize_4bit(packed, state) - weights).abs().max())
    right = error < 0.2
    yield Finding(
        OK if right else WRONG,
        "4-bit weights",
        f"bitsandbytes quantizes to NF4 on this machine, off by {error:.2f} at most",
        "" if right else "install bitsandbytes anew, or use --quant=none",
    )


def disk(cache: Path, results: Path) -> Iterator[Finding]:
    """Room for models and results, and whether they can be written."""
    moves = f"{CACHE_VARIABLE} names another folder"
    places = (("cache", cache, moves), ("results", results, "--results-dir=DIR names another"))
    for what, folder, remedy in places:
        there = next(one for one in (folder, *folder.parents) if one.exists())
        free = shutil.disk_usage(there).free
        found = f"{folder}, {free / 1e9:.1f} GB free"
        if not there.is_dir():
            yield Finding(WRONG, what, f"{there} is a file", remedy)
        elif not os.access(there, os.W_OK):
            yield Finding(WRONG, what, f"{folder} cannot be written", remedy)
        elif free < NEEDED_BYTES:
            yield Finding(WRONG, what, found, f"a first run needs 2 GB; {remedy}")
        else:
            yield Finding(OK, what, found)


def browser() -> Iterator[Finding]:
    """A browser and Chinese fonts: reports need any browser, their tests one of these."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    remedy = "" if found else "only the report's own tests need it: apt-get install chromium"
    yield Finding(OK if found else NOTE, "browser", found or "no Chromium", remedy)


def judges() -> Iterator[Finding]:
    """What judges behind an endpoint need."""
    try:
        found = f"openai {importlib.metadata.version('openai')}"
        yield Finding(OK, "judges by endpoint", found)
    except importlib.metadata.PackageNotFoundError:
        remedy = "only --judge=openai:MODEL needs it: pip install 'adaptbench[judge]'"
        yield Finding(NOTE, "judges by endpoint", "openai is not installed", remedy)
