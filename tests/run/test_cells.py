"""Cells: which part of the harness's code is in which part of a key."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from harness.config.options import parse_options
from harness.core import Cell
from harness.models.code import GENERATION, SCORING, TRAINING
from harness.run import cells as cells_module
from harness.run.cells import Cells
from harness.run.plan import make_plan
from harness.training import cache as cache_module
from tests.builders.tasks import Files


def cells(monkeypatch: pytest.MonkeyPatch, changed: Any, flags: dict[str, Any]) -> list[Cell]:
    """The cells of a run with the code of some rooms ``changed``."""
    for module in (cells_module, cache_module):
        monkeypatch.setattr(module, "code_digest", lambda rooms: f"{rooms} {rooms == changed}")
    plan = make_plan(parse_options(flags))
    found = Cells(plan)
    return [found.cell(case) for case in plan.cases]


def differing(one: Cell, other: Cell) -> set[str]:
    return {f.name for f in fields(Cell) if getattr(one, f.name) != getattr(other, f.name)}


@pytest.mark.parametrize(
    ("changed", "plain", "trained"),
    [
        (SCORING, {"libraries"}, {"libraries"}),
        (TRAINING, set(), {"training_digest"}),
        (GENERATION, set(), set()),
    ],
)
def test_each_key_holds_the_code_that_determines_it(
    files: Files,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    changed: Any,
    plain: set[str],
    trained: set[str],
) -> None:
    flags = {"model": str(tiny_model), "data": str(files.test), "train_data": str(files.train)}
    flags |= {"strategy": "zeroshot,qlora", "quant": "none", "seeds": "0"}
    before = cells(monkeypatch, None, flags)
    after = cells(monkeypatch, changed, flags)
    assert [differing(*pair) for pair in zip(before, after, strict=True)] == [plain, trained]
    # Of answers, the code that writes them counts, and the scorer does not.
    flags["metrics"] = "chrf"
    before, after = cells(monkeypatch, None, flags), cells(monkeypatch, changed, flags)
    plain = {"libraries"} if changed == GENERATION else set()
    trained = plain | ({"training_digest"} if changed == TRAINING else set())
    assert [differing(*pair) for pair in zip(before, after, strict=True)] == [plain, trained]
    assert {cell.scorer for cell in before} == {None}
