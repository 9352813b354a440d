"""Learning curves and scatter plots to draw, and what a drawn picture holds."""

from __future__ import annotations

import math
import random
import xml.etree.ElementTree as ET
from typing import Any

from harness.report.figures.training import learning_curve, length_against_score

SVG = "{http://www.w3.org/2000/svg}"

HOSTILE = (
    '</svg><script>alert(1)</script> $\\frac{x}{0}$ & "quotes" \'here\' {0} \x07 中文 id="a_b"'
)


def words(svg: str) -> list[str]:
    """What is written in the picture."""
    return ["".join(text.itertext()) for text in ET.fromstring(svg).iter(f"{SVG}text")]


def marks(svg: str, gid: str) -> int:
    """How many markers a line has; a line without a single one is not there."""
    groups = [g for g in ET.fromstring(svg).iter(f"{SVG}g") if g.get("id", "").endswith(f".{gid}")]
    return sum(len(list(group.iter(f"{SVG}use"))) for group in groups)


def description(svg: str) -> str:
    """What a screen reader says of the picture."""
    return ET.fromstring(svg).findtext(f"{SVG}desc") or ""


def run(seed: int | None = 0, steps: int = 80, **more: Any) -> dict[str, Any]:
    """The record of one training, whose loss falls and whose best checkpoint is known."""
    draw = random.Random(seed)
    evaluations = [
        {
            "step": step,
            "loss": 3 - step / 2 / steps,
            "mean_perplexity": 9.8 + abs(1 - step / (0.75 * steps)) * 20.3,
            "holdout_perplexity": 12 + abs(1 - step / (0.75 * steps)) * 20,
        }
        for step in range(0, steps + 1, max(1, steps // 8))
    ]
    losses = [1 + 2 * math.exp(-4 * i / steps) + draw.gauss(0, 0.2) for i in range(steps)]
    best = {"best_step": steps * 3 // 4, "boundaries": []}
    return {"seed": seed, "losses": losses, "evaluations": evaluations, **best, **more}


def pool(n: int = 52_000, chosen: int = 100) -> list[tuple[float, float, bool]]:
    """Rows by length and score, of which the first were chosen."""
    draw = random.Random(1)
    rows = [(int(math.exp(draw.gauss(5, 1))) + 5, draw.gauss(0, 1)) for _ in range(n)]
    return [(x, y, i < chosen) for i, (x, y) in enumerate(rows)]


def curve(
    *runs: dict[str, Any], slug: str = "a", title: str = "qlora", by: str | None = None
) -> str:
    return learning_curve(slug, title, runs or (run(),), by)


def some() -> dict[str, str]:
    """A picture of every kind."""
    return {
        "one": curve(run(boundaries=[30, 55]), by="holdout"),
        "three": curve(run(0), run(1), run(2), slug="b"),
        "eight": curve(*map(run, range(8)), slug="c"),
        "pool": length_against_score("a", "pool", pool(2000)),
    }
