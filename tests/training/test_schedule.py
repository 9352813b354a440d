"""What every optimizer step sees, as a function of the rows, the seed and the settings."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

import pytest

from harness.core import TrainingSettings
from harness.training.schedule import Part, Row, at_steps, count_steps, learning_rates, plan_steps

ROWS = [Row(f"r{i:03d}", 10 + (i * 37) % 91) for i in range(50)]
ALL = Part(tuple(range(50)), 1.0, 1e-3)


def settings(**changes: Any) -> TrainingSettings:
    return TrainingSettings(
        **{"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, **changes}
    )


def seen(steps: Any) -> Counter[int]:
    return Counter(row for step in steps for batch in step.batches for row in batch)


def test_an_epoch_shows_each_row_once() -> None:
    steps = plan_steps(ROWS, [ALL], settings())
    assert len(steps) == 13  # 50 rows, four a step
    assert seen(steps) == Counter(range(50))
    assert all(len(batch) <= 2 for step in steps for batch in step.batches)
    assert sum(len(step.batches) for step in steps) == 25


def test_epochs_differ_and_parts_of_one_count() -> None:
    part = Part(ALL.rows, 2.5, 1e-3)
    steps = plan_steps(ROWS, [part], settings())
    assert len(steps) == math.ceil(2.5 * 13)
    first, second = steps[:13], steps[13:26]
    assert seen(first) == seen(second) == Counter(range(50))
    assert [step.batches for step in first] != [step.batches for step in second]


def test_the_order_depends_on_ids_and_seed_alone() -> None:
    plain = plan_steps(ROWS, [ALL], settings())
    assert plan_steps(ROWS, [ALL], settings(seed=1)) != plain
    shuffled = random.Random(3).sample(ROWS, len(ROWS))
    other = plan_steps(shuffled, [ALL], settings())

    def names(rows: list[Row], steps: Any) -> list[set[str]]:
        return [{rows[r].id for batch in step.batches for r in batch} for step in steps]

    assert names(shuffled, other) == names(ROWS, plain)


def test_rows_of_a_batch_have_similar_lengths_and_steps_no_order_of_lengths() -> None:
    steps = plan_steps(ROWS, [ALL], settings())
    padded = sum(
        len(batch) * max(ROWS[r].length for r in batch) for s in steps for batch in s.batches
    )
    assert padded < 1.05 * sum(row.length for row in ROWS)
    longest = [max(ROWS[r].length for batch in s.batches for r in batch) for s in steps]
    assert longest not in (sorted(longest), sorted(longest, reverse=True))


def test_max_steps_wins_over_epochs_and_goes_round() -> None:
    steps = plan_steps(ROWS, [ALL], settings(max_steps=40))
    assert len(steps) == 40
    assert set(seen(steps[:39]).values()) == {3}
    assert len(plan_steps(ROWS, [ALL], settings(max_steps=3))) == 3


def test_stages_have_their_own_rows_and_lengths() -> None:
    parts = [Part(tuple(range(20)), 2.0, 1e-3), Part(tuple(range(20, 50)), 1.0, 1e-4)]
    steps = plan_steps(ROWS, parts, settings())
    assert [step.stage for step in steps] == [0] * 10 + [1] * 8
    assert seen(steps[:10]) == Counter(dict.fromkeys(range(20), 2))
    assert seen(steps[10:]) == Counter(range(20, 50))
    # In proportion, 9 of 18 steps: 5 and 4.
    assert count_steps(parts, settings(max_steps=9)) == [5, 4]
    assert count_steps(parts, settings(max_steps=180)) == [100, 80]
    # Never more than were asked for, but one for each stage.
    tiny = [Part(tuple(range(50)), 9.0, 1e-3), *(Part((row,), 1.0, 1e-3) for row in range(2))]
    assert count_steps(tiny, settings(max_steps=10)) == [8, 1, 1]
    assert count_steps(tiny, settings(max_steps=2)) == [1, 1, 1]
    fifty = Part(tuple(range(200)), 1.1, 1e-3)
    assert count_steps([fifty], settings()) == [55]  # 1.1 · 50, whatever floats make of it


def cosine(step: int, warmup: int, total: int) -> float:
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def test_learning_rates() -> None:
    """The cosine schedule with linear warm-up, from its formula; each stage on its own."""
    parts = [Part((0,), 1, 1e-3), Part((1,), 1, 4e-4)]
    rates = learning_rates(parts, [20, 10], settings(warmup_ratio=0.1))
    expected = [1e-3 * cosine(s, 2, 20) for s in range(20)]
    expected += [4e-4 * cosine(s, 1, 10) for s in range(10)]
    assert rates == pytest.approx(expected)
    steps = settings(warmup_ratio=0.1, warmup_steps=5, lr_scheduler_type="linear")
    assert learning_rates(parts[:1], [20], steps)[:6] == pytest.approx(
        [0, 2e-4, 4e-4, 6e-4, 8e-4, 1e-3]
    )
    constant = settings(lr_scheduler_type="constant")
    assert learning_rates(parts[:1], [3], constant) == [1e-3] * 3


@pytest.mark.parametrize(
    ("every", "total", "due"),
    [
        (None, 10, set()),
        (4, 10, {4, 8, 10}),
        (5, 10, {5, 10}),
        (100, 10, {10}),
        (0.25, 10, {2, 5, 8, 10}),
        (0.2, 56, {11, 22, 34, 45, 56}),
        (0.1, 3, {1, 2, 3}),
        (0.3, 10, {3, 6, 9, 10}),
    ],
)
def test_what_is_due_when(every: float | None, total: int, due: set[int]) -> None:
    assert at_steps(every, total) == due
