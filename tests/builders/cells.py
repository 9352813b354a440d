"""One stored cell with its measurement."""

from __future__ import annotations

from harness.core import Cell, Measurement, ModelSpec, Score

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
    generation_digest=None,
    scorer="fast",
    libraries=(("torch", "2.13.0"), ("adaptbench", "sha-code")),
)

MEASUREMENT = Measurement(
    CELL,
    (Score("a", 1.1, 3, 2, 6, 10, ("x", "y")), Score("b", 0.1 + 0.2, 4, 3, 9, 11)),
    1.5,
    {"versions": {"torch": "2.13.0"}},
    {"steps": 3},
    123,
)

PROVENANCE = {
    "adaptbench": "0.1.0",
    "prefix_token": "BOS",
    "matmul": "torch default",
    "pool_digest": "sha",
    "versions": {"torch": "2.13.0"},
    "hardware": {"processor": "test", "cores": 2},
}
