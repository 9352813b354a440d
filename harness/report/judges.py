"""What a report says of judges: their examinations, who wins, scores corrected by people's labels.

Wins are read from preferences, row by row: of several seeds or draws, a row's mean over them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from harness.metrics.base import Array
from harness.records import ExamScores, Label, Measurement, Preference, Rating, Ruling
from harness.report.members import Members
from harness.report.nouns import CorrectedFacts, Duel, JudgeFacts, Strength
from harness.statistics.corrected import LEAST, corrected_mean
from harness.statistics.exams import examine
from harness.statistics.lengths import LengthRate, length_controlled, length_matched
from harness.statistics.strengths import strengths
from harness.statistics.winrates import win_rate

Place = tuple[str, str, str]  # model, prompt, decoding
Labels = Mapping[tuple[str, tuple[str, ...]], float]  # (row's id, texts) → a person's score


def judged(scores: ExamScores, groups: Sequence[Members] = ()) -> JudgeFacts:
    """Read an examination, and what the judge's verdicts took.

    Args:
        scores: of the examination.
        groups: the cells of the report.
    """
    said = list(_of_rubric(scores.rubric, groups))
    return JudgeFacts(
        name=scores.judge,
        rubric=scores.rubric,
        rows=len(scores.rows),
        mass=scores.mass,
        exam=examine(scores),
        calls=sum(one.asked for one in said),
        tokens=(sum(one.tokens[0] for one in said), sum(one.tokens[1] for one in said)),
    )


def _of_rubric(rubric: str, groups: Sequence[Members]) -> Iterator[Ruling]:
    """Every ruling by a rubric."""
    for members in groups:
        for row in members.rows:
            judge = row.measurement.cell.judge
            if judge is not None and judge.rubric == rubric:
                for one in row.measurement.observations:
                    if isinstance(one, Rating | Preference):
                        yield from one.rulings


def duels(groups: Sequence[Members]) -> tuple[Duel, ...]:
    """How often each group wins, and what length has to do with it."""
    return tuple(_duel(members) for members in groups if members.observes == "preference")


def _duel(members: Members) -> Duel:
    seen = _of_rows(members)
    verdicts = _verdicts(seen)
    ours, theirs = (
        np.array([np.mean([len(getattr(one, name)) for one in row]) for row in seen])
        for name in ("text", "other")
    )
    known = int(np.isfinite(verdicts).sum())
    if known < 2:
        return Duel(members.group, known, len(seen))
    return Duel(
        members.group,
        known,
        len(seen),
        rate=win_rate(verdicts).rate,
        matched=_matched(verdicts, ours, theirs),
        controlled=length_controlled(verdicts, ours, theirs),
        longer=float(np.mean(ours > theirs)),
    )


def _matched(verdicts: Array, ours: Array, theirs: Array) -> LengthRate | None:
    """The win rate among answers of about one length; None where too few are."""
    try:
        return length_matched(verdicts, ours, theirs)
    except ValueError:
        return None


def _of_rows(members: Members) -> list[list[Preference]]:
    """What is said of each row, over seeds and draws."""
    found: dict[str, list[Preference]] = {}
    for row in members.rows:
        for one in row.measurement.preferences:
            found.setdefault(one.id, []).append(one)
    return list(found.values())


def _verdicts(seen: Sequence[Sequence[Preference]]) -> Array:
    """The mean verdict of each row; NaN where one is missing."""
    return np.array(
        [np.mean([np.nan if one.value is None else one.value for one in row]) for row in seen],
        dtype=np.float64,
    )


def ranking(groups: Sequence[Members]) -> tuple[Strength, ...]:
    """The strengths of the systems of each model, prompt and decoding, where three are compared.

    None of those that have no limit: a system that never loses is stronger than any number.
    """
    places: dict[Place, dict[tuple[str, str], Array]] = {}
    for members in groups:
        if members.observes == "preference":
            group = members.group
            place = group.model, group.prompt, group.decoding
            pairs = places.setdefault(place, {})
            pairs[group.label, group.against] = _verdicts(_of_rows(members))
    found: list[Strength] = []
    for place, pairs in places.items():
        if len({name for pair in pairs for name in pair}) < 3:
            continue
        try:
            every = strengths(pairs)
        except ValueError:
            continue
        best = sorted(every.items(), key=lambda pair: -pair[1].estimate)
        found += [Strength(*place, name, interval) for name, interval in best]
    return tuple(found)


def corrected(groups: Sequence[Members], labels: Sequence[Label]) -> tuple[CorrectedFacts, ...]:
    """Scores and win rates corrected by people's labels, of groups with enough of these."""
    people = {(one.id, one.texts): one.score for one in labels}
    # Of a pair, whichever answer stands first.
    people |= {(one.id, one.texts[::-1]): 1 - one.score for one in labels if len(one.texts) > 1}
    made = (_corrected(members, people) for members in groups if people)
    return tuple(one for one in made if one is not None)


def _corrected(members: Members, people: Labels) -> CorrectedFacts | None:
    """Of the seed with the most labels: a row's answers of several seeds are not so many rows."""
    cells = [_labelled(row.measurement, people) for row in members.rows]
    judged, labels = max(cells, key=lambda cell: int(np.isfinite(cell[1]).sum()))
    if np.isfinite(labels).sum() < LEAST:
        return None
    metric = "win_rate" if members.observes == "preference" else "judge"
    return CorrectedFacts(members.group, metric, corrected_mean(judged, labels))


def _labelled(measurement: Measurement, people: Labels) -> tuple[Array, Array]:
    """What the judge says of each answer, and what people say; NaN where they say nothing."""
    values, said = [], []
    for one in measurement.observations:
        if isinstance(one, Rating | Preference) and one.value is not None and one.draw == 0:
            texts = (one.text, one.other) if isinstance(one, Preference) else (one.text,)
            values.append(one.value)
            said.append(people.get((one.id, texts), np.nan))
    return np.array(values, dtype=np.float64), np.array(said, dtype=np.float64)
