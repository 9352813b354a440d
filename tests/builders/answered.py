"""A results directory with answers besides likelihoods, as a run leaves it, without a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from harness.core import DecodingSpec, Example, JudgeSpec, ModelSpec
from harness.judging.probes import probes
from harness.metrics.find import select_metrics
from harness.records import Answer, ExamScores, Preference, Rating, Ruling, Writing
from harness.results.manifest import Entry, read_manifest, write_manifest
from harness.results.store import Store, read_measurement
from tests.builders.answers import answered, rows
from tests.builders.cells import MEASUREMENT, PLAIN, PROVENANCE
from tests.builders.judges import likeness
from tests.builders.runs import make_run

GREEDY = DecodingSpec("greedy")
SAMPLE = DecodingSpec("sample", do_sample=True)
# label, decoding, seeds, and the share of its reference that an answer keeps
CELLS: tuple[tuple[str, DecodingSpec, tuple[int | None, ...], float], ...] = (
    ("zeroshot", GREEDY, (None,), 0.5),
    ("zeroshot", SAMPLE, (0, 1), 0.3),
    ("fewshot-random-k01", GREEDY, (0, 1), 0.8),
    ("fewshot-random-k01", SAMPLE, (0, 1), 0.6),
)


def make_answered_run(
    folder: Path,
    metrics: Sequence[str] = ("perplexity", "chrf"),
    count: int = 40,
    text: str | None = None,
) -> Path:
    """Likelihoods as :func:`make_run`, and the answers of :data:`CELLS`.

    Args:
        folder: the results directory.
        metrics: those of the run.
        count: test rows.
        text: what every first answer says, if it is to say something special.
    """
    make_run(folder, rows=count)
    manifest, store = read_manifest(folder), Store(folder)
    examples = tuple(
        dataclasses.replace(row, id=name)
        for row, name in zip(rows(count), manifest.task.rows, strict=True)
    )
    entries = list(manifest.entries)
    for label, decoding, seeds, kept in CELLS:
        for seed in seeds:
            seen = answered(examples, kept, seed or 0)
            if text is not None:
                seen = (dataclasses.replace(seen[0], text=text), *seen[1:])
            entries.append(_entry(store, label, decoding, seed, seen))
    if "perplexity" not in metrics:
        entries = [entry for entry in entries if entry.observes == "answer"]
    write_manifest(
        folder,
        dataclasses.replace(
            manifest,
            rows=examples,
            entries=tuple(entries),
            metrics={one.name: dict(one.defined(examples)) for one in select_metrics(metrics)},
        ),
    )
    return folder


def _entry(
    store: Store, label: str, decoding: DecodingSpec, seed: int | None, seen: Sequence[Answer]
) -> Entry:
    name = f"m-plain-{label}-{decoding.name}" + ("" if seed is None else f"-s{seed}")
    cell = dataclasses.replace(
        MEASUREMENT.cell,
        id=name,
        label=label,
        strategy=label.partition("-")[0],
        seed=seed,
        k=1 if "k01" in label else 0,
        n=len(seen),
        demonstrations_digest=label,
        decoding=decoding,
        scorer=None,
        model=dataclasses.replace(MEASUREMENT.cell.model, name="m", digest="m"),
    )
    path = store.put(
        dataclasses.replace(
            MEASUREMENT,
            cell=cell,
            observations=tuple(seen),
            provenance=PROVENANCE,
            writing=Writing(batches=1),
            **PLAIN,
        )
    )
    return Entry(
        *(name, "m", "none", "float32", "plain", label, label, seed, cell),
        file=str(path.relative_to(store.folder)),
        cached=True,
        observes="answer",
        decoding=decoding.name,
    )


JUDGE = JudgeSpec(ModelSpec("judge", "j"), "helpful", "r", "a", limits=(0.0, 5.0))


def make_judged_run(folder: Path, count: int = 40, why: str = "It says what was asked.") -> Path:
    """Answers as :func:`make_answered_run`, and what a judge says of the greedy ones.

    The judge gives a score by an answer's likeness to its reference, prefers the more alike, and
    was examined on the first rows by both rubrics.

    Args:
        folder: the results directory.
        count: test rows.
        why: the reason that the judge gives for every verdict.
    """
    make_answered_run(folder, ("chrf",), count)
    manifest, store = read_manifest(folder), Store(folder)
    outputs = {row.id: row.output for row in manifest.rows}
    greedy = [one for one in manifest.entries if one.decoding == "greedy"]
    seen = {one.id: read_measurement(folder / str(one.file), one.cell) for one in greedy}
    control = next(one for one in greedy if one.label == "zeroshot")
    entries = list(manifest.entries)

    def score(answer: Answer) -> float:
        return 5 * likeness(answer.text, outputs[answer.id])

    for one in greedy:
        ratings = [
            Rating(a.id, a.text, Ruling(f"{score(a):.0f}", score(a), why=why))
            for a in seen[one.id].answers
        ]
        entries.append(_judged(store, one, "judged", "", ratings))
        if one is not control:
            pairs = zip(seen[one.id].answers, seen[control.id].answers, strict=True)
            preferences = [_preference(a, b, score(a) - score(b), why) for a, b in pairs]
            name = f"vs-{control.label}"
            entries.append(_judged(store, one, name, control.label, preferences))
    write_manifest(
        folder,
        dataclasses.replace(
            manifest,
            entries=tuple(entries),
            metrics={
                one.name: dict(one.defined(manifest.rows))
                for one in select_metrics(("judge", "win_rate", "chrf"))
            },
            exams=_exams(manifest.rows),
        ),
    )
    return folder


def _preference(ours: Answer, theirs: Answer, better: float, why: str) -> Preference:
    win = float(better > 0) if better else 0.5
    said = {1.0: "A", 0.0: "B", 0.5: "C"}
    first, second = (Ruling(said[x], x, why=why) for x in (win, 1 - win))
    return Preference(ours.id, ours.text, theirs.text, first, second)


def _judged(
    store: Store, entry: Entry, name: str, against: str, seen: Sequence[Rating | Preference]
) -> Entry:
    assert entry.cell is not None
    digest = f"{entry.id}-{name}"
    judge = dataclasses.replace(JUDGE, answers_digest=digest, against=against)
    cell = dataclasses.replace(entry.cell, id=digest, judge=judge)
    path = store.put(
        dataclasses.replace(
            MEASUREMENT, cell=cell, observations=tuple(seen), provenance=PROVENANCE, **PLAIN
        )
    )
    return dataclasses.replace(
        entry,
        id=cell.id,
        cell=cell,
        file=str(path.relative_to(store.folder)),
        observes=cell.observes,
        against=against,
    )


def _exams(examples: Sequence[Example]) -> tuple[ExamScores, ...]:
    """What a judge that knows the references says of the probes."""
    some = examples[:12]
    made = probes(some)
    known = {
        kind: tuple(5 * likeness(text, row.output) for row, text in zip(some, texts, strict=True))
        for kind, texts in made.items()
    }
    ids = tuple(row.id for row in some)
    won = {
        kind: tuple((1.0, 1.0) if value < 5 else (0.5, 0.5) for value in values)
        for kind, values in known.items()
        if kind != "reference"
    }
    return (
        ExamScores("judge", "helpful", ids, known, known["reference"]),
        ExamScores("judge", "pairwise", ids, {}, tuple(x for x, _ in won["truncated"]), orders=won),
    )


def with_answers(examples: Sequence[Example], texts: Sequence[str]) -> tuple[Answer, ...]:
    """Answers with these texts, that ended by themselves."""
    pairs = zip(examples, texts, strict=True)
    return tuple(Answer(row.id, (1, 2), text, "stop token", "</s>", (), 7) for row, text in pairs)
