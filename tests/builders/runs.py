"""Stored runs: a results directory with cells, rows and a manifest, without a model."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

from harness.config.export import effective
from harness.config.options import Options
from harness.core import Example, PromptTemplate
from harness.gate.verdict import Gate
from harness.metrics.perplexity import Perplexity
from harness.records import Likelihood
from harness.report.content import build
from harness.report.nouns import Report
from harness.results.manifest import Entry, Manifest, TaskRecord, write_manifest
from harness.results.reading import metrics_of, read_run
from harness.results.store import Store
from tests.builders.cells import MEASUREMENT, PLAIN, PROVENANCE

SEEDS, ROWS = 3, 40


def make_run(
    folder: Path,
    shift: float = 0.0,
    model: str = "m",
    labels: tuple[str, ...] = ("zeroshot", "fewshot-random-k01"),
    rows: int = ROWS,
    tokens: int = 10,
) -> Path:
    """A results directory as a run leaves it: ``shift`` raises the few-shot cells' logarithms."""
    store, entries = Store(folder), []
    store.prepare()
    ids = [f"r{i:03d}" for i in range(rows)]
    for label in labels:
        for seed in (None,) if label == "zeroshot" else range(SEEDS):
            rng = random.Random(f"{label}{seed}")
            up = 0.0 if label == "zeroshot" else shift
            name = f"{model}-plain-{label}" + ("" if seed is None else f"-s{seed}")
            cell = dataclasses.replace(
                MEASUREMENT.cell,
                id=name,
                label=label,
                strategy=label.partition("-")[0],
                seed=seed,
                k=int(label[-2:]) if label[-2:].isdigit() else 0,
                n=rows,
                demonstrations_digest=f"{label}{shift}",
                model=dataclasses.replace(MEASUREMENT.cell.model, name=model, digest=model),
            )
            base = random.Random(0)
            scores = tuple(
                Likelihood(
                    i, tokens * (base.gauss(3, 0.8) + rng.gauss(0, 0.01) + up), tokens, 3, 9, 20
                )
                for i in ids
            )
            measurement = dataclasses.replace(
                MEASUREMENT, cell=cell, observations=scores, provenance=PROVENANCE, **PLAIN
            )
            path = store.put(measurement)
            entries.append(
                Entry(
                    *(name, model, "none", "float32", "plain", label, label, seed, cell),
                    file=str(path.relative_to(folder)),
                    cached=True,
                )
            )
    task = TaskRecord(
        name="task",
        data="gone.json",
        n=rows,
        digest="d",
        pool=3,
        rows=dict.fromkeys(ids, "text"),
        train_data="gone.json",
        pool_digest="p",
        trainable=3,
    )
    manifest = Manifest(
        adaptbench="0.1.0",
        metrics={"perplexity": dict(Perplexity.definition)},
        task=task,
        prompts=(PromptTemplate("plain", "", "", ""),),
        recipe=effective(Options()),
        trial=False,
        rows=tuple(Example(i, f"ask {i}", "答") for i in ids),
        shown={},
        scored_pool={},
        entries=tuple(entries),
    )
    write_manifest(folder, manifest)
    return folder


def report_of(folder: Path, gate: Gate | None = None) -> Report:
    """What a report says of a stored run."""
    manifest, measured = read_run(folder)
    return build(manifest, measured, metrics_of(manifest, folder), gate)
