"""``pytest suites/`` as a user runs it, on a tiny model; what these tests share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SWEEP = ("--strategy=zeroshot,fewshot", "--k=1,2", "--seeds=0,1")


def summary(tmp_path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((tmp_path / "results" / "summary.json").read_text("utf-8"))
    return value
