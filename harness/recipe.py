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

from harness.errors import OptionError, suggest
from harness.flags import BY_FIELD, FLAGS, ROOT
from harness.settings import GENERATION, check_settings, check_table, number, whole
from harness.subset import MEASURES, Curriculum, StagePlan, Subset, Weights

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPES = ROOT / "recipes"
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
        is_trial: whether this is one.
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
    if not path.is_file() and shipped.is_file():
        path = shipped
    if not path.is_file():
        known = sorted(file.stem for file in RECIPES.glob("*.toml"))
        raise OptionError(
            f"--recipe={path}: no such file{suggest(str(path), known)}; "
            f"shipped are {', '.join(known)}"
        )
    values = _toml(path)
    values.pop("description", None)
    return _layer(f"{path}: ", path.parent, values)


def read_pyproject(path: Path) -> Layer | None:
    """Return the table ``[tool.adaptbench]`` of ``path``, or None if there is no file.

    Raises:
        OptionError: the file is not TOML, or a key is not known.
    """
    if not path.is_file():
        return None
    values = _toml(path).get("tool", {}).get("adaptbench", {})
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
        except tomllib.TOMLDecodeError:
            values = tomllib.loads(f"{key} = {json.dumps(value)}")
    except tomllib.TOMLDecodeError:
        raise OptionError(
            f"--set {text}: {key!r} is not a key; expected one such as qlora.learning_rate"
        ) from None
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
    if "for" in merged:
        found["per_model"] = merged["for"]
    return found


def _toml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        return dict(tomllib.loads(text.removeprefix("\ufeff")))
    except OSError as error:
        raise OptionError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"{path}: not valid TOML: {error}") from None


def _layer(where: str, folder: Path | None, values: Mapping[str, Any]) -> Layer:
    flags: dict[str, Any] = {}
    tables: dict[str, Any] = {}
    trial: tuple[Layer, ...] = ()
    for key, value in values.items():
        name = key.replace("-", "_")
        if key == "trial":
            inside = _layer(f"{where}[trial] ", folder, _table(where, key, value))
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
    return Layer(where, folder, flags, tables, trial)


def _table(where: str, key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise OptionError(f"{where}{key} = {value!r:.60}: expected a table")
    return value


def _check_models(where: str, models: Any, differing: Mapping[str, Any]) -> None:
    """See that whoever is given settings of its own is one of the file's models."""
    if not differing or models is None:  # of --set: the models stand in the recipe
        return
    known = models if isinstance(models, list) else str(models).split(",")
    for name in differing:
        if name not in known:
            raise OptionError(
                f"{where}[for.{json.dumps(name)}]: not one of this file's models"
                f"{suggest(name, known)}; they are {', '.join(map(str, known))}"
            )


def _by(value: Any) -> Weights:
    """A measure's name, or a table of measures and their weights."""
    table = {value: 1.0} if isinstance(value, str) else value
    what = 'a measure ("length" or "score"), or a table of weights such as {length = 0.5}'
    if not isinstance(table, dict) or not table or not set(table) <= set(MEASURES):
        raise ValueError(what)
    weight = number(float("-inf"))
    weights = tuple((name, weight(table[name])) for name in sorted(table))
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
