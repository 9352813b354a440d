"""A metric whose higher values are better: how likely the model finds a token of the answer.

adaptbench run --metrics=perplexity,confidence
"""

from __future__ import annotations

import math

from adaptbench import Aggregate, Example, Likelihood, Metric


class Confidence(Metric):
    """The geometric mean probability of a row's scored tokens, averaged over rows."""

    name = "confidence"
    title = "mean probability per token"
    noun = "probability per token"
    better = "higher"
    definition = {
        "confidence": "exp(−NLL / scored tokens) of a row: the geometric mean of the "
        "probabilities of its scored tokens"
    }

    headline = Aggregate("confidence", title, definition["confidence"], digits=4)

    def row(self, seen: Likelihood, row: Example) -> float:
        return math.exp(-seen.nll / seen.n_tokens)
