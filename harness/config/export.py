"""The effective recipe: everything that a run was asked for, in one file that asks for it again."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.config.flags import FLAGS
from harness.config.options import Options, may_be_path
from harness.core import TrainingSettings
from harness.data.selection import Weights

# Of how it was run and judged, not of what.
ASIDE = (
    *("results-dir", "report", "templates", "fresh", "recipe", "set"),
    *("baseline", "update-baseline", "tolerance", "gate-strict"),
)


def effective(options: Options) -> dict[str, Any]:
    """Return the recipe, as a mapping for TOML, that gives these options again.

    Paths are absolute, so that it can be read anywhere on this machine. A setting that is None
    is called "none"; a flag that is None is left out, since TOML has no word for it.
    """
    flags = {flag.name: getattr(options, flag.field) for flag in FLAGS if flag.name not in ASIDE}
    recipe = {name: _plain(value) for name, value in flags.items() if value not in (None, ())}
    recipe["model"] = [_absolute(text) for text in options.model]
    recipe["prompt"] = [
        _absolute(text) if may_be_path("prompt", text) else text for text in options.prompt
    ]
    if options.trial:
        recipe["trial"] = True
    recipe["qlora"] = _settings(options.qlora)
    recipe["generation"] = asdict(options.generation)
    if options.subset is not None:
        recipe["subset"] = {"top": options.subset.top, "by": _by(options.subset.by)}
    if options.curriculum is not None:
        curriculum = options.curriculum
        recipe["curriculum"] = {"levels": curriculum.levels, "by": _by(curriculum.by)}
        if curriculum.stages:
            recipe["curriculum"]["stages"] = [
                {name: _plain(value) for name, value in asdict(stage).items() if value is not None}
                for stage in curriculum.stages
            ]
    names = {name for text in options.model for name in (text, text.partition("@")[0])}
    used = {name: table for name, table in options.per_model.items() if name in names}
    if used:
        recipe["for"] = {
            _absolute(name): {"qlora": {key: _plain(value) for key, value in table.items()}}
            for name, table in used.items()
        }
    return recipe


def _settings(settings: TrainingSettings) -> dict[str, Any]:
    return {name: _plain(value) for name, value in asdict(settings).items() if name != "seed"}


def _plain(value: Any) -> Any:
    if value is None:
        return "none"
    if isinstance(value, Path):
        return str(value.resolve())
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    # A number of steps is a whole one; a share of them is not.
    if isinstance(value, float) and value >= 1 and value.is_integer():
        return int(value)
    return value


def _absolute(text: str) -> str:
    return str(Path(text).expanduser().resolve()) if Path(text).expanduser().exists() else text


def _by(by: Weights) -> Any:
    return by[0][0] if len(by) == 1 and by[0][1] == 1 else dict(by)
