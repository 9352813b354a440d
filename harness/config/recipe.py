"""Recipes: a file that holds a whole experiment, and ``--set``, which changes one value of it.

A recipe is TOML. Its top level takes every flag by name; tables hold the rest::

    model = ["owner/model-a", "owner/model-b"]
    strategy = ["zeroshot", "qlora"]

    [qlora]                         # harness.core.TrainingSettings
    learning_rate = 1e-4

    [for."owner/model-b".qlora]     # what differs for one of the models
    r = 16

    [subset]                        # train on the best 100 rows of the pool
    top = 100
    by = {length = 0.5, score = 0.5}

    [curriculum]                    # easiest third first
    levels = 3
    by = "length"

    [generation]                    # let the models write, too
    rows = 5

    [trial]                         # what --limit=N changes besides
    qlora.max_steps = 10

``[tool.adaptbench]`` in pyproject.toml takes the same, but no trial.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.config.flags import BY_FIELD, FLAGS
from harness.config.training_settings import (
    GENERATION,
    check_settings,
    check_table,
    is_number,
    number,
    whole,
)
from harness.data.selection import MEASURES, Curriculum, StagePlan, Subset, Weights
from harness.errors import OptionError, one_line, suggest
from harness.places import shipped

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPES = shipped("recipes")
TABLES = ("qlora", "generation", "subset", "curriculum", "for", "trial")


@dataclass(frozen=True)
class Layer:
    """What one file, or one ``--set``, says.

    Attributes:
        where: what an error line begins with.
        folder: where relative paths start; None for where the user stands.
        flags: field name → value as it stands there.
        tables: checked values of every table but ``trial``.
        trial: the recipe's ``[trial]``, as a layer of its own; at most one.
        is_trial: whether this is one, or a recipe that was made of a run with one.
    """

    where: str
    folder: Path | None = None
    flags: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    trial: tuple[Layer, ...] = ()
    is_trial: bool = False


def read_recipe(path: Path) -> Layer:
    """Read a recipe: a file, or the name of one in ``recipes/``.

    Raises:
        OptionError: one line naming the file and the key.
    """
    shipped = RECIPES / f"{path}.toml"
    if not _is_file(path) and _is_file(shipped):
        path = shipped
    if not _is_file(path):
        known = sorted(file.stem for file in RECIPES.glob("*.toml"))
        raise OptionError(
            f"--recipe={path}: no such file{suggest(str(path), known)}; "
            f"shipped are {', '.join(known)}"
        )
    values = _toml(path)
    values.pop("description", None)
    if "recipe" in values:
        raise OptionError(f"{path}: recipe: a recipe cannot name another one")
    return _layer(f"{path}: ", path.parent, values)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def read_pyproject(path: Path) -> Layer | None:
    """Return the table ``[tool.adaptbench]`` of ``path``, or None if there is no file.

    Raises:
        OptionError: the file is not TOML, or a key is not known.
    """
    if not path.is_file():
        return None
    tools = _toml(path).get("tool", {})
    values = tools.get("adaptbench", {}) if isinstance(tools, dict) else None
    if not isinstance(values, dict):
        raise OptionError(f"{path}: [tool.adaptbench] must be a table of flags")
    if "trial" in values:
        raise OptionError(f"{path}: [tool.adaptbench.trial]: only a recipe has a trial")
    return _layer(f"{path}: [tool.adaptbench] ", path.parent, values)


def parse_setting(text: str) -> Layer:
    """Understand one ``--set KEY=VALUE``; the value is TOML, or else a plain text.

    Raises:
        OptionError: it has no ``=``, or the key is not known.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise OptionError(f"--set {text}: expected KEY=VALUE, e.g. qlora.learning_rate=2e-4")
    try:
        try:
            values = tomllib.loads(f"{key} = {value}")
        except (ValueError, RecursionError):
            values = tomllib.loads(f"{key} = {json.dumps(value)}")
    except ValueError:
        raise OptionError(
            f"--set {text}: {key!r} is not a key; expected one such as qlora.learning_rate"
        ) from None
    if len(values) != 1:
        raise OptionError(f"--set {text}: {key!r} is not one key; expected KEY=VALUE")
    for name in ("recipe", "trial"):
        if name in values:
            raise OptionError(f"--set {text}: {name} cannot be set this way; give --recipe=FILE")
    return _layer("--set ", None, values)


def merge_tables(layers: Sequence[Layer]) -> dict[str, Any]:
    """Lay the tables of several layers over one another, weakest first.

    Returns:
        ``qlora`` and ``generation`` (settings); ``subset``, ``curriculum`` and ``per_model``, each
        if it is there.

    Raises:
        OptionError: a table without what it cannot do without.
    """
    merged: dict[str, dict[str, Any]] = {}
    for layer in layers:
        for name, values in layer.tables.items():
            if name != "for":
                merged[name] = merged.get(name, {}) | values
    found: dict[str, Any] = {name: merged.get(name, {}) for name in ("qlora", "generation")}
    if "subset" in merged:
        if "top" not in merged["subset"]:
            raise OptionError("[subset]: needs top, the number of rows to train on")
        found["subset"] = Subset(**merged["subset"])
    if "curriculum" in merged:
        curriculum = Curriculum(**merged["curriculum"])
        for stage in curriculum.stages:
            if max(stage.levels) > curriculum.levels:
                raise OptionError(
                    f"[curriculum]: a stage trains on level {max(stage.levels)}, and there are "
                    f"only {curriculum.levels}; raise levels"
                )
        found["curriculum"] = curriculum
    models = {model for layer in layers for model in layer.tables.get("for", {})}
    if models:
        found["per_model"] = {model: _for_model(layers, model) for model in sorted(models)}
    return found


def _for_model(layers: Sequence[Layer], model: str) -> dict[str, Any]:
    """What differs for a model; what a stronger layer says of all models holds for it, too."""
    settings: dict[str, Any] = {}
    differing: set[str] = set()
    for layer in layers:
        own = layer.tables.get("for", {}).get(model, {})
        settings |= layer.tables.get("qlora", {}) | own
        differing |= own.keys()
    return {name: value for name, value in settings.items() if name in differing}


def check_models(layers: Sequence[Layer], models: Sequence[str]) -> None:
    """See that settings of a model's own are those of a model that is run.

    Where a file names its own models, this was seen when it was read; flags may choose others.

    Raises:
        OptionError: they are not.
    """
    for layer in layers:
        if "model" not in layer.flags:
            _check_models(layer.where, list(models), layer.tables.get("for", {}))


def _toml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        return dict(tomllib.loads(text.removeprefix("\ufeff")))
    except OSError as error:
        raise OptionError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise OptionError(f"{path}: not valid TOML: {one_line(error)}") from None


def _layer(where: str, folder: Path | None, values: Mapping[str, Any]) -> Layer:
    flags: dict[str, Any] = {}
    tables: dict[str, Any] = {}
    trial: tuple[Layer, ...] = ()
    is_trial = False
    for key, value in values.items():
        name = key.replace("-", "_")
        if key == "trial" and value is True:
            is_trial = True
        elif key == "trial":
            inside = _layer(f"{where}[trial] ", folder, _table(where, key, value))
            if inside.trial or inside.is_trial:
                raise OptionError(f"{where}[trial]: a trial has no trial of its own")
            trial = (replace(inside, is_trial=True),)
        elif key in TABLES:
            tables[key] = _READERS[key](f"{where}[{key}]", _table(where, key, value))
        elif name in BY_FIELD and name != "set":
            flags[name] = value
        else:
            known = [*(flag.name for flag in FLAGS if flag.name != "set"), *TABLES]
            raise OptionError(
                f"{where}no key {key!r}{suggest(key, known)}; known: {', '.join(known)}"
            )
    _check_models(where, flags.get("model"), tables.get("for", {}))
    if folder is not None and "for" in tables:
        tables["for"] = {anchor(name, folder): own for name, own in tables["for"].items()}
    return Layer(where, folder, flags, tables, trial, is_trial)


def anchor(text: str, folder: Path) -> str:
    """Let a relative path start at ``folder``, where a name may be a path, too."""
    return str(folder / text) if _is_there(folder / text) else text


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _table(where: str, key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise OptionError(f"{where}{key} = {value!r:.60}: expected a table")
    return value


def _check_models(where: str, models: Any, differing: Mapping[str, Any]) -> None:
    """See that whoever is given settings of its own is one of the file's models."""
    if not differing or models is None:  # of --set: the models stand in the recipe
        return
    texts = models if isinstance(models, list) else str(models).split(",")
    known = [str(text).strip() for text in texts]
    for name in differing:
        if name not in known and name not in [text.partition("@")[0] for text in known]:
            raise OptionError(
                f"{where}[for.{json.dumps(name)}]: not one of the models"
                f"{suggest(name, known)}; they are {', '.join(known)}"
            )


def _by(value: Any) -> Weights:
    """A measure's name, or a table of measures and their weights."""
    table = {value: 1.0} if isinstance(value, str) else value
    what = 'a measure ("length" or "score"), or a table of weights such as {length = 0.5}'
    if not isinstance(table, dict) or not table or not set(table) <= set(MEASURES):
        raise ValueError(what)
    if not all(is_number(weight) for weight in table.values()):
        raise ValueError(what + " that are finite numbers")
    weights = tuple((name, float(table[name])) for name in sorted(table))
    if not any(w for _, w in weights):
        raise ValueError(what + ", not all of them 0")
    return weights


def _levels(value: Any) -> tuple[int, ...]:
    levels = value if isinstance(value, list) else [value]
    if not levels or len(set(map(str, levels))) < len(levels):
        raise ValueError("a list of levels in which nothing stands twice")
    return tuple(whole(1)(level) for level in levels)


def _stages(value: Any) -> tuple[StagePlan, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError("a list of stages, [[curriculum.stages]]")
    stages = []
    for place, table in enumerate(value, start=1):
        checks = {
            "levels": _levels,
            "num_train_epochs": number(0, open_low=True),
            "learning_rate": number(0, open_low=True),
        }
        stage = check_table(f"stage {place}", table, checks)
        if "levels" not in stage:
            raise ValueError(f"stage {place} to have levels, a list of those it trains on")
        stages.append(StagePlan(**stage))
    return tuple(stages)


def _read_for(where: str, table: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for model, value in table.items():
        inside = f"{where} {model}"
        tables = _table(f"{inside}: ", "value", value)
        if set(tables) != {"qlora"}:
            raise OptionError(f"{inside}: expected the table qlora, found {', '.join(tables)}")
        found[model] = check_settings(f"{inside} [qlora]", tables["qlora"])
    return found


_READERS = {
    "qlora": check_settings,
    "generation": lambda where, table: check_table(where, table, GENERATION),
    "subset": lambda where, table: check_table(where, table, {"top": whole(1), "by": _by}),
    "curriculum": lambda where, table: check_table(
        where, table, {"levels": whole(1), "by": _by, "stages": _stages}
    ),
    "for": _read_for,
}
