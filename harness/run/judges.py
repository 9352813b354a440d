"""Ratings and preferences: what a judge says of the answers of a case."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from harness import __version__
from harness.core import Cell, JudgeSpec, digest
from harness.errors import JudgeError
from harness.judging.rubric import Rubric
from harness.models.fingerprint import hardware, version
from harness.records import (
    Answer,
    Measurement,
    Observation,
    Preference,
    Provenance,
    Rating,
    Ruling,
)
from harness.run.asking import question
from harness.run.case import Case, Judging
from harness.run.jurors import Jurors, Question
from harness.run.plan import Plan

Progress = Callable[[str, int, int, str], None]
Answered = tuple[Measurement, Measurement | None]  # a case's answers, and those of the other


class Judges:
    """Rates answers and compares them.

    Args:
        plan: what is to be measured.
        jurors: who is asked.
    """

    def __init__(self, plan: Plan, jurors: Jurors) -> None:
        self.plan, self.jurors = plan, jurors

    def cell(self, case: Case, answered: Answered) -> Cell | None:
        """The cell of what a judge says of these answers; None where nobody asked it yet.

        Raises:
            JudgeError: there are other numbers of draws on both sides.
        """
        judging = case.judging
        assert judging is not None
        spec = self.jurors.spec(case, judging)
        if spec is None:
            return None
        texts = [
            [name, [span.text for span in spans]] for name, spans in self.questions(case, answered)
        ]
        return replace(
            answered[0].cell,
            id=case.id,
            judge=JudgeSpec(
                spec,
                judging.rubric.name,
                judging.rubric.digest,
                digest(texts),
                case.against,
                judging.rubric.limits,
            ),
            libraries=self.jurors.libraries(judging),
        )

    def judge(self, case: Case, cell: Cell, answered: Answered, progress: Progress) -> Measurement:
        """Ask the judge of every answer, or of every pair in both orders.

        Args:
            case: whose answers they are.
            cell: of :meth:`cell`.
            answered: the answers.
            progress: told what is done.

        Raises:
            AdaptbenchError: the judge cannot be loaded or reached, or leaves more answers without
                a verdict than is allowed.
        """
        judging = case.judging
        assert judging is not None
        started = time.perf_counter()
        said = self.jurors.ask(case, judging, self.questions(case, answered), progress)
        if case.against:
            seen: Sequence[Observation] = self._preferences(answered, said)
        else:
            seen = [
                _rating(*pair, judging.rubric)
                for pair in zip(answered[0].answers, said, strict=True)
            ]
        self.check(case, seen)
        return Measurement(
            cell=cell,
            observations=tuple(seen),
            seconds=round(time.perf_counter() - started, 3),
            provenance=self._provenance(judging, cell),
            skeletons=answered[0].skeletons,
            warnings=tuple(self._warnings(judging, cell, answered)),
        )

    def questions(self, case: Case, answered: Answered) -> list[Question]:
        """Every question of a case: one of each answer, or of each pair both orders in turn."""
        judging = case.judging
        assert judging is not None
        rows = {row.id: row for row in self.plan.task.examples}
        ours, other = answered
        if other is None:
            return [question(judging.rubric, rows[one.id], (one.text,)) for one in ours.answers]
        return [
            question(judging.rubric, rows[one.id], texts)
            for one, against in _pairs(case, ours.answers, other.answers)
            for texts in ((one.text, against.text), (against.text, one.text))
        ]

    def _preferences(self, answered: Answered, said: Sequence[Ruling]) -> list[Preference]:
        ours, other = answered
        assert other is not None
        pairs = _pairs(None, ours.answers, other.answers)
        orders = zip(said[::2], said[1::2], strict=True)
        return [
            Preference(
                id=one.id,
                text=one.text,
                other=against.text,
                first=first,
                second=second,
                n_context=one.n_context,
                demo_ids=one.demo_ids,
                draw=one.draw,
            )
            for (one, against), (first, second) in zip(pairs, orders, strict=True)
        ]

    def check(self, case: Case, seen: Sequence[Observation]) -> None:
        """See that not too many answers are without a verdict.

        Raises:
            JudgeError: there are more than ``--judge-unjudged`` allows.
        """
        allowed = self.plan.options.judge_unjudged
        judged = [one for one in seen if isinstance(one, Rating | Preference)]
        without = [one for one in judged if one.value is None]
        if not len(without) > allowed * len(judged):
            return
        reasons = [said.reason for one in without for said in one.rulings if said.value is None]
        most = max(set(reasons), key=reasons.count)
        raise JudgeError(
            f"{case.id}: {len(without)} of {len(judged)} answers are unjudged, more than "
            f"--judge-unjudged={100 * allowed:g}% allows; most often: {most:.200}; what was judged "
            f"is kept, and the rest is asked again"
        )

    def _provenance(self, judging: Judging, cell: Cell) -> Provenance:
        assert cell.judge is not None
        names = ("openai",) if judging.remote else ("torch", "transformers", "tokenizers")
        return Provenance(
            *(__version__, "judge", self.plan.task.pool_digest, "torch default"),
            versions={name: version(name) for name in names},
            hardware=hardware(cell.judge.model.device),
        )

    def _warnings(self, judging: Judging, cell: Cell, answered: Answered) -> list[str]:
        """What a reader of the numbers has to know about the judge."""
        assert cell.judge is not None
        name, found = judging.source.name, []
        sides = [one.cell.model for one in answered if one is not None]
        if any(side.digest == cell.judge.model.digest for side in sides):
            found.append(
                f"{name} judges answers that it wrote itself, and a model prefers its own; use a "
                f"judge of another family"
            )
        probe = self.jurors.probe(judging) if judging.remote else None
        return [*found, *(() if probe is None else probe.lines)]


def _pairs(
    case: Case | None, ours: Sequence[Answer], theirs: Sequence[Answer]
) -> list[tuple[Answer, Answer]]:
    """Each answer with the other's to the same row: of the same draw, or its only one."""
    known: dict[str, list[Answer]] = {}
    for one in theirs:
        known.setdefault(one.id, []).append(one)
    draws = {len(answers) for answers in known.values()}
    if draws != {1} and max(one.draw for one in ours) >= min(draws):
        raise JudgeError(
            f"{'' if case is None else case.id}: compares answers with fewer draws of each row; "
            f"use one num_return_sequences for both"
        )
    return [(one, known[one.id][one.draw if draws != {1} else 0]) for one in ours]


def _rating(answer: Answer, ruling: Ruling, rubric: Rubric) -> Rating:
    return Rating(
        id=answer.id,
        text=answer.text,
        ruling=ruling,
        worst=rubric.limits[0],
        n_context=answer.n_context,
        demo_ids=answer.demo_ids,
        draw=answer.draw,
    )
