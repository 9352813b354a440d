"""BLEU and chrF through sacrebleu: the one place where its arguments are put in order.

sacrebleu takes a list of *streams* of references; given one list per row instead, it computes
something else without a word. :func:`statistics` is the only caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from harness.metrics.base import Array

KEPT = 256  # cells whose statistics are kept, because a report reads a metric several times


def statistics(answers: Sequence[str], references: Sequence[str], tokenize: str | None) -> Array:
    """Each row's sufficient statistics; shape (rows, statistics).

    Args:
        answers: one of each row.
        references: the row's, in the same order.
        tokenize: the tokenizer of BLEU; None for chrF2.
    """
    if len(answers) != len(references):
        raise ValueError(f"{len(answers)} answers, {len(references)} references")
    found: Array = _statistics(tuple(answers), tuple(references), tokenize).copy()
    return found


@lru_cache(maxsize=KEPT)
def _statistics(
    answers: tuple[str, ...], references: tuple[str, ...], tokenize: str | None
) -> Array:
    # Private, but what every score of sacrebleu's own is summed from: a test holds it to them.
    extract = _scorer(tokenize)._extract_corpus_statistics
    rows = extract(answers, [references])  # one stream, with a reference of each row
    assert len(rows) == len(answers)
    return np.array(rows, dtype=np.float64)


def signature(tokenize: str | None) -> str:
    """What sacrebleu calls a score's signature: its settings and its version."""
    scorer = _scorer(tokenize)
    scorer.num_refs = 1
    return str(scorer.get_signature())


def _scorer(tokenize: str | None) -> Any:
    from sacrebleu.metrics import BLEU, CHRF

    return CHRF() if tokenize is None else BLEU(tokenize=tokenize)
