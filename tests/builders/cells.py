"""One stored cell with its measurement."""

from __future__ import annotations

from collections.abc import Sequence

from harness.core import Cell, Example, ModelSpec
from harness.metrics.perplexity import Perplexity
from harness.records import (
    COPIED,
    IN_PLACE,
    Evaluation,
    Likelihood,
    Measurement,
    Precision,
    Provenance,
    Repetition,
    Scoring,
    StageRecord,
    TrainingRecord,
)

CELL = Cell(
    id="m-plain-fewshot-random-k03-s0",
    task="t/test",
    strategy="fewshot",
    label="fewshot-random-k03",
    prompt="plain",
    k=3,
    select="random",
    draw="run",
    seed=0,
    n=2,
    model=ModelSpec("m", "sha-model"),
    task_digest="sha-task",
    prompt_digest="sha-prompt",
    demonstrations_digest="sha-demos",
    training_digest=None,
    decoding=None,
    judge=None,
    scorer="fast",
    libraries=(("torch", "2.13.0"), ("adaptbench", "sha-code")),
)
MEASUREMENT = Measurement(
    CELL,
    (Likelihood("a", 1.1, 3, 2, 6, 10, ("x", "y")), Likelihood("b", 0.1 + 0.2, 4, 3, 9, 11)),
    1.5,
    Provenance("0.1", "BOS", "sha-pool", "torch default", {"torch": "2.13.0"}, {"cores": 2}),
    TrainingRecord(
        adapter="sha-train",
        sha256="sha-adapter",
        base={"model_type": "llama"},
        settings={"r": 4, "target_modules": ["q_proj"]},
        optimizer="adamw_torch",
        rows=2,
        tokens=20,
        trained_rows=4,
        trained_tokens=40,
        steps=2,
        losses=(2.5, 0.1 + 0.2),
        evaluations=(Evaluation(0, 2.0, None, 1.5, 4.5), Evaluation(2, 1.0, 3.0, 1.25, None)),
        best_step=0,
        select_on="holdout",
        ids=("c", "d"),
        left_out=("e",),
        holdout_ids=("f",),
        stages=(StageRecord(2, 1e-3, 1.0, ("c", "d")),),
        trainable_parameters=64,
        seconds=1.25,
        resumed_from=1,
    ),
    123,
    Scoring(
        IN_PLACE,
        17,
        {COPIED: "why not"},
        3,
        1,
        Precision(2, 0.25, 0.125, -0.5),
        Repetition(2, True, 0.1, 0.05),
    ),
    skeletons={"user": "<u>"},
)

PROVENANCE = Provenance(
    adaptbench="0.1.0",
    prefix_token="BOS",
    pool_digest="sha",
    matmul="torch default",
    versions={"torch": "2.13.0"},
    hardware={"processor": "test", "cores": 2},
)
# As a plain run leaves it: nothing shared, nothing repeated, nothing written.
PLAIN = {"scoring": Scoring(), "skeletons": {}, "training": None}


def perplexity(seen: Sequence[Likelihood], name: str = "mean_perplexity") -> float:
    """One of perplexity's aggregates."""
    rows = [Example(one.id, "", "") for one in seen]
    return Perplexity().read(seen, rows).aggregates[name]
