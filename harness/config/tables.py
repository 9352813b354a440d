"""The tables of all layers together: each strategy's settings, and what differs for a model.

A table of a layer is a strategy's (``[qlora]``), one that stands in a strategy's and may stand on
its own as well (``[subset]``), a decoding's (``[decoding.NAME]``), a metric's published numbers
(``[published.METRIC]``), or ``[for."MODEL"]``, which holds strategies'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.config.decoding import BUILT_IN, check_name, decoding
from harness.config.flags import BY_FIELD, FLAGS
from harness.config.recipe import Layer
from harness.config.schema import PRESENT, Settings, over, read, schema_of, settled, try_tables
from harness.errors import OptionError, suggest
from harness.metrics.find import metric_names
from harness.plugins import STRATEGIES, find

OTHERS = ("decoding", "published", "for")  # tables that are no strategy's
Strategies = Mapping[str, Settings]  # a strategy's name → its settings
Decodings = Mapping[str, Mapping[str, Any]]  # a decoding's name → its settings
Published = Mapping[str, Mapping[str, float]]  # a metric's name → numbers by name


@dataclass(frozen=True)
class Tables:
    """What the tables say, of all layers together.

    Attributes:
        strategies: a strategy's name → its settings.
        per_model: a text of ``model`` → what differs for it.
        decoding: a decoding's name → its settings.
        published: a metric's name → what was measured elsewhere, by name.
    """

    strategies: Strategies = field(default_factory=dict)
    per_model: Mapping[str, Strategies] = field(default_factory=dict)
    decoding: Decodings = field(default_factory=dict)
    published: Published = field(default_factory=dict)


class Reader:
    """Reads the tables of layers with the strategies that are there."""

    def __init__(self) -> None:
        found = find(STRATEGIES)
        self.broken = found.broken
        self.classes = {name: one for name, one in found.classes.items() if name not in OTHERS}

    def prepare(self, layer: Layer) -> Layer:
        """Return a layer in which a strategy's field that is a flag stands as the flag.

        ``[fewshot] k = 2`` is ``k = 2``, which wins where both stand in one file.

        Raises:
            OptionError: a key that is neither a flag nor a table.
        """
        flags, tables = dict(layer.flags), dict(layer.tables)
        for name, table in layer.tables.items():
            if name not in self._names:
                flag = name.replace("-", "_")
                if flag not in BY_FIELD or flag == "set":
                    self._refuse(layer.where, name)
                flags[flag] = tables.pop(name)  # a table, which no flag can be: refused as such
                continue
            if not isinstance(table, Mapping) and not self._may_be_none(name, table):
                raise OptionError(f"{layer.where}{name} = {table!r:.60}: expected a table")
            own = schema_of(self.classes[name]).flags if name in self.classes else ()
            if own and isinstance(table, Mapping):
                flags = {key: table[key] for key in own if key in table} | flags
                tables[name] = {key: value for key, value in table.items() if key not in own}
        self._check_for(layer)
        inside = tuple(self.prepare(one) for one in layer.trial)
        return replace(layer, flags=flags, tables=tables, trial=inside)

    def tables(self, layers: Sequence[Layer], asked: Sequence[str]) -> Tables:
        """Lay the tables of several layers over one another, weakest first.

        Args:
            layers: as :meth:`prepare` gives them.
            asked: names of the strategies that are run. A table that stands on its own is theirs;
                if none of them has such a table, it is that of all that have one.

        Raises:
            OptionError: a setting that is not known or cannot be used, a table without what it
                cannot do without.
        """
        read_layers = [(self._read(layer, asked), self._models(layer, asked)) for layer in layers]
        for layer in layers:  # of trials that are not in force, too: a recipe is right or wrong
            for one in layer.trial:
                self._read(one, asked)
                self._models(one, asked)
        strategies: dict[str, Settings] = {}
        for own, _ in read_layers:
            strategies = merged(strategies, own)
        models = {model for _, differing in read_layers for model in differing}
        per_model = {model: _for_model(read_layers, model) for model in sorted(models)}
        for tables in (strategies, *(merged(strategies, own) for own in per_model.values())):
            self._try(tables)
        published = _published(layers)
        return Tables(self._settled(strategies), per_model, _decodings(layers), published)

    @property
    def _names(self) -> list[str]:
        return [*self.classes, *self._inside(), *OTHERS]

    def _inside(self) -> list[str]:
        """Names of the tables that may stand on their own."""
        every = (schema_of(one).settings for one in self.classes.values())
        return [one.name for settings in every for one in settings if one.inside is not None]

    def _may_be_none(self, name: str, table: object) -> bool:
        return table == "none" and name in self._inside() and name not in self.classes

    def _refuse(self, where: str, name: str) -> None:
        if name == "generation":
            raise OptionError(
                f"{where}[generation]: what a model writes is asked for with --decode, by names of "
                f"tables [decoding.NAME] with the same settings, and for every test row"
            )
        theirs = {own: schema_of(one).settings for own, one in self.classes.items()}
        owners = [own for own, some in theirs.items() if name in {one.key for one in some}]
        if owners:
            meant = " or ".join(f"{own}.{name}" for own in owners)
            raise OptionError(f"{where}{name!r} is a setting of a strategy: write {meant}")
        flags = [flag.name for flag in FLAGS if flag.name != "set"]
        known = list(dict.fromkeys([*flags, *self._names, "trial"]))
        lines = "; ".join([f"known: {', '.join(known)}", *self.broken])
        raise OptionError(f"{where}no key {name!r}{suggest(name, known)}; {lines}")

    def _read(self, layer: Layer, asked: Sequence[str]) -> Strategies:
        tables = {name: table for name, table in layer.tables.items() if name != "for"}
        return self._strategies(layer.where, tables, asked)

    def _models(self, layer: Layer, asked: Sequence[str]) -> dict[str, Strategies]:
        return {
            model: self._strategies(f"{layer.where}[for] {model} ", tables, asked)
            for model, tables in layer.tables.get("for", {}).items()
        }

    def _check_for(self, layer: Layer) -> None:
        for model, tables in layer.tables.get("for", {}).items():
            where = f"{layer.where}[for] {model}"
            if not isinstance(tables, Mapping):
                raise OptionError(f"{where}: expected a table, found {tables!r:.60}")
            for name in tables:
                if name not in self._names or name in OTHERS:
                    raise OptionError(
                        f"{where}: expected a strategy's table, such as qlora, found {name}"
                        f"{suggest(name, self._names)}"
                    )

    def _strategies(
        self, where: str, tables: Mapping[str, object], asked: Sequence[str]
    ) -> dict[str, Settings]:
        """What tables say, by strategy; what stands in a strategy's own table wins."""
        found: dict[str, Settings] = {}
        for name in tables:
            if name in self.classes or name in OTHERS:
                continue
            for owner in self._owners(name, asked):
                schema = schema_of(self.classes[owner])
                setting = schema.by_name[name]
                assert setting.inside is not None
                if tables[name] == "none" and setting.optional:
                    said: Settings = {name: (None,)}
                else:
                    said = {name: PRESENT} | read(setting.inside, f"{where}[{name}", tables[name])
                found[owner] = over(found.get(owner, {}), said)
        for name in tables:
            if name in self.classes:
                schema = schema_of(self.classes[name])
                found[name] = over(
                    found.get(name, {}), read(schema, f"{where}[{name}", tables[name])
                )
        return found

    def _owners(self, name: str, asked: Sequence[str]) -> list[str]:
        every = [
            owner
            for owner, strategy in self.classes.items()
            if any(one.name == name and one.inside for one in schema_of(strategy).settings)
        ]
        return [owner for owner in every if owner in asked] or every

    def _try(self, strategies: Strategies) -> None:
        """Make what the tables stand for, so that an unusable one is found before a run begins."""
        for name, settings in strategies.items():
            try_tables(schema_of(self.classes[name]), settings)

    def _settled(self, strategies: Strategies) -> Strategies:
        every = {
            name: settled(schema_of(self.classes[name]), settings)
            for name, settings in strategies.items()
        }
        return {name: settings for name, settings in every.items() if settings}


def merged(weaker: Strategies, stronger: Strategies) -> dict[str, Settings]:
    """Return the strategies' settings of ``weaker``, and in their place those of ``stronger``."""
    names = dict.fromkeys([*weaker, *stronger])
    return {name: over(weaker.get(name, {}), stronger.get(name, {})) for name in names}


def _decodings(layers: Sequence[Layer]) -> Decodings:
    """Every table ``[decoding.NAME]``, checked with those that it stands on."""
    found: dict[str, dict[str, Any]] = {}
    # A trial that is not in force is checked too: a recipe is right or wrong.
    trials = [one for layer in layers for one in layer.trial]
    for layer, counts in (*((one, True) for one in layers), *((one, False) for one in trials)):
        tables = layer.tables.get("decoding", {})
        for name, table in tables.items():
            where = f"{layer.where}[decoding.{name}]"
            if not isinstance(table, Mapping):
                raise OptionError(f"{where}: expected a table of settings, found {table!r:.60}")
            check_name(name, where)
            said = {**found.get(name, {}), **table}
            decoding(name, {**BUILT_IN.get(name, {}), **said}, where)
            if counts:
                found[name] = said
    return found


def _published(layers: Sequence[Layer]) -> Published:
    """Every table ``[published.METRIC]``: names and numbers."""
    found: dict[str, dict[str, float]] = {}
    for layer in layers:
        for metric, table in layer.tables.get("published", {}).items():
            where = f"{layer.where}[published.{metric}]"
            if metric not in metric_names():
                known = metric_names()
                raise OptionError(
                    f"{where}: no metric {metric!r}{suggest(metric, known)}; known: "
                    f"{', '.join(known)}"
                )
            if not isinstance(table, Mapping):
                raise OptionError(f"{where}: expected a table of numbers, found {table!r:.60}")
            for name, value in table.items():
                if isinstance(value, bool) or not isinstance(value, int | float):
                    raise OptionError(f"{where} {name} = {value!r:.40}: expected a number")
                found.setdefault(metric, {})[name] = float(value)
    return found


def _for_model(
    layers: Sequence[tuple[Strategies, Mapping[str, Strategies]]], model: str
) -> Strategies:
    """What differs for a model; what a stronger layer says of all models holds for it, too."""
    whole: dict[str, Settings] = {}
    differing: dict[str, set[str]] = {}
    for everywhere, models in layers:
        own = models.get(model, {})
        whole = merged(merged(whole, everywhere), own)
        for name, settings in own.items():
            differing.setdefault(name, set()).update(settings)
    return {
        name: {key: values for key, values in whole[name].items() if key in keys}
        for name, keys in differing.items()
    }
