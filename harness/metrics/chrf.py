"""chrF2: how many character n-grams an answer shares with its reference (Popović 2015, 2016).

With h, r and m the character n-grams (whitespace left out) of the answers, of the references, and
those that match, each summed over rows, for n = 1 to 6:

    P = mean over n of m_n / h_n      R = mean over n of m_n / r_n      chrF2 = 5·P·R / (4·P + R)

over the n for which there are both; as sacrebleu computes it, and equal to its corpus score. An
empty answer matches nothing and its row's value is 0.
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
from harness.records import Answer

ORDERS = 6
WEIGHT = 4  # β², of the recall


class Chrf(CorpusMetric):
    """chrF2 of the answers against the references, 0 to 100."""

    name = "chrf"
    title = "chrF2"
    noun = "chrF2"
    observes = "answer"
    better = "higher"
    span = 100.0
    limits = (0.0, 100.0)
    definition: ClassVar = {
        "chrf": say(
            "F2 of character n-grams, n = 1 to 6, without whitespace, from counts summed over "
            "rows; an empty answer counts as 0"
        ),
    }
    sums = tuple(
        f"{of} {n}" for n in range(1, ORDERS + 1) for of in ("answer", "reference", "both")
    )
    headline = Aggregate("chrf", "chrF2", definition["chrf"])

    def defined(self, rows: Sequence[Example]) -> Mapping[str, str]:
        return {**super().defined(rows), "signature": sacre.signature(None)}

    def statistics(self, seen: Sequence[Answer], rows: Sequence[Example]) -> Array:
        return sacre.statistics([one.text for one in seen], [row.output for row in rows], None)

    def combine(self, sums: Array) -> Array:
        counts = sums.reshape(*sums.shape[:-1], ORDERS, 3)
        answers, references, both = (counts[..., i] for i in range(3))
        usable = (answers > 0) & (references > 0)
        orders = np.maximum(usable.sum(axis=-1), 1)
        precision, recall = (
            np.divide(both, of, out=np.zeros_like(both), where=usable).sum(axis=-1) / orders
            for of in (answers, references)
        )
        bottom = WEIGHT * precision + recall
        top = 100 * (1 + WEIGHT) * precision * recall
        found: Array = np.divide(top, bottom, out=np.zeros_like(bottom), where=bottom > 0)
        return found
