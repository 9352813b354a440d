"""Ratings: what a judge says of the answers of a case, and its examination, both from the store."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from statistics import fmean
from typing import TYPE_CHECKING

from harness import __version__
from harness.core import Cell, Example, JudgeSpec, ModelSpec, digest
from harness.errors import OptionError
from harness.judging.asking import asked
from harness.judging.probes import probes
from harness.judging.rubric import Rubric
from harness.models.code import JUDGING, code_digest
from harness.models.fingerprint import hardware, libraries, version
from harness.records import Answer, ExamScores, Measurement, Provenance, Rating
from harness.results.json_records import exam_from_json
from harness.results.store import SHORT, Store
from harness.run.asked import judging_of
from harness.run.case import Case, Judging
from harness.run.cells import Cells
from harness.run.progress import silent

if TYPE_CHECKING:
    from harness.judging.local import Verdicts
    from harness.models.loading import ModelPool
    from harness.run.bench import Bench
    from harness.run.plan import Plan

Progress = Callable[[str, int, int, str], None]
EXAMINED = 12  # rows of an examination


class Judges:
    """Rates answers and examines judges.

    Args:
        plan: what is to be measured.
        cells: what models' bytes are called.
        store: where ratings and examinations are kept.
        pool: the model in hand; asking for it imports torch.
    """

    def __init__(
        self, plan: Plan, cells: Cells, store: Store, pool: Callable[[], ModelPool]
    ) -> None:
        self.plan, self.cells, self.store, self.pool = plan, cells, store, pool

    def spec(self, case: Case, judging: Judging) -> ModelSpec:
        """The judge as a model."""
        return ModelSpec(
            name=judging.source.name,
            digest=self.cells.model_digest(case),
            dtype=judging.dtype,
            device=case.device if case.device != "none" else "cpu",
            revision=judging.source.revision,
        )

    def cell(self, case: Case, answered: Measurement) -> Cell:
        """The cell of what a judge says of these answers."""
        judging = case.judging
        assert judging is not None
        rows = {row.id: row for row in self.plan.task.examples}
        said = [[*_question(rows[one.id], judging.rubric), one.text] for one in answered.answers]
        versions = libraries(quantized=False, adapted=False)
        return replace(
            answered.cell,
            id=case.id,
            judge=JudgeSpec(
                self.spec(case, judging), judging.rubric.name, judging.rubric.digest, digest(said)
            ),
            libraries=(*versions, ("adaptbench", code_digest(JUDGING))),
        )

    def rate(
        self,
        case: Case,
        judging: Judging,
        cell: Cell,
        answered: Measurement,
        progress: Progress,
    ) -> Measurement:
        """Ask the judge of every answer; of equal ones to a row, once.

        Raises:
            AdaptbenchError: the judge cannot be loaded, or read an answer.
        """
        self.examine(case, judging, progress)
        started = time.perf_counter()
        rows = {row.id: row for row in self.plan.task.examples}
        texts = list(dict.fromkeys((one.id, one.text) for one in answered.answers))
        asked_of = [(rows[name], text) for name, text in texts]
        found = dict(zip(texts, self._ask(case, judging, asked_of, progress), strict=True))
        menu = judging.rubric.menu
        return Measurement(
            cell=cell,
            observations=tuple(
                _rating(one, found[one.id, one.text], menu) for one in answered.answers
            ),
            seconds=round(time.perf_counter() - started, 3),
            provenance=Provenance(
                *(__version__, "judge", self.plan.task.pool_digest, "torch default"),
                versions={name: version(name) for name in ("torch", "transformers", "tokenizers")},
                hardware=hardware(self.spec(case, judging).device),
            ),
            skeletons=answered.skeletons,
        )

    def _ask(
        self,
        case: Case,
        judging: Judging,
        asked_of: Sequence[tuple[Example, str]],
        progress: Progress,
    ) -> tuple[Verdicts, ...]:
        from harness.judging.local import judge

        spec = self.spec(case, judging)
        progress(case.short, 0, 0, "loading the judge")
        loaded = self.pool().get(spec, self.cells.folder(case), None)
        questions = [
            (f"{row.id}", asked(judging.rubric, _texts(row, text, judging.rubric)))
            for row, text in asked_of
        ]
        total = len(questions)
        return judge(
            loaded,
            judging.rubric,
            questions,
            lambda done: progress(case.short, done, total, "answers judged"),
        )

    # ----------------------------------------------------------------- examinations

    def exam(self, case: Case, judging: Judging) -> ExamScores | None:
        """What the judge scored in its examination, if the store has it."""
        return self.store.read(self._exam_file(case, judging), _exam)

    def examine(self, case: Case, judging: Judging, progress: Progress) -> ExamScores | None:
        """Examine the judge on the first rows with references; None where there are too few."""
        rows = [row for row in self.plan.task.examples if row.output][:EXAMINED]
        known = self.exam(case, judging)
        if known is not None or len(rows) < 2:
            return known
        made = probes(rows)
        kinds = [*made, "again"]
        made["again"] = made["reference"]
        asked_of = [
            (row, text) for kind in kinds for row, text in zip(rows, made[kind], strict=True)
        ]
        found = self._ask(case, judging, asked_of, progress)
        scores: dict[str, tuple[float, ...]] = {
            kind: tuple(one.score for one in found[at * len(rows) : (at + 1) * len(rows)])
            for at, kind in enumerate(kinds)
        }
        again = scores.pop("again")
        exam = ExamScores(
            judging.source.name,
            judging.rubric.name,
            tuple(row.id for row in rows),
            scores,
            again,
            fmean(one.mass for one in found),
        )
        body = json.loads(json.dumps(asdict(exam)))
        body["checksum"] = digest(body)
        text = json.dumps(body, ensure_ascii=False, indent=1) + "\n"
        self.store.write(self._exam_file(case, judging), text)
        return exam

    def _exam_file(self, case: Case, judging: Judging) -> str:
        spec, rubric = asdict(self.spec(case, judging)), judging.rubric
        rows = [row.content for row in self.plan.task.examples[:EXAMINED]]
        del spec["name"], spec["revision"]
        key = digest([spec, rubric.digest, rows, code_digest(JUDGING)])[:SHORT]
        return f"exams/{key}.json"


def _exam(text: str) -> ExamScores:
    """The examination that a file holds.

    Raises:
        ValueError, KeyError, TypeError: it is not what was written.
    """
    body = json.loads(text)
    if body.pop("checksum") != digest(body):
        raise ValueError("its checksum does not match")
    return exam_from_json(body)


def exam_of(bench: Bench) -> ExamScores:
    """Examine the judge of a run's flags, whatever the run measures.

    Raises:
        OptionError: no judge is named, or too few rows have references.
    """
    options = bench.plan.options
    if options.judge is None:
        raise OptionError("suites/test_judge.py: needs --judge=NAME, the model to be examined")
    judging = judging_of(options, bench.plan.cases[0])
    case = replace(bench.plan.cases[0], source=judging.source, judging=judging)
    bench.store.prepare()
    found = bench.judges.examine(case, judging, silent)
    if found is None:
        raise OptionError("suites/test_judge.py: a judge is examined on two rows or more")
    return found


def _question(row: Example, rubric: Rubric) -> list[str]:
    """What of a row a judge is shown besides the answer."""
    history = [f"{role}: {text}" for role, text in row.history]
    asked_for = "\n".join([*history, row.instruction])
    return [row.id, asked_for, row.output if rubric.reference else ""]


def _texts(row: Example, text: str, rubric: Rubric) -> Mapping[str, str]:
    _, asked_for, reference = _question(row, rubric)
    texts = {"instruction": asked_for, "answer": text}
    return {**texts, "reference": reference} if rubric.reference else texts


def _rating(answer: Answer, found: Verdicts, menu: Sequence[tuple[str, float]]) -> Rating:
    likeliest = max(range(len(menu)), key=lambda place: found.probabilities[place])
    return Rating(
        id=answer.id,
        text=answer.text,
        value=found.score,
        said=menu[likeliest][0],
        probabilities=found.probabilities,
        mass=found.mass,
        spread=found.spread,
        n_context=answer.n_context,
        demo_ids=answer.demo_ids,
        draw=answer.draw,
    )
