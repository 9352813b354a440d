"""A metric whose higher values are worse: the share of rows that the model finds hard.

adaptbench run --metrics=perplexity,hard
"""

from __future__ import annotations

import math

from adaptbench import Example, Likelihood, Metric

LIMIT = 50


class Hard(Metric):
    """The share of rows whose perplexity is above :data:`LIMIT`."""

    name = "hard"
    title = "share of hard rows"
    noun = "hardness"
    better = "lower"
    definition = {"hard": f"share of rows whose perplexity is above {LIMIT}"}

    def row(self, seen: Likelihood, row: Example) -> float:
        return float(seen.nll / seen.n_tokens > math.log(LIMIT))
