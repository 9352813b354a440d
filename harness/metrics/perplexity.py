"""From stored scores to the numbers of a report.

For row i with summed NLL L_i (nats), m_i scored tokens and b_i bytes of answer text:

    perplexity of a row       p_i = exp(L_i / m_i)
    mean perplexity           (1/n) Σ p_i                 the headline
    geometric mean            exp((1/n) Σ L_i / m_i)
    median                    median of p_i
    token-weighted            exp(Σ L_i / Σ m_i)
    bits per byte             Σ L_i / (ln 2 · Σ b_i)      the EOS's NLL is part of L_i

Over seeds: the mean, and the sample standard deviation (ddof 1) where there are two or more.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from harness.records import Likelihood

# What a row's number is; a baseline of another definition is not compared with.
DEFINITION = {
    "log_perplexity": "NLL / scored tokens of a row, in nats; scored are the answer's tokens and "
    "the EOS",
    "layout": "[prefix] + tokens(context) + tokens(answer) + [EOS], context and answer tokenized "
    "separately",
}
METRICS = {
    "mean_perplexity": "arithmetic mean of the rows' perplexities, exp(NLL / scored tokens); "
    "scored are the answer's tokens and the EOS",
    "geometric_mean_perplexity": "exp of the mean over rows of NLL / scored tokens",
    "median_perplexity": "median of the rows' perplexities",
    "token_perplexity": "exp(total NLL / total scored tokens)",
    "bits_per_byte": "total NLL in bits / total UTF-8 bytes of the answers",
}


@dataclass(frozen=True)
class Summary:
    """One cell's row of the report. A metric is NaN or infinite if a row is not finite."""

    n: int
    mean_perplexity: float
    geometric_mean_perplexity: float
    median_perplexity: float
    token_perplexity: float
    bits_per_byte: float
    nonfinite: int

    def metric(self, name: str) -> float:
        """The metric called ``name``, one of :data:`METRICS`."""
        value: float = getattr(self, name)
        return value


@dataclass(frozen=True)
class Spread:
    """A metric over seeds. ``std`` is None where there is nothing to say: one value."""

    mean: float
    std: float | None


def perplexity(score: Likelihood) -> float:
    """exp(NLL / scored tokens) of one row; infinite where that overflows."""
    return _exp(score.nll / score.n_tokens)


def summarize(scores: Sequence[Likelihood]) -> Summary:
    """Compute a cell's metrics from its rows' sufficient statistics.

    Raises:
        ValueError: there are no rows.
    """
    if not scores:
        raise ValueError("no rows to summarize")
    rows = [perplexity(score) for score in scores]
    total_nll = math.fsum(score.nll for score in scores)
    return Summary(
        n=len(rows),
        mean_perplexity=math.fsum(rows) / len(rows),
        geometric_mean_perplexity=_exp(
            math.fsum(score.nll / score.n_tokens for score in scores) / len(rows)
        ),
        median_perplexity=math.nan if any(map(math.isnan, rows)) else statistics.median(rows),
        token_perplexity=_exp(total_nll / sum(score.n_tokens for score in scores)),
        bits_per_byte=total_nll / (math.log(2) * sum(score.n_bytes for score in scores)),
        nonfinite=sum(not math.isfinite(value) for value in rows),
    )


def nonfinite_rows(scores: Sequence[Likelihood]) -> list[str]:
    """Ids of the rows whose perplexity is NaN or infinite."""
    return [score.id for score in scores if not math.isfinite(perplexity(score))]


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation (ddof 1) over seeds."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return Spread(mean, None)
    if not all(map(math.isfinite, values)):
        return Spread(mean, math.nan)
    return Spread(mean, statistics.stdev(values))


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
