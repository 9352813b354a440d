"""What this machine does in a second of the work that is to come: the prices of a forecast.

Layers of the model's shape are timed with the threads and kernels in use, in batches of two sizes
and with keys before them: three times, from which follow what a call, a token and a pair take. The
output head is timed alone. Means are taken, not the best times: on a busy machine that is what
there is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.run.forecast import Machine, Prices, Way
from harness.run.miniature import VALUE, adapt, make, quantize
from harness.run.prices import TOKENS, WEIGHTS, of_reading, of_training, of_writing
from harness.run.shape import Usual

SECONDS = 1.0  # that all of it should take
TIMINGS = {"read": 4, "train": 3, "write": 6}
STREAMED = 1 << 24  # weights that no cache holds: written tokens read all of them at each step
Clock = Callable[[], float]


def measure(
    usual: Mapping[Way, Usual], clock: Clock = time.perf_counter, seconds: float = SECONDS
) -> Machine:
    """Time what is to be computed.

    Args:
        usual: every way that will be computed in.
        clock: that seconds are taken from.
        seconds: that it may take, about; one call of everything is made at least.
    """
    import torch

    from harness.models.kernels import use_exact_kernels
    from harness.models.memory import free

    use_exact_kernels()
    timer = _Timer(clock, seconds / max(1, sum(TIMINGS[way.kind] for way in usual)))
    prices: dict[Way, Prices] = {}
    loading: dict[Way, float] = {}
    rough = False
    for way, its in usual.items():
        try:
            prices[way], packing = _of_way(timer, way, its)
        except Exception:  # a family's own code, made smaller than it may know to be
            prices[way], packing, rough = _of_products(timer, way, its), 0.0, True
        loading[way] = packing + (its.shape.file or 0) * _reading(clock, its)
    free()
    # What a process has on the machine does not stand in the memory of its GPU.
    before = 0.0 if any(way.device == "cuda" for way in usual) else _resident()
    return Machine(prices, loading, before, torch.get_num_threads(), rough)


@dataclass(frozen=True)
class _Timer:
    """Takes the mean times of calls, as often as their share of the seconds allows."""

    clock: Clock
    slot: float

    def means(self, *calls: Callable[[], object]) -> list[float]:
        """Of several calls, which take turns: what else the machine does slows all of them."""
        for call in calls:
            self._once(call)  # what is made at first use does not count
        spent, rounds, started = [0.0] * len(calls), 0, time.perf_counter()
        while not rounds or time.perf_counter() - started < self.slot * len(calls):
            for place, call in enumerate(calls):
                began = self.clock()
                self._once(call)
                spent[place] += self.clock() - began
            rounds += 1
        return [seconds / rounds for seconds in spent]

    def _once(self, call: Callable[[], object]) -> None:
        import torch

        call()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.synchronize()


def _of_way(timer: _Timer, way: Way, usual: Usual) -> tuple[Prices, float]:
    """The prices of a way, and the seconds that quantizing its base takes."""
    import torch

    shape = usual.shape
    layers = 1
    if way.kind == "write" and way.quantization == "none":
        layers = max(1, min(8, shape.layers, round(STREAMED * shape.layers / shape.stored)))
    model = make(usual.folder, layers, way.dtype, way.device)
    began = timer.clock()
    packed = quantize(model, way.quantization, way.dtype, way.device)
    packing = (timer.clock() - began) * shape.stored / packed if packed else 0.0
    if way.rank:
        model = adapt(model, way.rank)
    scale = shape.layers / layers
    if way.kind == "train":
        return of_training(timer.means, way, usual, model, scale), packing
    model.requires_grad_(False)
    with torch.inference_mode():
        if way.kind == "write":
            return of_writing(timer.means, way, usual, model, scale), packing
        return of_reading(timer.means, way, usual, model, scale), packing


def _of_products(timer: _Timer, way: Way, usual: Usual) -> Prices:
    """Of matrix products alone, where no layer can be made: less than everything takes."""
    import torch

    shape, dtype, device = usual.shape, getattr(torch, way.dtype), way.device
    columns = max(1, min(4 * shape.hidden, WEIGHTS // shape.hidden))
    weight = torch.full((columns, shape.hidden), VALUE, dtype=dtype, device=device)
    rows = max(1, round(min(usual.tokens, TOKENS[device])))
    states = torch.full((rows, shape.hidden), VALUE, dtype=dtype, device=device)
    (one,) = timer.means(lambda: torch.nn.functional.linear(states, weight))
    flop = one / (2.0 * rows * columns * shape.hidden)
    each = 2 if way.kind == "train" else 1  # the products of a frozen base's backward pass
    call = one * shape.linear / (columns * shape.hidden) if way.kind == "write" else 0.0
    token = 0.0 if way.kind == "write" else flop * shape.token * each
    return Prices(call, token, flop * shape.pair * each, flop * shape.head * each)


def _reading(clock: Clock, usual: Usual) -> float:
    """Seconds that a byte of the model's files takes to be read, of its first megabytes."""
    from harness.models.checkpoint import model_files

    files = model_files(usual.folder)
    if not files:
        return 0.0
    began, count = clock(), 0
    with files[0].open("rb") as file:
        while count < 1 << 25 and clock() - began < 0.1:
            block = file.read(1 << 22)
            if not block:
                break
            count += len(block)
    return (clock() - began) / max(1, count)


def _resident() -> float:
    """Bytes of this process now; where the system does not say, its peak so far."""
    from harness.models.memory import peak_memory

    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return float(peak_memory("cpu"))
    import resource

    return float(pages * resource.getpagesize())
