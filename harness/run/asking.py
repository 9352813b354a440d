"""What a judge is asked of a row: the rubric's question, filled in with the row and the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.core import Example, Span
from harness.judging.asking import asked
from harness.judging.rubric import Rubric


def question(rubric: Rubric, row: Example, texts: Sequence[str]) -> tuple[str, tuple[Span, ...]]:
    """What a judge is asked of one answer to a row, or of two.

    Args:
        rubric: of one answer, or of pairs.
        row: the row.
        texts: the answer, or both in their order.

    Returns:
        The row's id, and what is asked.
    """
    history = [f"{role}: {text}" for role, text in row.history]
    names = ("answer",) if len(texts) == 1 else ("answer_a", "answer_b")
    values: Mapping[str, str] = {
        "instruction": "\n".join([*history, row.instruction]),
        **dict(zip(names, texts, strict=True)),
        **({"reference": row.output} if rubric.reference else {}),
    }
    return row.id, asked(rubric, values)
