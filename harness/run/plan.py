"""From options to cases: strategies × seeds × models × quantizations × prompts × decodings.

What is observed follows from the metrics: likelihoods where one reads them, answers where one reads
answers, or a decoding is asked for. Each is a case of its own, so that neither is computed again
because of the other.

A case is one pytest parameter. Making cases reads the data and runs the strategies, but touches
no model: an unusable flag is found here, before anything is computed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from harness.config.options import Options
from harness.core import Example, Task
from harness.data.labels import read_labels
from harness.data.predictions import check_suffix
from harness.errors import DataError, OptionError, suggest
from harness.metrics.base import Metric
from harness.plugins import find_strategies, select_strategies
from harness.records import Label
from harness.run.adaptations import adapt
from harness.run.asked import (
    as_judged,
    asks_models,
    hold_out,
    judged_cases,
    observed_by,
    read_task,
    readable,
)
from harness.run.case import Case, as_suffix
from harness.run.given import given_cases, is_given
from harness.run.rounds import in_rounds
from harness.run.ways import cases_of, distinct
from harness.training.spec import leakage_line


@dataclass(frozen=True)
class Plan:
    """Everything a run is going to do.

    Attributes:
        options: what was asked for.
        task: the rows.
        cases: in the order of the report.
        metrics: what is read from what is observed, the headline first.
        control: label and title of what the others are compared with.
        held_out: rows that choose decodings; they are neither shown nor trained on.
        evaluated: what trainings are evaluated on, where that is not the task's test rows.
        labels: what people said of answers, to compare a judge with.
    """

    options: Options
    task: Task
    cases: tuple[Case, ...]
    metrics: tuple[Metric, ...]
    control: tuple[str, str] = ("zeroshot", "zero-shot")
    held_out: tuple[Example, ...] = ()
    evaluated: tuple[Example, ...] | None = None
    labels: tuple[Label, ...] = ()

    @cached_property
    def by_id(self) -> dict[str, Case]:
        return {case.id: case for case in self.cases}

    @cached_property
    def rounds(self) -> tuple[tuple[Case, ...], ...]:
        """The cases in the order in which they are measured: see :mod:`harness.run.rounds`."""
        return in_rounds(self.cases)

    @property
    def evaluation_rows(self) -> tuple[Example, ...]:
        """The rows that trainings are evaluated on."""
        return self.task.examples if self.evaluated is None else self.evaluated

    @cached_property
    def _drawn(self) -> dict[str, list[tuple[Example, ...]]]:
        return {}

    def demonstrations(self, case: Case) -> list[tuple[Example, ...]]:
        """The demonstrations of each test row: one draw for all, or one per row."""
        if case.strategy.draw != "row":
            return [case.adaptation.demonstrations] * len(self.task.examples)
        if case.id not in self._drawn:
            self._drawn[case.id] = [
                adapt(
                    case.strategy, self.task.pool, row_seed(case.seed or 0, example.id)
                ).demonstrations
                for example in self.task.examples
            ]
        return self._drawn[case.id]


def row_seed(seed: int, example_id: str) -> int:
    """The seed of one test row's own draw: a function of the run's seed and the row's id alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{example_id}".encode()).digest()[:4], "big")


def make_plan(options: Options) -> Plan:
    """Resolve every flag into cases.

    Raises:
        AdaptbenchError: one line naming the flag or the file, row and field.
    """
    if options.predictions is not None:
        check_suffix(options.predictions)
    strategies = select_strategies(options.strategy) if asks_models(options) else []
    observed = observed_by(options)
    task = read_task(options)
    metrics = readable(options, task)
    task, held_out = hold_out(options, task, metrics)
    cases = given_cases(options.score_predictions)
    titles = {case.variant: case.variant for case in cases}
    if strategies:
        made, named = cases_of(options, task, strategies, observed)
        cases += made
        titles |= named
    cases += judged_cases(options, cases, metrics)
    if options.predictions is not None and not any(case.decoding for case in cases):
        raise OptionError(
            f"--predictions={options.predictions}: no answer is written; add --decode=greedy, or a "
            f"metric of answers"
        )
    if task.excluded and not options.allow_leakage and any(case.training for case in cases):
        raise DataError(leakage_line(task))
    # Distinct parts can join to equal ids: prompt "a-b" with label "c", prompt "a" with "b-c".
    distinct("cell", [case.id for case in cases])
    control = _control(options, cases, titles)
    path = options.judge_labels
    return Plan(
        options,
        task,
        tuple(_by_model(cases)),
        as_judged(options, metrics),
        control,
        held_out,
        labels=() if path is None else read_labels(path, task.examples),
    )


def _control(options: Options, cases: Sequence[Case], titles: Mapping[str, str]) -> tuple[str, str]:
    """Label and title of the control.

    Raises:
        OptionError: the user asked for one that this run does not have.
    """
    label = options.control
    for case in cases:
        if case.label == label:
            return label, titles[case.variant] + as_suffix(case.score_as)
    if options.given("control"):
        known = list(dict.fromkeys(case.label for case in cases))
        raise OptionError(
            f"--control={label}: nothing in this run is called so{suggest(label, known)}; "
            f"known: {', '.join(known)}"
        )
    if all(is_given(case) for case in cases if case.judging is None):  # files: the first of them
        return cases[0].label, cases[0].label
    # Nothing is compared with it, but sentences may say that it is missing.
    strategy = find_strategies().get(label)
    return label, strategy().title if strategy is not None else label


def _by_model(cases: list[Case]) -> list[Case]:
    """Order cases by model and how it is loaded: training runs last, then judges."""
    first: dict[tuple[str, str, bool], int] = {}
    for case in cases:
        first.setdefault(_group(case), len(first))
    models = list(dict.fromkeys(case.model_name for case in cases))
    return sorted(
        cases,
        key=lambda case: (
            case.judging is not None,
            models.index(case.model_name),
            case.training is not None,
            first[_group(case)],
        ),
    )


def _group(case: Case) -> tuple[str, str, bool]:
    return case.model_name, case.quantization, case.training is not None
