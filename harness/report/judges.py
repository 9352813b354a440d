"""What a report says of judges: how each did in its examination."""

from __future__ import annotations

from harness.records import ExamScores
from harness.report.nouns import JudgeFacts
from harness.statistics.exams import examine


def judged(scores: ExamScores) -> JudgeFacts:
    """Read an examination."""
    return JudgeFacts(
        name=scores.judge,
        rubric=scores.rubric,
        rows=len(scores.rows),
        mass=scores.mass,
        exam=examine(scores),
    )
