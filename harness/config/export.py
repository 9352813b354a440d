"""The effective recipe: everything that a run was asked for, in one file that asks for it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from harness.config.flags import BY_FIELD, FLAGS
from harness.config.options import LOADING, Options, may_be_path
from harness.config.schema import PRESENT, Schema, Setting, Settings, filled, schema_of
from harness.config.tables import Strategies
from harness.plugins import find_strategies

# Of how it was run and judged, not of what.
ASIDE = (
    *("results-dir", "predictions", "report", "lang", "templates", "fresh", "recipe", "set"),
    "dry-run",
    *("baseline", "update-baseline", "tolerance", "gate-strict"),
    *("judge-concurrency", "judge-rate", "judge-calls", "judge-tokens", "judge-dry-run"),
    *("engine", "engine-address", "slots", "gpus-per-model"),
)
OF_FILES = ("data", "train-data", "columns", "skip-bad-rows", "direction-pattern")
IF_CHOSEN = ("control", "metrics")  # written only where they are not the default


def effective(options: Options) -> dict[str, object]:
    """Return the recipe, as a mapping for TOML, that gives these options again.

    Paths are absolute, so that it can be read anywhere on this machine. A setting that is None
    is called "none"; a flag that is None is left out, since TOML has no word for it.
    """
    recipe = _flags(options)
    if options.trial:
        recipe["trial"] = True
    schemas = {name: schema_of(one) for name, one in find_strategies().items()}
    recipe |= _strategies(options, schemas)
    names = {name for text in options.model for name in (text, text.partition("@")[0])}
    used = {name: tables for name, tables in options.per_model.items() if name in names}
    if used:
        recipe["for"] = {
            _absolute(model): {
                name: _table(schemas[name], settings) for name, settings in tables.items()
            }
            for model, tables in used.items()
        }
    return recipe


def _flags(options: Options) -> dict[str, Any]:
    aside = {*ASIDE, *(() if options.task is None else OF_FILES)}
    for name in IF_CHOSEN:
        if getattr(options, name) == BY_FIELD[name].default:
            aside.add(name)
    if options.judge is None:
        aside |= {"rubric", "pairs", "judge-unjudged"}
    if not options.given("decode"):  # which asks for answers, whatever it names
        aside.add("decode")
    flags = {flag.name: getattr(options, flag.field) for flag in FLAGS if flag.name not in aside}
    recipe = {name: _plain(value) for name, value in flags.items() if value not in (None, ())}
    recipe["model"] = [_absolute(text) for text in options.model]
    for name in ("prompt", "rubric"):
        if name in recipe:
            recipe[name] = [
                _absolute(text) if may_be_path(name, text) else text for text in recipe[name]
            ]
    return recipe


def _strategies(options: Options, schemas: Mapping[str, Schema]) -> dict[str, Any]:
    """The tables of the strategies that are run, of those with settings, and of decodings."""
    named = [name for name in schemas if name in (*options.strategy, *options.strategies, LOADING)]
    full: dict[str, Settings] = {
        name: dict(filled(schemas[name], options.strategies.get(name, {}))) for name in named
    }
    found: dict[str, Any] = {}
    alone: dict[str, Any] = {}
    for name in sorted(named, key=lambda name: name != LOADING):
        table = _table(schemas[name], full[name])
        for setting in schemas[name].settings:
            if setting.name in table and _stands_alone(setting, full, schemas, options.strategy):
                alone[setting.name] = table.pop(setting.name)
        if table:
            found[name] = table
    decoding = {name: _plain(dict(table)) for name, table in options.decoding.items()}
    published = {name: dict(table) for name, table in options.published.items()}
    more = {"decoding": decoding, "published": published}
    return found | {name: tables for name, tables in more.items() if tables} | alone


def _stands_alone(
    setting: Setting, full: Strategies, schemas: Mapping[str, Schema], asked: Sequence[str]
) -> bool:
    """Whether ``[setting]`` on its own, read again, says this of whom it is said, and no other."""
    if setting.inside is None or setting.name in schemas:
        return False
    owners = [name for name in schemas if _inside(schemas[name], setting.name)]
    reached = [name for name in owners if name in asked] or owners
    said = {name: _below(full[name], setting.key) for name in owners if name in full}
    meant = {name: settings for name, settings in said.items() if settings}
    return set(meant) == set(reached) and all(one == meant[reached[0]] for one in meant.values())


def _inside(schema: Schema, name: str) -> bool:
    setting = schema.by_name.get(name)
    return setting is not None and setting.inside is not None


def _below(settings: Settings, table: str) -> Settings:
    return {k: v for k, v in settings.items() if k == table or k.startswith(f"{table}.")}


def _table(schema: Schema, settings: Settings) -> dict[str, Any]:
    """What ``settings`` say of a strategy, as a table; an empty list says nothing."""
    table: dict[str, Any] = {}
    for setting in schema.settings:
        if setting.inside is not None and setting.is_table(settings):
            table[setting.name] = _table(setting.inside, settings)
        elif setting.key in settings and settings[setting.key] not in (PRESENT, ((),)):
            write = getattr(setting.check, "write", _plain)
            values = [write(value) for value in settings[setting.key]]
            table[setting.name] = values[0] if len(values) == 1 else values
    return table


def _plain(value: Any) -> Any:
    if value is None:
        return "none"
    if isinstance(value, Path):
        return str(value.resolve())
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(one) for name, one in vars(value).items() if one is not None}
    # A number of steps is a whole one; a share of them is not.
    if isinstance(value, float) and value >= 1 and value.is_integer():
        return int(value)
    return value if isinstance(value, bool | int | float | str | list | dict) else str(value)


def _absolute(text: str) -> str:
    return str(Path(text).expanduser().resolve()) if Path(text).expanduser().exists() else text
