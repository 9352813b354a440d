"""What so many rows could not have shown.

    half width    z₀.₉₇₅ · sd / √n
    detectable    (z₀.₉₇₅ + z_power) · sd / √n, what a two-sided test at 5 % finds that often
    rows needed   ((z₀.₉₇₅ + z_power) · sd / difference)²

(Cohen, Statistical Power Analysis, 2nd ed. 1988, chapter 2, with normal quantiles.) Of a win rate
the sd of a row's verdict is ½ at most, which is where no row ties and both systems are as good.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.statistics.intervals import LEVEL
from harness.statistics.paired import POWER

WORST = 0.5  # the largest standard deviation that a verdict from 0 to 1 can have


@dataclass(frozen=True)
class Unseen:
    """What so many rows can show, on the scale of their values.

    Attributes:
        rows: how many.
        half_width: of the 95 % interval.
        detectable: a difference that is found four times in five.
    """

    rows: int
    half_width: float
    detectable: float


def unseen(rows: int, spread: float) -> Unseen:
    """What rows can show whose values, or paired differences, have this standard deviation.

    Raises:
        ValueError: there are no rows.
    """
    if rows < 1:
        raise ValueError(f"rows={rows}: expected at least 1")
    error = spread / np.sqrt(rows)
    limit, found = _quantiles(POWER)
    return Unseen(rows, float(limit * error), float((limit + found) * error))


def detectable_rate(rows: int) -> Unseen:
    """What rows can show of a win rate, at the most that its verdicts can vary."""
    return unseen(rows, WORST)


def rows_needed(difference: float, spread: float, power: float = POWER) -> int:
    """How many rows show a difference of two systems, paired, two-sided at 5 %.

    Args:
        difference: on the scale of the score; not 0.
        spread: standard deviation of the rows' differences.
        power: how often it is to be found.
    """
    needed = sum(_quantiles(power)) * spread / abs(difference)
    return max(2, int(np.ceil(needed**2)))


def _quantiles(power: float) -> tuple[float, float]:
    from scipy.special import ndtri

    return float(ndtri((1 + LEVEL) / 2)), float(ndtri(power))
