"""What was found, as JSON and back: the fields of a stored cell and of an adapter's record.

JSON has no NaN and no infinity: an NLL that is not finite is written as a text, which survives
every parser, and a point of a learning curve as null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from harness.records import (
    Agreement,
    Answer,
    Evaluation,
    ExamScores,
    LabelledScore,
    Likelihood,
    Precision,
    Preference,
    Provenance,
    Rating,
    Repetition,
    Ruling,
    Scoring,
    StageRecord,
    TrainingRecord,
    Writing,
)

JsonObject = dict[str, Any]  # what json.loads makes of an object
PRECISION = ("rows", "worst", "mean", "perplexity")
ALWAYS = ("step", "loss", "mean_perplexity")  # of an evaluation; the others with held-out rows


def likelihood_to_json(seen: Likelihood) -> JsonObject:
    """The fields of a likelihood; an NLL that is not finite as a text."""
    return asdict(seen) | {"nll": seen.nll if math.isfinite(seen.nll) else str(seen.nll)}


def likelihood_from_json(body: JsonObject) -> Likelihood:
    """The likelihood that :func:`likelihood_to_json` wrote.

    Raises:
        KeyError, TypeError, ValueError: it is none; so of every function here.
    """
    return Likelihood(**{**body, "nll": float(body["nll"]), "demo_ids": tuple(body["demo_ids"])})


def scoring_to_json(scoring: Scoring) -> JsonObject:
    """How rows were scored; ``repeat`` only where the noise was measured."""
    body: JsonObject = {
        "prefix": scoring.prefix,
        "prefix_tokens": scoring.prefix_tokens,
        "refused": dict(scoring.refused),
        "batches": scoring.batches,
        "halved": scoring.halved,
    }
    if scoring.repetition is not None:
        body["repeat"] = asdict(scoring.repetition)
    return body | {"rounding": _precision_to_json(scoring.precision)}


def scoring_from_json(body: Mapping[str, Any]) -> Scoring:
    """The scoring that :func:`scoring_to_json` wrote."""
    values = dict(body)
    precision, repetition = values.pop("rounding", None), values.pop("repeat", None)
    return Scoring(
        **values,
        precision=None if precision is None else Precision(**precision),
        repetition=None if repetition is None else Repetition(**repetition),
    )


def _precision_to_json(precision: Precision | None) -> JsonObject | None:
    if precision is None:
        return None
    if precision.unknown is not None:
        return {"unknown": precision.unknown}
    return {name: getattr(precision, name) for name in PRECISION}


def training_to_json(record: TrainingRecord) -> JsonObject:
    """A training run as a stored cell keeps it, the name of the adapter's folder last."""
    body = asdict(record) | {
        "evaluations": [
            {
                name: value
                for name, value in asdict(point).items()
                if name in ALWAYS or record.holdout_ids
            }
            for point in record.evaluations
        ]
    }
    adapter = body.pop("adapter")
    return body | {"adapter": adapter}


def training_from_json(body: Mapping[str, Any]) -> TrainingRecord:
    """The training run that :func:`training_to_json` wrote."""
    lists = ("losses", "ids", "left_out", "holdout_ids")
    return TrainingRecord(
        **{
            **body,
            **{name: tuple(body[name]) for name in lists},
            "evaluations": tuple(Evaluation(**point) for point in body["evaluations"]),
            "stages": tuple(
                StageRecord(**{**stage, "ids": tuple(stage["ids"])}) for stage in body["stages"]
            ),
        }
    )


def answer_to_json(seen: Answer) -> JsonObject:
    """The fields of an answer; its numbers in two lines, since a line each would be thousands."""
    return asdict(seen) | {
        "tokens": " ".join(map(str, seen.tokens)),
        "logprobs": " ".join(map(repr, seen.logprobs)),
    }


def answer_from_json(body: JsonObject) -> Answer:
    """The answer that :func:`answer_to_json` wrote."""
    return Answer(
        **{
            **body,
            "tokens": tuple(map(int, body["tokens"].split())),
            "logprobs": tuple(map(float, body["logprobs"].split())),
            "demo_ids": tuple(body["demo_ids"]),
        }
    )


def ruling_from_json(body: JsonObject) -> Ruling:
    """What a judge said, from the JSON of its fields."""
    lists = ("probabilities", "tokens")
    return Ruling(**{**body, **{name: tuple(body[name]) for name in lists}})


def rating_from_json(body: JsonObject) -> Rating:
    """A rating from the JSON of its fields."""
    ruling, shown = ruling_from_json(body["ruling"]), tuple(body["demo_ids"])
    return Rating(**{**body, "ruling": ruling, "demo_ids": shown})


def preference_from_json(body: JsonObject) -> Preference:
    """A preference from the JSON of its fields."""
    said = {name: ruling_from_json(body[name]) for name in ("first", "second")}
    return Preference(**{**body, **said, "demo_ids": tuple(body["demo_ids"])})


def exam_from_json(body: Mapping[str, Any]) -> ExamScores:
    """An examination from the JSON of its fields."""
    return ExamScores(
        **{
            **body,
            "rows": tuple(body["rows"]),
            "scores": {kind: tuple(values) for kind, values in body["scores"].items()},
            "again": tuple(body["again"]),
            "orders": {
                kind: tuple((first, second) for first, second in rows)
                for kind, rows in body.get("orders", {}).items()
            },
            "labels": tuple(
                LabelledScore(**{**one, "lengths": tuple(one["lengths"])})
                for one in body.get("labels", ())
            ),
        }
    )


def writing_from_json(body: Mapping[str, Any] | None) -> Writing | None:
    """How answers were written, from the JSON of its fields."""
    if body is None:
        return None
    agreement = body["agreement"]
    found = None if agreement is None else Agreement(**agreement)
    return Writing(**{**body, "agreement": found})


def provenance_from_json(body: Mapping[str, Any]) -> Provenance:
    """Where a measurement comes from."""
    return Provenance(**body)
