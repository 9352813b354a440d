"""A forecast in words: rounded, so that no figure looks surer than an estimate is."""

from __future__ import annotations

import math
from collections.abc import Iterator

from harness.run.forecast import Forecast, Line, spread

WORTH = 0.1  # share of the time that a hint has to save
LONG = 60.0  # seconds; a shorter run needs no hints
MACHINES = 4  # slots that a hint speaks of
GIB = 2.0**30


def header(found: Forecast) -> str:
    """What stands in the header of a run; empty where there is nothing to say."""
    if found.total is None or not found.jobs:
        return ""
    most = "at most " if found.bounded else ""
    parts = [f"{most}{about(found.total)} for {_cells(found.cells - found.stored)}"]
    parts.append(f"{found.stored} stored")
    if found.memory:
        parts.append(f"{memory(found.memory)} of memory")
    if found.calls:
        parts.append(f"and {found.calls:,} questions to an endpoint")
    return ", ".join(parts)


def lines(found: Forecast) -> list[str]:
    """What a dry run says: every label, all of them, and what would make it shorter."""
    from tabulate import tabulate

    rows = [
        (line.name, line.cells, line.stored, line.cells - line.stored, _time(line))
        for line in found.lines
    ]
    headers = ("strategy", "cells", "stored", "to compute", "time")
    table = tabulate(rows, headers, colalign=("left", *["right"] * 4))
    return [*table.splitlines(), "", *_sums(found), *_hints(found), "Nothing was computed."]


def _time(line: Line) -> str:
    if line.seconds is None or line.cells == line.stored:
        return "–"
    # The cells of two labels can be the same: with one demonstration, a strategy has no order.
    return about(line.seconds) if line.seconds else "shared"


def _sums(found: Forecast) -> Iterator[str]:
    left = found.cells - found.stored
    if not left and not found.jobs:
        yield f"Nothing is left to compute: {_cells(found.cells)}, {found.stored} stored."
        return
    if found.total is None and found.jobs:
        yield (
            f"{_cells(left)} to compute, {found.tokens:,.0f} tokens: so little that this machine "
            f"was not measured."
        )
    elif found.total is not None:
        at_once = f", {found.slots} jobs at a time" if found.slots > 1 else ""
        most = "At most " if found.bounded else ""
        took = f"{most}{about(found.total)}"
        yield f"{took[0].upper()}{took[1:]} for {_cells(left)}{at_once}."
    if found.memory:
        each = " each" if found.slots > 1 else ""
        yield f"Memory at the peak: {memory(found.memory)}{each}{_of_gpu(found)}."
    if found.bounded:
        yield (
            "Answers are counted as long as they may be (max_new_tokens); most models end many of "
            "them sooner."
        )
    if found.rough:
        yield (
            "This model's layers could not be timed: the time is that of its matrix products "
            "alone, and the run takes longer."
        )
    if found.calls:
        yield (
            f"Judging asks an endpoint {found.calls:,} questions, whose time is not known: "
            f"--judge-dry-run."
        )


def _hints(found: Forecast) -> list[str]:
    """What would make a run shorter, and what that costs."""
    if found.total is None or found.total < LONG:
        return []
    hints = [*_fewer(found), *_elsewhere(found)]
    return ["", "Shorter:", *(f"  {hint}" for hint in hints), ""] if hints else []


def _fewer(found: Forecast) -> Iterator[str]:
    assert found.total is not None
    seeds = sorted({job.seed for job in found.jobs if job.seed is not None})
    if len(seeds) > 1:
        one = found.without(lambda job: job.seed in seeds[1:])
        if _worth(found, one):
            yield (
                f"--seeds={seeds[0]}: {about(one)}; no ± over seeds, and sure for this seed only"
            )
    half = spread(
        [s if job.training else s / 2 for job, s in zip(found.jobs, found.seconds, strict=True)],
        found.slots,
    )
    if _worth(found, half):
        yield f"--limit with half of the rows: {about(half)}; intervals 1.4 times as wide"
    sizes = sorted({job.k for job in found.jobs if job.k})
    if len(sizes) > 1:
        fewer = found.without(lambda job: job.k == sizes[-1])
        if _worth(found, fewer):
            shown = ",".join(map(str, sizes[:-1]))
            yield f"--k={shown}: {about(fewer)}; nothing is known of k = {sizes[-1]}"
    steps = spread(
        [s / 2 if job.training else s for job, s in zip(found.jobs, found.seconds, strict=True)],
        found.slots,
    )
    if _worth(found, steps):
        yield f"half of the training steps (qlora.max_steps): {about(steps)}; another adapter"


def _elsewhere(found: Forecast) -> Iterator[str]:
    assert found.total is not None
    if found.slots < MACHINES and len(found.jobs) > 1:
        many = spread(found.seconds, MACHINES)
        yield (
            f"--engine=ray with {MACHINES} machines like this one: {about(many)}; cores of this "
            f"one are in use already"
        )
    if "cpu" in _devices(found):
        yield "a GPU (--device=cuda): not measured here; a dry run there says how long"


def _of_gpu(found: Forecast) -> str:
    return ", of the GPU" if "cuda" in _devices(found) else ""


def _devices(found: Forecast) -> set[str]:
    return {way.device for job in found.jobs for way, _ in job.work}


def _worth(found: Forecast, seconds: float) -> bool:
    """Whether so many seconds are less by more than rounding hides."""
    total = found.total or 0.0
    return seconds <= (1 - WORTH) * total and about(seconds) != about(total)


def about(seconds: float) -> str:
    """A time, so coarse that it does not pretend: ``about 7 min``."""
    if seconds < 10:
        return "under 10 s"
    if seconds < 95:
        return f"about {_to(seconds, 10)} s"
    minutes = seconds / 60
    if minutes < 57.5:
        return f"about {_to(minutes, 1 if minutes < 15 else 5)} min"
    hours = minutes / 60
    if hours < 10:
        return f"about {_to(2 * hours, 1) / 2:g} h"
    return f"about {_to(hours, 1)} h" if hours < 48 else f"about {_to(hours / 24, 1)} days"


def _to(value: float, step: int) -> int:
    return max(step, step * math.floor(value / step + 0.5))


def memory(size: float) -> str:
    """Bytes, to two digits: ``about 1.4 GiB``."""
    gib = size / GIB
    return f"about {gib:.1f} GiB" if gib < 9.95 else f"about {gib:,.0f} GiB"


def _cells(count: int) -> str:
    return f"{count:,} cell{'' if count == 1 else 's'}"
