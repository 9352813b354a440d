"""What a run asked for and what became of each case, as its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness import __version__
from harness.config.export import effective
from harness.core import Cell, Task
from harness.records import ExamScores
from harness.results.manifest import (
    Control,
    EngineRecord,
    Entry,
    Manifest,
    TaskRecord,
    row_digests,
)
from harness.run.case import Case
from harness.run.choice import Choice
from harness.run.given import is_given
from harness.run.plan import Plan


def describe(
    plan: Plan,
    found: Mapping[str, tuple[Cell, str]],
    computed: frozenset[str] = frozenset(),
    failures: Mapping[str, str] | None = None,
    choices: Mapping[str, Choice] | None = None,
    exams: Sequence[ExamScores] = (),
    engine: EngineRecord | None = None,
    nodes: Mapping[str, str] | None = None,
) -> Manifest:
    """Describe a run.

    Args:
        plan: what was asked for, in its order.
        found: case id → (its cell, the cell's file relative to the results directory).
        computed: ids of the cases computed in this very run.
        failures: case id → the line its failure said.
        choices: case id → the decoding that was chosen for it.
        exams: how its judges did in their examinations.
        engine: what computed it, if not this process.
        nodes: a cell's key → where it was computed, if not here.
    """
    task, failures, choices = plan.task, failures or {}, choices or {}
    pool = task.pool + task.leaks
    scored = {row.id: (len(row.output), row.score) for row in pool if row.score is not None}
    asked = [case for case in plan.cases if not is_given(case)]
    templates = {case.template.name: case.template for case in asked}
    return Manifest(
        adaptbench=__version__,
        metrics={one.name: dict(one.defined(task.examples)) for one in plan.metrics},
        task=_task(task, len(pool)),
        prompts=tuple(templates.values()),
        recipe=effective(plan.options),
        trial=plan.options.trial,
        rows=task.examples,
        shown={
            row.id: row
            for case in plan.cases
            for rows in {id(rows): rows for rows in plan.demonstrations(case)}.values()
            for row in rows
        },
        scored_pool=scored if len(scored) == len(pool) else {},
        entries=tuple(
            _entry(case, found, computed, failures, choices.get(case.id), nodes or {})
            for case in plan.cases
        ),
        control=Control(*plan.control),
        exams=tuple(exams),
        labels=plan.labels,
        published=plan.options.published,
        engine=engine,
    )


def _task(task: Task, trainable: int) -> TaskRecord:
    return TaskRecord(
        name=task.name,
        data=task.source,
        n=len(task.examples),
        digest=task.digest,
        rows=row_digests(task),
        train_data=task.pool_source,
        pool=len(task.pool),
        pool_digest=task.pool_digest,
        trainable=trainable,
        excluded=task.excluded,
        leaked=bool(task.leaks),
        warnings=task.warnings,
    )


def _entry(
    case: Case,
    found: Mapping[str, tuple[Cell, str]],
    computed: frozenset[str],
    failures: Mapping[str, str],
    choice: Choice | None,
    nodes: Mapping[str, str],
) -> Entry:
    cell, file = found.get(case.id, (None, None))
    return Entry(
        id=case.id,
        model=case.model_name,
        quantization=case.quantization,
        dtype=case.dtype,
        prompt=case.template.name,
        label=case.label,
        training_label=case.variant,
        seed=case.seed,
        cell=cell,
        file=file,
        cached=cell is not None and case.id not in computed,
        reason=None if cell else failures.get(case.id, "not run"),
        observes=case.observes,
        decoding=case.decoding_name,
        choice=None if choice is None else choice.record,
        against=case.against,
        node="" if cell is None else nodes.get(cell.key, ""),
    )
