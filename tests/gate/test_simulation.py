"""The gate's error rates, shown on rows of a made-up run with known spread, in short."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.cli import PASSED, main
from harness.errors import GateError
from harness.gate.simulation import EFFECTS, PLAIN, Rate, simulate, table
from harness.results.baseline import write_baseline
from tests.builders.snapshots import LOGS, rows, run

RUNS = 160


def noise(seed: int) -> np.ndarray:  # type: ignore[type-arg]
    """Heavy-tailed, as real rows are: Student's t with 4 degrees of freedom, sd 0.1."""
    return np.random.default_rng(seed).standard_t(4, len(LOGS)) * 0.1 / math.sqrt(2)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cells = {
        f"m-plain-few-s{seed}": replace(rows(LOGS + noise(seed)), group="m-plain-few")
        for seed in range(4)
    }
    path = tmp_path_factory.mktemp("run") / "baseline.json"
    write_baseline(path, run({"m-plain-zeroshot": rows(LOGS), **cells}))
    return path


@pytest.fixture(scope="module")
def rates(path: Path) -> dict[tuple[int, float], Rate]:
    found = simulate(path, None, 250, RUNS, 0.01)
    return {(rate.cells, rate.effect): rate for rate in found}


def test_the_spread_is_that_of_two_seeds(rates: dict[tuple[int, float], Rate]) -> None:
    # the difference of two such noises has √2 times their standard deviation
    assert rates[1, 0.0].spread == pytest.approx(0.1 * math.sqrt(2), rel=0.1)


def test_false_alarms_stay_below_five_percent_in_a_family_too(
    rates: dict[tuple[int, float], Rate],
) -> None:
    # three standard errors at 5 %
    limit = 0.05 + 3 * math.sqrt(0.05 * 0.95 / RUNS)
    assert rates[1, 0.0].alarm <= limit
    assert rates[12, 0.0].alarm <= limit


def test_power_is_what_a_normal_approximation_says(rates: dict[tuple[int, float], Rate]) -> None:
    se = rates[1, 0.0].spread / math.sqrt(250)
    for cells, z in ((1, 1.645), (12, 2.638)):  # quantiles of 0.05 and 0.05 / 12
        for effect in (0.03, 0.05):
            least = max(z * se, math.log(1.01))
            expected = 0.5 * math.erfc((least - math.log1p(effect)) / se / math.sqrt(2))
            assert rates[cells, effect].alarm == pytest.approx(expected, abs=0.12)
            assert rates[cells, -effect].improved == pytest.approx(expected, abs=0.12)


def test_the_plain_threshold_is_worse_in_both_ways(rates: dict[tuple[int, float], Rate]) -> None:
    assert rates[12, 0.0].plain > 0.2
    assert rates[12, -0.02].plain > 0.2  # an alarm over a cell that got better
    assert rates[1, 0.02].plain < 0.8  # missed where it should be seen


def test_nothing_to_pair_is_said(path: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.json"
    write_baseline(alone, run({"m-plain-zeroshot": rows(LOGS)}))
    with pytest.raises(
        GateError, match="nothing to pair, which takes a strategy with two seeds or more"
    ):
        simulate(alone, None, 10, 1, 0.01)


def test_before_and_after_a_perturbation(path: Path, tmp_path: Path) -> None:
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    write_baseline(before, run({"a": rows(LOGS)}))
    write_baseline(after, run({"a": replace(rows(LOGS + 0.5 + noise(9)), key="k2")}))
    found = simulate(before, after, 100, 40, 0.01)
    assert {rate.kind for rate in found} == {"after the change"}
    # its mean shift of 0.5 is taken off: that is not what is simulated
    assert found[0].spread == pytest.approx(0.1, rel=0.15)
    assert [rate.effect for rate in found[: len(EFFECTS)]] == list(EFFECTS)


def test_the_command_prints_a_table(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", str(path), "--runs=2", "--rows=50", "--centred"]) == PASSED
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| what counts as no change")
    assert len(lines) == 2 + 2 * 3
    assert {line.count("|") for line in lines} == {5 + len(EFFECTS)}


def test_equal_seeds_give_equal_tables(path: Path) -> None:
    assert table(simulate(path, None, 50, 3, 0.01)) == table(simulate(path, None, 50, 3, 0.01))
    assert PLAIN == 0.02
