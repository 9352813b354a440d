"""A judge's mean, corrected by the rows that people judged too.

Prediction-powered inference (Angelopoulos et al. 2023, "PPI++"): with f_i the judge's score of row
i, y_i the human's of the n rows with a label, N the rows without, and λ how much the judge is
believed,

    θ = mean_N(λ f) + mean_n(y − λ f)        λ = cov_n(f, y) / ((1 + n/N) var(f))

λ makes the variance smallest: 0 for a judge that knows nothing, which leaves the labels' mean. The
interval uses Student's t, because labels are few, with the degrees of freedom of a sum of two
variances (Satterthwaite 1946): N − 1 of the first, and n − 2 of the second, one of them for λ.
The score may be on any scale: of wins, 0, ½ and 1, the mean is a win rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.metrics.base import Array
from harness.statistics.intervals import LEVEL, Interval

LEAST = 30  # labels; tests/statistics/test_corrected.py sees how often the interval covers


@dataclass(frozen=True)
class Corrected:
    """A corrected mean, and what it is made of.

    Attributes:
        mean: with its interval.
        belief: λ.
        labels: rows with a human's score.
        judged: the judge's own mean over all rows.
    """

    mean: Interval
    belief: float
    labels: int
    judged: float


def corrected_mean(judged: Array, labels: Array) -> Corrected:
    """The mean of what people would say of all rows.

    Args:
        judged: the judge's score of every row; shape (rows,), NaN where it gave none: such rows
            are left out.
        labels: people's scores; NaN where there is none.

    Raises:
        ValueError: fewer than 30 rows have a label.
    """
    given = np.isfinite(judged)
    judged, labels = judged[given], labels[given]
    known = np.isfinite(labels)
    n, own, human, rest = int(known.sum()), judged[known], labels[known], judged[~known]
    if n < LEAST:
        raise ValueError(f"{n} rows have a human's score; a corrected mean needs at least {LEAST}")
    variance = float(judged.var(ddof=1))
    belief = 0.0
    if variance and len(rest) > 1:  # without rows that only the judge saw, it has nothing to add
        together = float(np.cov(own, human, ddof=1)[0, 1])
        belief = min(max(together / ((1 + n / len(rest)) * variance), 0.0), 1.0)
    left = human - belief * own
    mean, freedom = float(left.mean()), n - (2 if belief else 1)
    squares = float(((left - mean) ** 2).sum())
    parts = [(squares / freedom / n, freedom)]
    if belief:
        mean += belief * float(rest.mean())
        parts.append((belief**2 * float(rest.var(ddof=1)) / len(rest), len(rest) - 1))
    reach = _reach(parts)
    return Corrected(Interval(mean, mean - reach, mean + reach), belief, n, float(judged.mean()))


def _reach(parts: Sequence[tuple[float, int]]) -> float:
    """Half the interval of a sum of means with these variances and degrees of freedom."""
    from scipy.special import stdtrit

    total = sum(one for one, _ in parts)
    if total == 0:
        return 0.0
    freedom = total**2 / sum(one**2 / df for one, df in parts)
    return float(stdtrit(freedom, (1 + LEVEL) / 2) * np.sqrt(total))
