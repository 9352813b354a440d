"""A report for programs: plain JSON values, everything but the rows' texts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from harness.gate.verdict import Gate
from harness.metrics.base import Effect, Metric
from harness.report.nouns import (
    NAMED,
    CellFacts,
    CellResult,
    Group,
    GroupResult,
    Report,
    Section,
)
from harness.statistics.uncertainty import Bounds

SCHEMA_VERSION = 2
Json = dict[str, Any]  # what json.dumps takes


def summary(report: Report) -> Json:
    """The content of summary.json.

    ``cells`` and ``groups`` are under the headline metric; ``metrics`` has every metric with what
    its numbers mean, and, but for the first, its own ``cells`` and ``groups``. Numbers that are
    not finite are null.
    """
    body = {
        "schema_version": SCHEMA_VERSION,
        "adaptbench": report.adaptbench,
        "metrics": _metrics(report),
        "control": asdict(report.control),
        "task": {name: value for name, value in asdict(report.task).items() if name != "rows"},
        "models": [{**asdict(one.spec), "prefix_token": one.prefix_token} for one in report.models],
        "prompts": [asdict(prompt) for prompt in report.prompts],
        "seeds": report.seeds,
        "scorers": report.scorers,
        "trainings": [asdict(one) for one in report.trainings],
        **_answers(report),
        "samples": [asdict(one) for one in report.samples],
        "recipe": report.recipe,
        "trial": report.trial,
        "runs": report.runs,
        "so_far": report.so_far,
        "engine": None if report.engine is None else asdict(report.engine),
        "precision": [{**asdict(one), **asdict(one.cost)} for one in report.precision],
        "unshared": [asdict(one) for one in report.unshared],
        "halved": report.halved,
        "environments": [asdict(one) for one in report.environments],
        **_results(report.headline),
        "conclusions": report.conclusions,
        "constant": report.headline.constant,
        "spreads": [asdict(one) for one in report.headline.spreads],
        "noise": [{"cell": one.cell, **asdict(one.found)} for one in report.noise],
        "gate": None if report.gate is None else _gate(report.gate),
        "missing": [asdict(one) for one in report.missing],
        "warnings": report.warnings,
    }
    # Tuples become lists; infinities, of comparisons on one row, have no word in JSON.
    plain: Json = json.loads(json.dumps(body), parse_constant=lambda text: None)
    return plain


def _answers(report: Report) -> Json:
    """What is said of answers, and of those who judge them."""
    return {
        "decodings": [asdict(one) for one in report.decodings],
        "choices": [{"cell": name, **asdict(one)} for name, one in report.choices],
        "judges": [
            {**asdict(one), "trusted": one.exam.trusted, "sentences": one.exam.sentences}
            for one in report.judges
        ],
        "duels": [
            {**dict(zip(NAMED, one.group.name, strict=True)), **_without_group(asdict(one))}
            for one in report.duels
        ],
        "strengths": [asdict(one) for one in report.strengths],
        "corrected": [
            {**dict(zip(NAMED, one.group.name, strict=True)), **_without_group(asdict(one))}
            for one in report.corrected
        ],
        "degeneration": [
            {**dict(zip(NAMED, one.group.name, strict=True)), **one.shares}
            for one in report.degeneration
        ],
        "writings": [{"cell": one.cell, **asdict(one.how)} for one in report.writings],
    }


def _without_group(body: Json) -> Json:
    return {name: value for name, value in body.items() if name != "group"}


def _metrics(report: Report) -> list[Json]:
    """What each metric's numbers mean; the headline metric's results stand outside."""
    first, *more = report.sections
    rest = ({**_metric(one.metric), **_results(one)} for one in more)
    return [_metric(first.metric), *rest]


def _metric(metric: Metric) -> Json:
    return {
        "name": metric.name,
        "title": metric.title,
        "better": metric.better,
        "scale": metric.scale,
        "headline": metric.headline.name,
        "definitions": {one.name: one.meaning for one in metric.all},
    }


def _results(section: Section) -> Json:
    return {
        "cells": [_cell(section.metric, one.cell, one) for one in section.cells],
        "groups": [_group(section.metric, one.group, one) for one in section.groups],
        "anchors": {one.name: one.value for one in section.anchors if not one.published},
        "published": {one.name: one.value for one in section.anchors if one.published},
    }


def _cell(metric: Metric, cell: CellFacts, result: CellResult) -> Json:
    bounds = _bounds(metric, result.bounds)
    return {
        **asdict(cell),
        **result.aggregates,
        "nonfinite": result.nonfinite,
        **{name: value for name, value in bounds.items() if not name.endswith("_seeds_interval")},
        "verdict": result.verdict,
    }


def _group(metric: Metric, group: Group, result: GroupResult) -> Json:
    found = result.comparison
    return {
        **asdict(group),
        "mean": result.mean,
        "std": result.std,
        **{name: known.mean for name, known in result.aggregates.items()},
        **{f"{name}_std": known.std for name, known in result.aggregates.items()},
        "nonfinite": result.nonfinite,
        "verdict": result.verdict,
        **_bounds(metric, result.bounds),
        "versus": found
        and {
            "effect": _effect(found.effect),
            "seeds_effect": _effect(found.seeds_effect),
            "mean_effect": _effect(found.mean_effect),
            "p": found.p,
        },
        "disagreeing": result.disagreeing,
    }


def _bounds(metric: Metric, bounds: Bounds) -> Mapping[str, Any]:
    found = {"mean_interval": bounds.mean, "mean_seeds_interval": bounds.mean_seeds}
    if metric.center is None:
        return found
    return found | {
        "geometric_interval": bounds.center,
        "geometric_seeds_interval": bounds.center_seeds,
    }


def _effect(effect: Effect | None) -> list[float] | None:
    """[estimate, low, high]: a relative change on a log scale, a difference on a linear one."""
    return None if effect is None else [effect.estimate, effect.low, effect.high]


def _gate(gate: Gate) -> Json:
    verdicts = [
        {
            **asdict(one),
            "effect": _effect(one.effect),
            "mean_effect": _effect(one.mean_effect),
        }
        for one in gate.verdicts
    ]
    return {
        **asdict(gate),
        "baseline": gate.file,
        "verdicts": verdicts,
        "passed": gate.passed,
        "failing": len(gate.failing),
        "counts": dict(gate.counts),
    }
