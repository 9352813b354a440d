"""Published numbers, from published judgements that stand in a folder of their own.

ADAPTBENCH_JUDGEMENTS names the folder. Its files hold numbers only:

    alpaca_eval_win_rates.json      entries of tatsu-lab/alpaca_eval's two GPT-4 boards: of every row
                                    ``preference`` (1 the baseline, 2 the entry, between them a
                                    share; 0 a tie), ``chars`` of both answers, and what the board
                                    has ``published``
    alpaca_eval_length_control.json ``difficulty`` of every row, and of each model the coefficients
                                    and the win rate of the length-controlled board
    auto_j.json                     GAIR-NLP/auto-j's 1,392 pairs: ``human``, ``verdict``,
                                    ``swapped_order_verdict`` (0 the first, 1 the second, 2 neither)
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.metrics.base import Array
from harness.records import LabelledScore
from harness.statistics.agreement import agreement, krippendorff_alpha, weighted_kappa
from harness.statistics.lengths import length_controlled, without_length
from harness.statistics.people import agreement_with_people
from harness.statistics.winrates import both_orders, win_rate

FOLDER = os.environ.get("ADAPTBENCH_JUDGEMENTS")
pytestmark = pytest.mark.skipif(
    not FOLDER, reason="ADAPTBENCH_JUDGEMENTS names no folder with published judgements"
)


def read(name: str) -> Any:
    assert FOLDER is not None
    return json.loads((Path(FOLDER) / name).read_text("utf-8"))


def verdicts_of(entry: dict[str, Any]) -> Array:
    """What the entry gets of each row."""
    given = np.array(entry["preference"], dtype=np.float64)
    return np.where(given == 0, 0.5, given - 1)


def test_win_rates_of_both_boards() -> None:
    entries = read("alpaca_eval_win_rates.json")
    assert len(entries) == 111
    for entry in entries:
        found, published = win_rate(verdicts_of(entry), resamples=99), entry["published"]
        points = 100 * found.rate.estimate, 100 * found.standard_error, found.rows
        names = "win_rate", "standard_error", "n"
        assert points == pytest.approx([published[name] for name in names], abs=1e-6), entry[
            "model"
        ]


def test_length_controlled_win_rates() -> None:
    board = read("alpaca_eval_length_control.json")
    place = [board["coefficient_names"].index(one) for one in ("intercept", "length", "difficulty")]
    difficulty = np.array(board["difficulty"])
    columns = np.stack([np.ones_like(difficulty), np.zeros_like(difficulty), difficulty], axis=1)
    off = []
    for model in board["models"].values():
        coefficients = np.array(model["coefficients"])[place]
        found = 100 * without_length(columns, coefficients)
        off.append(abs(found - model["length_controlled_winrate"]))
    assert len(off) == 199
    assert np.mean(np.array(off) <= 0.05) >= 0.95


def test_our_own_fit_is_near_the_board() -> None:
    """The board shrinks the term of length and estimates difficulties of all models together."""
    board = read("alpaca_eval_length_control.json")
    ours, theirs, raw = [], [], []
    for entry in read("alpaca_eval_win_rates.json"):
        verdicts, chars = verdicts_of(entry), np.array(entry["chars"])
        published = board["models"].get(entry["model"])
        if published is None or len(verdicts) != 805 or "weighted" not in entry["judge"]:
            continue
        found = length_controlled(
            verdicts, chars[:, 1], chars[:, 0], np.array(board["difficulty"]), refits=2
        )
        ours.append(100 * found.rate.estimate)
        theirs.append(published["length_controlled_winrate"])
        raw.append(100 * float(np.nanmean(verdicts)))
    assert len(ours) > 50
    assert np.corrcoef(ours, theirs)[0, 1] > 0.99
    away = np.median(np.abs(np.subtract(ours, theirs)))
    assert away < 1.5
    assert away < np.median(np.abs(np.subtract(raw, theirs))) / 3


WORTH = np.array([1.0, 0.0, 0.5])  # of each verdict, for the first answer


def auto_j() -> tuple[Array, Array, Array, list[list[int]]]:
    """People's verdicts, the judge's in both orders, and characters."""
    pairs = read("auto_j.json")
    assert len(pairs) == 1392
    human, first, second = (
        WORTH[[pair[name] for pair in pairs]]
        for name in ("human", "verdict", "swapped_order_verdict")
    )
    return human, first, 1 - second, [pair["chars"] for pair in pairs]


def test_auto_js_judge() -> None:
    human, first, second, _ = auto_j()
    verdicts, order = both_orders(first, second)
    assert round(100 * order.flips.estimate, 1) == 16.6
    assert round(100 * (1 - order.flips.estimate), 2) == 83.41  # its "consistency"
    # Auto-J counts a verdict that flips as wrong, whatever people say.
    strict = np.where(first == second, first, -1)
    assert round(100 * agreement(strict, human).estimate, 2) == 54.96
    assert round(100 * agreement(first, human).estimate, 2) == 59.99
    assert round(100 * agreement(second, human).estimate, 2) == 60.63
    assert round(100 * agreement(verdicts, human).estimate, 2) == 61.85
    assert round(100 * order.first.estimate, 1) == 47.4  # ties half; without ties:
    decided = np.concatenate([first, 1 - second])
    assert round(100 * float((decided == 1).sum() / (decided != 0.5).sum()), 1) == 47.3
    # Computed once from the same file by others: 0.373 and 0.415, 0.692.
    assert round(weighted_kappa(first, human, "nominal"), 3) == 0.373
    assert round(weighted_kappa(verdicts, human, "nominal"), 3) == 0.415
    assert round(krippendorff_alpha(np.stack([first, second]), "nominal"), 3) == 0.692


def test_auto_js_judge_beside_length() -> None:
    human, first, second, chars = auto_j()
    verdicts, _ = both_orders(first, second)
    found = agreement_with_people(
        [
            LabelledScore(str(i), *one)
            for i, one in enumerate(
                zip(human.tolist(), verdicts.tolist(), map(tuple, chars), strict=True)
            )
        ]
    )
    assert found.n == 1392
    assert round(100 * found.agreement.estimate, 2) == 61.85
    assert found.longer is not None
    assert found.agreement.low > found.longer.high  # it knows more than which is longer
    assert found.failures == []
