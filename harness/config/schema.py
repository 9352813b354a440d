"""What a strategy's tables may say: the fields of its dataclass, and those of dataclasses inside.

Settings are held flat, under ``subset.top`` for the field ``top`` of the field ``subset``, each as
the tuple of its values: several values make several variants of the strategy.
"""

from __future__ import annotations

import itertools
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from typing import Any

from harness.config.checks import Check, check_for, dataclass_of, depth, known_key, unusable
from harness.config.flags import BY_FIELD
from harness.errors import OptionError, one_line

Settings = Mapping[str, tuple[Any, ...]]  # dotted key → its values
PRESENT: tuple[Any, ...] = ()  # the "values" of a table that is there: see the keys inside
ASIDE = {"seed": "each cell trains with its own seed; name them with seeds"}


@dataclass(frozen=True)
class Setting:
    """A field that a table sets.

    Attributes:
        key: dotted, e.g. ``subset.top``.
        check: returns the value of a TOML value, or raises ValueError saying what is right.
        default: the field's; MISSING where it has none.
        depth: how many lists deep one value may be.
        inside: what a table may say, where the field holds a dataclass.
        optional: whether that table may be ``"none"``.
        settable: whether there is any value that a table can give it.
    """

    key: str
    check: Check
    default: Any = MISSING
    depth: int = 0
    inside: Schema | None = None
    optional: bool = False
    settable: bool = True

    @property
    def name(self) -> str:
        """The field's name."""
        return self.key.rpartition(".")[2]

    def is_table(self, settings: Settings) -> bool:
        """Whether settings have a table here, rather than nothing or ``"none"``."""
        below = f"{self.key}."
        return settings.get(self.key) == PRESENT or any(key.startswith(below) for key in settings)


@dataclass(frozen=True)
class Schema:
    """The settings of a dataclass.

    Attributes:
        owner: the dataclass.
        name: the strategy's, or the dotted key of a table inside.
        settings: in the order of the fields.
        flags: fields that are set by flags of their names.
    """

    owner: type[Any]
    name: str
    settings: tuple[Setting, ...]
    flags: tuple[str, ...] = ()

    @property
    def by_name(self) -> dict[str, Setting]:
        """Field name → setting."""
        return {setting.name: setting for setting in self.settings}


def schema_of(strategy: type[Any]) -> Schema:
    """Return the settings of a strategy: its fields but for ``seed`` and those that are flags."""
    checks = getattr(strategy, "checks", {})
    name = str(getattr(strategy, "name", strategy.__name__))
    return _schema(strategy, name, "", checks if isinstance(checks, Mapping) else {}, None)


def _schema(
    owner: type[Any], name: str, prefix: str, checks: Mapping[str, Check], base: Any
) -> Schema:
    """Describe a dataclass; ``base`` is the instance that defaults are taken from, if any."""
    try:
        hints = typing.get_type_hints(owner)
    except Exception:  # a third party's annotation may be anything
        hints = {}
    flags = tuple(flag for flag in getattr(owner, "flags", ()) if flag in BY_FIELD)
    settings = []
    for one in fields(owner) if is_dataclass(owner) else ():
        if not one.init or one.name in (*ASIDE, *flags):
            continue
        key, annotation = prefix + one.name, hints.get(one.name, one.type)
        default = _default(one) if base is None else getattr(base, one.name)
        table = None if key in checks else dataclass_of(annotation)
        if table is None:
            check = checks.get(key) or check_for(annotation)
            usable = check or _unreadable(annotation)
            settings.append(
                Setting(key, usable, default, depth(annotation), settable=check is not None)
            )
            continue
        above = default if isinstance(default, table) else None
        inside = _schema(table, key, f"{key}.", checks, above)
        optional = type(None) in typing.get_args(annotation)
        settings.append(Setting(key, _not_a_table, default, 0, inside, optional))
    return Schema(owner, name, tuple(settings), flags)


def _default(one: Field[Any]) -> Any:
    return one.default if one.default_factory is MISSING else one.default_factory()


def _not_a_table(value: object) -> None:
    raise ValueError("a table of settings")


def _unreadable(annotation: object) -> Check:
    def check(value: object) -> None:
        raise ValueError(
            f"nothing: a field annotated {annotation!s:.60} cannot be set; use int, float, str, "
            f"bool, Literal or tuple, or give the strategy a check of its own"
        )

    return check


def read(schema: Schema, where: str, table: object) -> dict[str, tuple[Any, ...]]:
    """Return what a table says, each value checked.

    Args:
        schema: of the strategy, or of a table inside its own.
        where: what an error line begins with, down to the name in brackets, which stays open.
        table: as TOML has it.

    Raises:
        OptionError: a key that is not known, with the nearest that is, or an unusable value.
    """
    if not isinstance(table, Mapping):
        raise OptionError(f"{where}]: expected a table of settings, found {table!r:.60}")
    found: dict[str, tuple[Any, ...]] = {}
    flags = {
        one: f"is --{BY_FIELD[one].name}, a flag, and one for all models" for one in schema.flags
    }
    for key, raw in table.items():
        setting: Setting = known_key(f"{where}]", key, schema.by_name, ASIDE | flags, schema.flags)
        if setting.inside is None:
            found[setting.key] = values_of(setting, f"{where}]", raw)
        elif raw == "none" and setting.optional:
            found[setting.key] = (None,)
        else:
            found[setting.key] = PRESENT
            found |= read(setting.inside, f"{where}.{key}", raw)
    return found


def values_of(setting: Setting, where: str, raw: object) -> tuple[Any, ...]:
    """Return the values that ``raw`` stands for: itself, or each of a list.

    Raises:
        OptionError: it is not what the field may be; the line begins with ``where``.
    """
    try:
        return _several(setting, raw) if isinstance(raw, list) else (_checked(setting, raw),)
    except OptionError as error:  # of a table inside
        raise OptionError(f"{where}: {setting.name}: {error}") from None
    except ValueError as error:
        raise unusable(where, setting.name, raw, error) from None


def _several(setting: Setting, raw: list[Any]) -> tuple[Any, ...]:
    """A list is one value where the field holds a tuple, and several values everywhere else."""
    said: ValueError | OptionError | None = None
    if setting.depth:
        try:
            return (_checked(setting, raw),)
        except (ValueError, OptionError) as error:
            said = error
    if not raw:
        raise said or ValueError("a value, or a list of values")
    try:
        values = tuple(_checked(setting, item) for item in raw)
    except (ValueError, OptionError):
        if said is not None and _depth(raw) <= setting.depth:
            raise said from None
        raise
    if any(value in values[:place] for place, value in enumerate(values)):
        raise ValueError("a list in which nothing stands twice")
    return values


def _depth(value: object) -> int:
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


def _checked(setting: Setting, raw: object) -> Any:
    try:
        return setting.check(raw)
    except (ValueError, OptionError):
        raise
    except Exception as error:  # a third party's check may raise anything
        raise ValueError(
            f"a value that the strategy's own check can read; it raised {type(error).__name__}: "
            f"{one_line(error)}"
        ) from None


def over(weaker: Settings, stronger: Settings) -> dict[str, tuple[Any, ...]]:
    """Return ``weaker``, and in its place what ``stronger`` says."""
    merged = dict(weaker)
    for key, values in stronger.items():
        if values == PRESENT:
            if merged.get(key) == (None,):
                del merged[key]
            merged.setdefault(key, PRESENT)
            continue
        if values == (None,):  # perhaps of a table, which is taken away
            merged = {name: old for name, old in merged.items() if not name.startswith(f"{key}.")}
        merged[key] = values
    return merged


def variants(schema: Schema, settings: Settings) -> list[dict[str, Any]]:
    """Return the arguments of every variant: the product of the settings' values.

    Raises:
        OptionError: a setting that has to be there is not, or values do not go together.
    """
    chosen: dict[str, tuple[Any, ...]] = {}
    for setting in schema.settings:
        if setting.inside is not None and setting.is_table(settings):
            chosen[setting.name] = _instances(setting, settings)
        elif setting.key in settings:
            chosen[setting.name] = settings[setting.key]
        elif setting.default is MISSING:
            raise OptionError(f"[{schema.name}]: needs {setting.name}")
    return [dict(zip(chosen, each, strict=True)) for each in itertools.product(*chosen.values())]


def try_tables(schema: Schema, settings: Settings) -> None:
    """Make what tables stand for.

    Raises:
        OptionError: a table lacks a setting, or its values do not go together.
    """
    for setting in schema.settings:
        if setting.inside is not None and setting.is_table(settings):
            _instances(setting, settings)


def _instances(setting: Setting, settings: Settings) -> tuple[Any, ...]:
    """The dataclasses that a table stands for; what it does not say stays as in the default."""
    assert setting.inside is not None
    owner, base = setting.inside.owner, setting.default
    every = variants(setting.inside, settings)
    try:
        if isinstance(base, owner):
            return tuple(replace(base, **each) for each in every)
        return tuple(owner(**each) for each in every)
    except ValueError as error:
        raise OptionError(f"[{setting.key}]: {one_line(error)}") from None


def filled(schema: Schema, settings: Settings) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield all settings with their values, in the order of the fields, with defaults filled in.

    A table that is not there yields ``(None,)`` if that is its default, and otherwise nothing.
    """
    for setting in schema.settings:
        if setting.inside is not None and setting.is_table(settings):
            yield setting.key, PRESENT
            yield from filled(setting.inside, settings)
        elif setting.key in settings:
            yield setting.key, settings[setting.key]
        elif setting.inside is None and setting.settable and setting.default is not MISSING:
            yield setting.key, (setting.default,)


def settled(schema: Schema, settings: Settings) -> dict[str, tuple[Any, ...]]:
    """Return settings in one form, so that equal ones compare equal.

    What equals its default is left out, but for what stands in a table: that is there whole.
    """
    defaults = {setting.key: (setting.default,) for setting in schema.settings}
    return {
        key: values
        for key, values in filled(schema, settings)
        if key not in defaults or values != defaults[key]
    }
