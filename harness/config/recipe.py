"""Recipes: a file that holds a whole experiment, and ``--set``, which changes one value of it.

A recipe is TOML. Its top level takes every flag by name; tables hold the rest::

    model = ["owner/model-a", "owner/model-b"]
    strategy = ["zeroshot", "qlora"]

    [qlora]                         # a strategy's settings: the fields of its dataclass
    learning_rate = 1e-4

    [for."owner/model-b".qlora]     # what differs for one of the models
    r = 16

    [subset]                        # a table of [qlora]: train on the best 100 rows
    top = 100
    by = {length = 0.5, score = 0.5}

    [curriculum]                    # another: easiest third first
    levels = 3
    by = "length"

    [decoding.careful]              # a way of writing answers: decode = ["greedy", "careful"]
    do_sample = true
    temperature = 0.3

    [published.judge]               # what was measured elsewhere, to look at
    "the paper's adapter" = 4.15

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

from harness.config.flags import BY_FIELD
from harness.errors import OptionError, one_line, suggest
from harness.places import find_files, folders, shipped

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPES = shipped("recipes")


@dataclass(frozen=True)
class Layer:
    """What one file, or one ``--set``, says.

    Attributes:
        where: what an error line begins with.
        folder: where relative paths start; None for where the user stands.
        flags: field name → value as it stands there.
        tables: every other key, with its value as it stands there.
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
    """Read a recipe: a file, or the name of one in ``recipes/``, the shipped or the user's own.

    Raises:
        OptionError: one line naming the file and the key.
    """
    if not _is_file(path):
        path = _named(path)
    values = _toml(path)
    values.pop("description", None)
    if "recipe" in values:
        raise OptionError(f"{path}: recipe: a recipe cannot name another one")
    return _layer(f"{path}: ", path.parent, values)


def _named(name: Path) -> Path:
    files = find_files("recipes", f"{name}.toml")
    if not files:
        known = sorted({file.stem for one in folders("recipes") for file in one.glob("*.toml")})
        raise OptionError(
            f"--recipe={name}: no such file{suggest(str(name), known)}; known are "
            f"{', '.join(known)}"
        )
    if len(files) > 1:
        raise OptionError(
            f"--recipe={name}: both {files[0]} and {files[1]} are called so; give the path of one"
        )
    return files[0]


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
        elif name in BY_FIELD and name != "set" and not isinstance(value, dict):
            flags[name] = value
        elif key == "for":
            tables[key] = _table(where, key, value)
        else:
            tables[key] = value
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
