"""``pytest suites/`` run by a test: the usual flags, how it ended, what it left."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SWEEP = ("--strategy=zeroshot,fewshot", "--k=1,2", "--seeds=0,1")


@dataclass(frozen=True)
class Outcome:
    """How a run ended and what it said."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Run = Callable[..., Outcome]


def summary(tmp_path: Path) -> dict[str, Any]:
    """``summary.json`` of the run in the test's results directory."""
    value: dict[str, Any] = json.loads((tmp_path / "results" / "summary.json").read_text("utf-8"))
    return value
