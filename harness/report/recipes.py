"""The recipe of a run as TOML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def to_toml(recipe: Mapping[str, Any]) -> str:
    """Write a recipe as TOML."""
    import tomli_w

    return "# What this run was asked for; pytest suites/ --recipe=FILE asks again.\n" + (
        tomli_w.dumps(recipe)
    )
