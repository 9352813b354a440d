"""Examining judges before they are believed, and looking whether an endpoint is still the one.

An examination asks of answers whose order needs no person (:mod:`harness.judging.probes`), of some
of them twice, and of answers that people have labelled, where a file of labels is given. It is done
once for a judge, its rubric and the rows, and kept in ``exams/``. What stands behind an endpoint
can change without a word, so a few of its questions are asked again by every run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from statistics import fmean
from typing import TYPE_CHECKING

from harness.core import Example, digest
from harness.errors import JudgeError, OptionError
from harness.judging.probes import probes
from harness.judging.rubric import Rubric, load_rubric
from harness.records import ExamScores, Label, LabelledScore, Ruling
from harness.results.json_records import exam_from_json
from harness.results.store import SHORT, Store
from harness.run.asked import judging_of
from harness.run.asking import question
from harness.run.case import Case, Judging
from harness.run.jurors import Jurors, Question
from harness.run.plan import Plan
from harness.run.progress import silent

if TYPE_CHECKING:
    from harness.run.bench import Bench

Progress = Callable[[str, int, int, str], None]
EXAMINED = 12  # rows of an examination
WATCHED = 4  # of these, whose reference and shuffled reference every run asks an endpoint of again
TRIES = 3  # of a watched question that is answered otherwise; most of them decide
REFERENCE = "reference"


class Examining:
    """Examines the judges of a run.

    Args:
        plan: with the rows, and people's labels.
        jurors: who is asked.
        store: where examinations are kept.
    """

    def __init__(self, plan: Plan, jurors: Jurors, store: Store) -> None:
        self.plan, self.jurors, self.store = plan, jurors, store
        self._watched: set[str] = set()

    def known(self, case: Case, judging: Judging) -> ExamScores | None:
        """What the judge scored in its examination, if the store has it."""
        return self.store.read(f"exams/{self._key(case, judging)}.json", _exam)

    def examine(self, case: Case, judging: Judging, progress: Progress) -> ExamScores | None:
        """Examine the judge, or see that it is still the one that was examined.

        Returns:
            None where there are fewer than two rows with a reference.

        Raises:
            JudgeError: an endpoint says something else than when it was examined.
        """
        self.jurors.ready(case, judging, progress)
        if len(self._rows) < 2:
            return None
        key = self._key(case, judging)
        known = self.known(case, judging)
        if known is None:
            with self._alone(key):  # other workers wait for it, and pay for none of their own
                known = self.known(case, judging) or self._take(case, judging, key, progress)
            self._watched.add(key)
        elif judging.remote and key not in self._watched:
            self._watch(case, judging, known, progress)
            self._watched.add(key)
        return known

    def _take(self, case: Case, judging: Judging, key: str, progress: Progress) -> ExamScores:
        exam = self._examined(case, judging, progress)
        body = json.loads(json.dumps(asdict(exam)))
        body["checksum"] = digest(body)
        text = json.dumps(body, ensure_ascii=False, indent=1) + "\n"
        self.store.write(f"exams/{key}.json", text)
        return exam

    def _alone(self, key: str) -> AbstractContextManager[object]:
        from filelock import FileLock

        folder = self.store.folder / "exams"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{key}.lock")

    @property
    def _rows(self) -> list[Example]:
        return [row for row in self.plan.task.examples if row.output][:EXAMINED]

    def _labels(self, rubric: Rubric) -> tuple[Label, ...]:
        """People's labels of what the rubric is about: of answers, or of pairs."""
        texts = 2 if rubric.kind == "pairwise" else 1
        return tuple(one for one in self.plan.labels if len(one.texts) == texts)

    def _key(self, case: Case, judging: Judging) -> str:
        spec = self.jurors.spec(case, judging)
        if spec is None:
            return "unknown"
        rows = [row.content for row in self._rows]
        labels = [asdict(one) for one in self._labels(judging.rubric)]
        settings = self.jurors.libraries(judging)
        return digest([spec.determining, judging.rubric.digest, rows, labels, settings])[:SHORT]

    # ------------------------------------------------------------ the questions

    def _examined(self, case: Case, judging: Judging, progress: Progress) -> ExamScores:
        rows, made = self._rows, probes(self._rows)
        pairwise = judging.rubric.kind == "pairwise"
        labels = self._labels(judging.rubric)
        kinds = [kind for kind in made if not pairwise or kind != REFERENCE]
        asked = [
            one
            for kind in kinds
            for row, text in zip(rows, made[kind], strict=True)
            for one in _about(judging.rubric, row, text)
        ]
        by_id = {row.id: row for row in self.plan.task.examples}
        of_people = [
            one for label in labels for one in _of_label(judging.rubric, by_id[label.id], label)
        ]
        said = self.jurors.ask(case, judging, [*asked, *of_people], progress)
        each = len(rows) * (2 if pairwise else 1)
        found = {kind: said[at * each : (at + 1) * each] for at, kind in enumerate(kinds)}
        first = asked[: each : 2 if pairwise else 1]  # references, or pairs with the first kind
        again = self.jurors.ask(case, judging, first, progress, again=True)
        masses = [one.mass for one in said if one.mass is not None]
        return ExamScores(
            judge=self.jurors.name(judging),
            rubric=judging.rubric.name,
            rows=tuple(row.id for row in rows),
            scores={} if pairwise else {kind: _values(some) for kind, some in found.items()},
            again=_values(again),
            mass=fmean(masses) if masses else None,
            orders={kind: _orders(some) for kind, some in found.items()} if pairwise else {},
            labels=_labelled(labels, said[len(asked) :]),
        )

    def _watch(self, case: Case, judging: Judging, known: ExamScores, progress: Progress) -> None:
        """Ask an endpoint again what it was asked when it was examined.

        Raises:
            JudgeError: most of several tries say something else than then.
        """
        rows, made = self._rows[:WATCHED], probes(self._rows)
        kinds = (REFERENCE, "shuffled") if known.scores else ("truncated", "shuffled")
        asked: list[Question] = []
        before: list[float | None] = []
        for kind in kinds:
            for place, row in enumerate(rows):
                asked.append(_about(judging.rubric, row, made[kind][place])[0])
                then = known.scores[kind] if known.scores else known.orders[kind]
                value = then[place]
                before.append(value[0] if isinstance(value, tuple) else value)
        said = self.jurors.ask(case, judging, asked, progress, again=True)
        pairs = zip(said, before, strict=True)
        doubtful = [place for place, (one, then) in enumerate(pairs) if _moved(one, then)]
        changed = []
        for place in doubtful:
            more = [asked[place]]
            tries = [self.jurors.ask(case, judging, more, progress, again=True)[0] for _ in "12"]
            if sum(_moved(one, before[place]) for one in (said[place], *tries)) > TRIES / 2:
                changed.append(asked[place][0])
        if changed:
            name = judging.source.name
            raise JudgeError(
                f"--judge={name}: it is no longer the judge that was examined: of {len(asked)} "
                f"questions it was asked then, it answers {len(changed)} otherwise now (rows "
                f"{', '.join(map(repr, dict.fromkeys(changed)))}), under the same model id and "
                f"fingerprint; judge anew into another --results-dir"
            )


def _exam(text: str) -> ExamScores:
    """The examination that a file holds.

    Raises:
        ValueError, KeyError, TypeError: it is not what was written.
    """
    body = json.loads(text)
    if body.pop("checksum") != digest(body):
        raise ValueError("its checksum does not match")
    return exam_from_json(body)


def _about(rubric: Rubric, row: Example, text: str) -> list[Question]:
    """What is asked of a text: once, or as a pair with the reference in both orders."""
    if rubric.kind != "pairwise":
        return [question(rubric, row, (text,))]
    return [question(rubric, row, texts) for texts in ((row.output, text), (text, row.output))]


def _of_label(rubric: Rubric, row: Example, label: Label) -> list[Question]:
    """What is asked of what a person labelled."""
    orders = [label.texts, label.texts[::-1]] if len(label.texts) > 1 else [label.texts]
    return [question(rubric, row, texts) for texts in orders]


def _values(said: Iterable[Ruling]) -> tuple[float | None, ...]:
    return tuple(one.value for one in said)


def _orders(said: Sequence[Ruling]) -> tuple[tuple[float | None, float | None], ...]:
    """What the reference gets where it stands first, and where it stands second."""
    return tuple(
        (first.value, None if second.value is None else 1 - second.value)
        for first, second in zip(said[::2], said[1::2], strict=True)
    )


def _labelled(labels: Sequence[Label], said: Sequence[Ruling]) -> tuple[LabelledScore, ...]:
    """Each label beside what the judge says; of a pair in both orders."""
    if not labels:
        return ()
    values: list[float | None]
    if len(labels[0].texts) > 1:
        values = [
            None if None in pair else pair[0] if pair[0] == pair[1] else 0.5
            for pair in _orders(said)
        ]
    else:
        values = list(_values(said))
    return tuple(
        LabelledScore(one.id, one.score, value, tuple(map(len, one.texts)))
        for one, value in zip(labels, values, strict=True)
    )


def _moved(one: Ruling, then: float | None) -> bool:
    return one.value is not None and then is not None and one.value != then


def exam_of(bench: Bench, rubric: str) -> ExamScores:
    """Examine the judge of a run's flags, whatever the run measures.

    Args:
        bench: of the run.
        rubric: the name of one of its rubrics.

    Raises:
        OptionError: no judge is named, or too few rows have references.
    """
    options = bench.plan.options
    if options.judge is None:
        raise OptionError("suites/test_judge.py: needs --judge=NAME, the model to be examined")
    first = bench.plan.cases[0]
    judging = judging_of(options, load_rubric(rubric), first)
    case = replace(first, source=judging.source, judging=judging)
    bench.store.prepare()
    found = bench.examining.examine(case, judging, silent)
    if found is None:
        raise OptionError("suites/test_judge.py: a judge is examined on two rows or more")
    return found
