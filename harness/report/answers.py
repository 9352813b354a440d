"""What a report says of answers besides metrics: what they are read against, what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from statistics import fmean

from harness.core import Example
from harness.messages import say
from harness.metrics.anchors import copy_source, reference
from harness.metrics.base import Metric, reading
from harness.metrics.find import GROUPS, select_metrics
from harness.records import LIMIT, Measurement
from harness.report.members import Members
from harness.report.nouns import Anchor, Degeneration, SampleRow, Written, finite

SAMPLED = 5  # rows whose answers are shown
FLOOR, CEILING = say("copy the source"), say("the reference")


def anchors(metric: Metric, rows: Sequence[Example]) -> tuple[Anchor, ...]:
    """The floor and the ceiling of a metric of answers; the latter where there are references.

    Nothing for a metric of something else.
    """
    if metric.observes != "answer":
        return ()
    kinds = [(FLOOR, copy_source(rows))]
    if all(row.output for row in rows):
        kinds.append((CEILING, reference(rows)))
    name = metric.headline.name
    return tuple(
        Anchor(words, finite(metric.read(answers, rows).aggregates[name]))
        for words, answers in kinds
    )


def faults(measurement: Measurement, rows: Sequence[Example]) -> tuple[tuple[str, ...], ...]:
    """The names of what is wrong with the answers to each row; nothing where there are none."""
    if not measurement.answers:
        return ()
    metrics = _of_degeneration(rows)
    values = [reading(metric, measurement, rows).values for metric in metrics]
    return tuple(
        tuple(metric.name for metric, value in zip(metrics, of_row, strict=True) if value > 0)
        for of_row in zip(*values, strict=True)
    )


@cache  # so that a cell is read once for its shares and for its rows' faults
def _all() -> tuple[Metric, ...]:
    return select_metrics(GROUPS["degeneration"])


def _of_degeneration(rows: Sequence[Example]) -> tuple[Metric, ...]:
    metrics = _all()
    if all(row.output for row in rows):
        return metrics
    return tuple(one for one in metrics if not one.needs_reference)


def degeneration(groups: Sequence[Members], rows: Sequence[Example]) -> tuple[Degeneration, ...]:
    """The shares of degenerate answers of every group that has answers.

    They are there whether or not the run asked for them as metrics.
    """
    metrics = _of_degeneration(rows)
    return tuple(
        Degeneration(
            members.group,
            {
                metric.name: finite(
                    fmean(
                        reading(metric, row.measurement, rows).aggregates[metric.name]
                        for row in members.rows
                    )
                )
                for metric in metrics
            },
        )
        for members in groups
        if members.observes == "answer"
    )


def samples(groups: Sequence[Members], rows: Sequence[Example]) -> tuple[SampleRow, ...]:
    """What was written for the first rows, by one cell of each group: that of its first seed."""
    first = [members.rows[0] for members in groups if members.observes == "answer"]
    if not first:
        return ()
    return tuple(
        SampleRow(
            question.id,
            question.instruction,
            question.output,
            tuple(
                Written(row.entry.id, answer.text, answer.ended != LIMIT)
                for row in first
                for answer in row.measurement.answers
                if answer.id == question.id and answer.draw == 0
            ),
        )
        for question in rows[:SAMPLED]
    )
