"""A decoding that is chosen on held-out rows, so that the test rows say how good the choice is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from harness.core import DecodingSpec
from harness.records import Measurement
from harness.results.manifest import ChoiceRecord
from harness.run.case import Case
from harness.run.plan import Plan


@dataclass(frozen=True)
class Choice:
    """Which decoding is the best on held-out rows.

    Attributes:
        decoding: the best.
        metric: the name of the metric that says so.
        values: a candidate's name → its headline on the held-out rows.
        rows: how many there are.
    """

    decoding: DecodingSpec
    metric: str
    values: Mapping[str, float]
    rows: int

    @property
    def record(self) -> ChoiceRecord:
        """As the manifest keeps it."""
        return ChoiceRecord(self.decoding.name, self.metric, self.values, self.rows)

    def of(self, case: Case) -> Case:
        """The case with the decoding that was chosen."""
        draws = case.strategy.stochastic or self.decoding.do_sample
        return replace(
            case, decoding=self.decoding, candidates=(), seed=case.seed if draws else None
        )


def aside(plan: Plan) -> Plan:
    """The same plan for the held-out rows; adapters are those of the plan itself."""
    task = replace(plan.task, name=f"{plan.task.name}, held out", examples=plan.held_out)
    return replace(plan, task=task, evaluated=plan.evaluation_rows)


def candidates(case: Case) -> list[Case]:
    """The cases of held-out rows that a decoding of ``case`` is chosen by."""
    return [
        replace(
            case,
            id=f"{case.id}-{decoding.name}",
            decoding=decoding,
            candidates=(),
            seed=case.seed if case.strategy.stochastic or decoding.do_sample else None,
        )
        for decoding in case.candidates
    ]


def choose(case: Case, plan: Plan, measured: Callable[[Case], Measurement | None]) -> Choice | None:
    """Choose by the headline of the first metric of answers; of equals, what was named first.

    Args:
        case: with candidates.
        plan: its plan.
        measured: what a candidate wrote for the held-out rows, or None.

    Returns:
        The choice, or None where something has not been measured.
    """
    metric = next(one for one in plan.metrics if one.observes == "answer")
    values: dict[str, float] = {}
    for candidate in candidates(case):
        found = measured(candidate)
        if found is None:
            return None
        reading = metric.read(found.observations, plan.held_out)
        values[candidate.decoding_name] = reading.aggregates[metric.headline.name]
    best = min(case.candidates, key=lambda one: metric.worsening * values[one.name])
    return Choice(best, metric.name, values, len(plan.held_out))
