"""Perplexity of reference answers, the headline metric.

For row i with summed NLL L_i (nats), m_i scored tokens and b_i bytes of answer text:

    perplexity of a row       p_i = exp(L_i / m_i)
    mean perplexity           (1/n) Σ p_i                 the headline
    geometric mean            exp((1/n) Σ L_i / m_i)
    median                    median of p_i
    token-weighted            exp(Σ L_i / Σ m_i)
    bits per byte             Σ L_i / (ln 2 · Σ b_i)      the EOS's NLL is part of L_i

Rows are tested on the scale of L_i / m_i, the logarithm of a row's perplexity.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import ClassVar

from harness.core import Example
from harness.messages import say
from harness.metrics.base import Aggregate, Metric
from harness.records import Likelihood, Observation


class Perplexity(Metric):
    """How surprised a model is by the reference answers: exp(NLL / scored tokens) of each row."""

    name = "perplexity"
    title = say("mean perplexity")
    noun = say("perplexity")
    better = "lower"
    scale = "log"
    # A baseline of another definition is not compared with.
    definition: ClassVar = {
        "log_perplexity": "NLL / scored tokens of a row, in nats; scored are the answer's tokens "
        "and the EOS",
        "layout": "[prefix] + tokens(context) + tokens(answer) + [EOS], context and answer "
        "tokenized separately",
    }
    headline = Aggregate(
        "mean_perplexity",
        title,
        say(
            "arithmetic mean of the rows' perplexities, exp(NLL / scored tokens); scored are the "
            "answer's tokens and the EOS"
        ),
    )
    more = (
        Aggregate(
            "geometric_mean_perplexity",
            say("geometric"),
            say("exp of the mean over rows of NLL / scored tokens"),
        ),
        Aggregate("median_perplexity", say("median"), say("median of the rows' perplexities")),
        Aggregate("token_perplexity", say("by token"), say("exp(total NLL / total scored tokens)")),
        Aggregate(
            "bits_per_byte",
            say("bits/byte"),
            say("total NLL in bits / total UTF-8 bytes of the answers"),
            digits=3,
        ),
    )
    columns = ("bits_per_byte",)
    center = "geometric_mean_perplexity"
    total = "bits_per_byte"
    notes = (
        say(
            "Perplexities of models with different tokenizers can not be compared; of these "
            "metrics only bits per byte can."
        ),
        say(
            "The mean is heavy-tailed: a few hard rows can move it. The geometric mean and the "
            "median stand beside it for that reason."
        ),
    )

    def row(self, seen: Likelihood, row: Example) -> float:
        return seen.nll / seen.n_tokens

    def denominator(self, seen: Likelihood) -> int:
        return seen.n_tokens

    def aggregates(
        self, seen: Sequence[Likelihood], rows: Sequence[Example]
    ) -> Mapping[str, float]:
        logs = [one.nll / one.n_tokens for one in seen]
        shown = [self.shown(value) for value in logs]
        total = math.fsum(one.nll for one in seen)
        return {
            "mean_perplexity": math.fsum(shown) / len(shown),
            "geometric_mean_perplexity": self.shown(math.fsum(logs) / len(logs)),
            "median_perplexity": (
                math.nan if any(map(math.isnan, shown)) else statistics.median(shown)
            ),
            "token_perplexity": self.shown(total / sum(one.n_tokens for one in seen)),
            "bits_per_byte": total / (math.log(2) * sum(one.n_bytes for one in seen)),
        }


def nonfinite_rows(seen: Sequence[Observation]) -> list[str]:
    """Ids of the rows whose perplexity is NaN or infinite; answers have none."""
    metric = Perplexity()
    return [
        one.id
        for one in seen
        if isinstance(one, Likelihood) and not math.isfinite(metric.shown(one.nll / one.n_tokens))
    ]
