"""A judge's mean, corrected by the rows that people judged too.

Prediction-powered inference (Angelopoulos et al. 2023, "PPI++"): with f_i the judge's score of row
i, y_i the human's of the n rows with a label, N the rows without, and λ how much the judge is
believed,

    θ = mean_N(λ f) + mean_n(y − λ f)        λ = cov_n(f, y) / ((1 + n/N) var(f))

λ makes the variance smallest: 0 for a judge that knows nothing, which leaves the labels' mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.metrics.base import Array
from harness.statistics.intervals import LEVEL, Interval

LEAST = 50  # labels, below which the normal approximation is not to be trusted


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
        judged: the judge's score of every row; shape (rows,), finite.
        labels: people's scores; NaN where there is none.

    Raises:
        ValueError: fewer than 50 rows have a label.
    """
    from scipy.special import ndtri

    known = np.isfinite(labels)
    n, total = int(known.sum()), len(judged)
    if n < LEAST:
        raise ValueError(f"{n} rows have a human's score; a corrected mean needs at least {LEAST}")
    own, human = judged[known], labels[known]
    rest = judged[~known]
    everything = rest if len(rest) > 1 else judged
    share = n / len(everything)
    variance = float(judged.var(ddof=1))
    together = float(np.cov(own, human, ddof=1)[0, 1])
    belief = min(max(together / ((1 + share) * variance), 0.0), 1.0) if variance else 0.0
    mean = belief * float(everything.mean()) + float((human - belief * own).mean())
    error = np.sqrt(
        belief**2 * everything.var(ddof=1) / len(everything)
        + (human - belief * own).var(ddof=1) / n
    )
    reach = float(ndtri((1 + LEVEL) / 2)) * float(error)
    assert total >= n
    return Corrected(Interval(mean, mean - reach, mean + reach), belief, n, float(judged.mean()))
