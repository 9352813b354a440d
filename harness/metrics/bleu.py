"""BLEU: how many n-grams of words an answer shares with its reference (Papineni et al. 2002).

With c_n the n-grams of the answers that are in their references (clipped), t_n all of the answers',
and a, r the words of answers and references, each summed over rows, for n = 1 to 4:

    BLEU = min(1, exp(1 − r / a)) · exp(mean over n of ln(100·c_n / t_n))

with sacrebleu's smoothing of orders that match nothing (``exp``: 100 / (2^j·t_n) for the j-th of
them); as sacrebleu computes it, and equal to its corpus score. Chinese has no spaces: where most
letters of all references are Chinese, its ``zh`` tokenizer makes every character a word; elsewhere
``13a``. Which one it was is in the signature, which a baseline is compared by.

A row's own value, for looking at, leaves out the orders that the row is too short for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from harness.core import Example
from harness.messages import say
from harness.metrics import sacre
from harness.metrics.base import Aggregate, Array
from harness.metrics.corpus import CorpusMetric
from harness.metrics.language import mostly_cjk
from harness.records import Answer

ORDERS = 4


class Bleu(CorpusMetric):
    """Corpus BLEU of the answers against the references, 0 to 100.

    Args:
        tokenize: one of sacrebleu's tokenizers; by default by the language of the references.
    """

    name = "bleu"
    title = "BLEU"
    noun = "BLEU"
    observes = "answer"
    better = "higher"
    span = 100.0
    limits = (0.0, 100.0)
    definition: ClassVar = {
        "bleu": say(
            "BLEU of words up to 4-grams, from counts summed over rows; where most letters of "
            "the references are Chinese, every character is a word"
        ),
    }
    sums = (
        *("answer words", "reference words"),
        *(f"{of} {n}" for of in ("both", "answer") for n in range(1, ORDERS + 1)),
    )
    headline = Aggregate("bleu", "BLEU", definition["bleu"])

    def __init__(self, tokenize: str | None = None) -> None:
        self._tokenize = tokenize

    def tokenizer(self, rows: Sequence[Example]) -> str:
        """Which of sacrebleu's tokenizers these rows ask for."""
        return self._tokenize or ("zh" if mostly_cjk(row.output for row in rows) else "13a")

    def defined(self, rows: Sequence[Example]) -> Mapping[str, str]:
        return {**super().defined(rows), "signature": sacre.signature(self.tokenizer(rows))}

    def statistics(self, seen: Sequence[Answer], rows: Sequence[Example]) -> Array:
        texts, references = [one.text for one in seen], [row.output for row in rows]
        return sacre.statistics(texts, references, self.tokenizer(rows))

    def combine(self, sums: Array) -> Array:
        return _bleu(sums, np.full(sums.shape[:-1], ORDERS))

    def of_rows(self, sums: Array) -> Array:
        return _bleu(sums, (sums[..., 2 + ORDERS :] > 0).sum(axis=-1))


def _bleu(sums: Array, orders: Array) -> Array:
    """BLEU from sums, shape (..., 2 + 2·ORDERS), over so many orders; 0 where nothing matches."""
    answers, references = sums[..., 0], sums[..., 1]
    both, of = sums[..., 2 : 2 + ORDERS], sums[..., 2 + ORDERS :]
    usable = both.any(axis=-1) & (answers > 0)
    # An order that the answers are too short for is ln 0, and the whole then 0.
    known = of > 0
    halved = 2.0 ** -np.cumsum(known & (both == 0), axis=-1)
    share = np.divide(np.where(both > 0, both, halved), of, out=np.zeros_like(of), where=known)
    counted = np.arange(ORDERS) < orders[..., None]
    with np.errstate(divide="ignore"):
        logs = np.where(counted, np.log(100 * share), 0.0)
    lengths = np.divide(references, answers, out=np.ones_like(answers), where=answers > 0)
    brevity = np.exp(np.minimum(0.0, 1 - lengths))
    found = brevity * np.exp(logs.sum(axis=-1) / np.maximum(orders, 1))
    return np.where(usable, found, 0.0)
