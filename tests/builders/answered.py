"""A results directory with answers besides likelihoods, as a run leaves it, without a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from harness.core import DecodingSpec, Example
from harness.metrics.find import select_metrics
from harness.records import Answer, Writing
from harness.results.manifest import Entry, read_manifest, write_manifest
from harness.results.store import Store
from tests.builders.answers import answered, rows
from tests.builders.cells import MEASUREMENT, PLAIN, PROVENANCE
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


def with_answers(examples: Sequence[Example], texts: Sequence[str]) -> tuple[Answer, ...]:
    """Answers with these texts, that ended by themselves."""
    pairs = zip(examples, texts, strict=True)
    return tuple(Answer(row.id, (1, 2), text, "stop token", "</s>", (), 7) for row, text in pairs)
