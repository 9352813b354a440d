"""What the user asked for: flags, recipe and defaults, validated once, as one frozen object.

A flag on the command line wins over ``--set``, which wins over the recipe, which wins over
pyproject.toml, which wins over the default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from harness.config.decoding import parse_decodings
from harness.config.flags import BY_FIELD, FLAGS
from harness.config.recipe import Layer, anchor, check_models, parse_setting, read_recipe
from harness.config.schema import schema_of, variants
from harness.config.tables import Decodings, Published, Reader, Strategies, merged
from harness.core import DecodingSpec, Quantization, TrainingSettings
from harness.errors import OptionError
from harness.flag import Flag
from harness.places import Location

LOADING = "qlora"  # the strategy whose settings say how 4-bit weights are loaded


@dataclass(frozen=True)
class Options:
    """Every flag's value, and what only a recipe can say.

    Attributes:
        strategies: a strategy's name → its settings, as far as they are not defaults.
        per_model: a text of ``model`` → the settings of strategies that differ for it.
        decoding: a decoding's name → its settings, of tables.
        published: a metric's name → what was measured elsewhere, by name.
        results_url: where the results directory is, if not on this machine; ``results_dir`` is then
            what this machine has of it.
        trial: whether the recipe's trial settings are in force, because of --limit.
        explicit: the fields that the user set, by flag or by file.
    """

    strategy: tuple[str, ...] = BY_FIELD["strategy"].default
    control: str = BY_FIELD["control"].default
    metrics: tuple[str, ...] = BY_FIELD["metrics"].default
    k: tuple[int, ...] = BY_FIELD["k"].default
    select: tuple[str, ...] = BY_FIELD["select"].default
    demo_ids: tuple[str, ...] = ()
    draw: tuple[str, ...] = BY_FIELD["draw"].default
    seeds: tuple[int, ...] = BY_FIELD["seeds"].default
    model: tuple[str, ...] = BY_FIELD["model"].default
    adapter: Path | None = None
    quant: tuple[Quantization, ...] | None = None
    dtype: str = "auto"
    device: str = "auto"
    task: str | None = None
    data: Path = BY_FIELD["data"].default
    train_data: Path = BY_FIELD["train_data"].default
    format: str = "auto"
    columns: tuple[str, ...] = ()
    skip_bad_rows: bool = False
    direction_pattern: tuple[str, ...] = ()
    allow_leakage: bool = False
    prompt: tuple[str, ...] = BY_FIELD["prompt"].default
    decode: str = BY_FIELD["decode"].default
    choose_decoding: int | None = None
    predictions: Path | None = None
    score_predictions: tuple[Path, ...] = ()
    judge: str | None = None
    rubric: tuple[str, ...] = BY_FIELD["rubric"].default
    pairs: str = BY_FIELD["pairs"].default
    judge_labels: Path | None = None
    judge_unjudged: float = BY_FIELD["judge_unjudged"].default
    judge_concurrency: int = BY_FIELD["judge_concurrency"].default
    judge_rate: int | None = None
    judge_calls: int | None = None
    judge_tokens: int | None = None
    judge_dry_run: bool = False
    dry_run: bool = False
    limit: int | None = None
    scorer: str = "fast"
    score_as: tuple[str, ...] = ("trained",)
    select_on: str | None = None
    results_dir: Path = BY_FIELD["results_dir"].default
    report: tuple[str, ...] = ()
    lang: tuple[str, ...] = ("en",)
    templates: Path | None = None
    fresh: bool = False
    baseline: Path | None = None
    update_baseline: bool = False
    tolerance: float = BY_FIELD["tolerance"].default
    gate_strict: bool = False
    repeat_scoring: int = 1
    engine: str = "here"
    engine_address: str = BY_FIELD["engine_address"].default
    slots: int | None = None
    gpus_per_model: int = 1
    recipe: Path | None = None
    strategies: Strategies = field(default_factory=dict)
    per_model: Mapping[str, Strategies] = field(default_factory=dict)
    decoding: Decodings = field(default_factory=dict)
    published: Published = field(default_factory=dict)
    results_url: str | None = None
    trial: bool = False
    explicit: frozenset[str] = field(default_factory=frozenset, compare=False)

    def __post_init__(self) -> None:
        if "fixed" in self.select and not self.demo_ids:
            raise OptionError("--select=fixed: needs --demo-ids with the ids of the rows to show")
        if self.demo_ids and "fixed" not in self.select:
            raise OptionError(
                "--demo-ids: only --select=fixed shows named rows; add --select=fixed"
            )
        if self.update_baseline and self.baseline is None:
            raise OptionError("--update-baseline: needs --baseline=FILE, the file to write")

        for name in ("engine_address", "slots"):
            if self.engine == "here" and self.given(name):
                raise OptionError(
                    f"--{BY_FIELD[name].name}: is about --engine=ray; add it, or leave this out"
                )
        for name in ("data", "train_data", "columns", "skip_bad_rows", "direction_pattern"):
            if self.task is not None and self.given(name):
                flag = BY_FIELD[name].name
                raise OptionError(
                    f"--task={self.task}: brings its own rows; leave out --{flag}, or --task"
                )

    def given(self, name: str) -> bool:
        """Whether the user set this field, rather than leaving its default."""
        return name in self.explicit

    @property
    def decodings(self) -> tuple[DecodingSpec, ...]:
        """What ``decode`` names, as far as the tables know it.

        Raises:
            OptionError: one is unknown, has unusable settings, or stands twice.
        """
        return parse_decodings(self.decode, self.decoding)

    def of(self, model: str) -> Options:
        """Return the options as they are for ``model``, a text of ``--model``, of any revision."""
        own = self.per_model.get(model) or self.per_model.get(model.partition("@")[0], {})
        return replace(self, strategies=merged(self.strategies, own)) if own else self

    def variants(self, strategy: type[Any]) -> Sequence[Mapping[str, Any]]:
        """Return the settings of every variant of a strategy, as arguments of its dataclass.

        The product of the values of its settings; one without any where all are defaults.

        Raises:
            OptionError: a setting that has to be given is not.
        """
        schema = schema_of(strategy)
        return variants(schema, self.strategies.get(schema.name, {}))

    def loading(self, model: str) -> TrainingSettings:
        """Return how 4-bit weights of ``model`` are loaded where nothing is trained: as to train.

        Of its fields, only those of bitsandbytes matter. Of several values the first counts.
        """
        given = self.of(model).strategies.get(LOADING, {})
        names = [one.name for one in fields(TrainingSettings) if one.name in given]
        return TrainingSettings(**{name: given[name][0] for name in names})


def parse_options(command_line: Mapping[str, Any], pyproject: Layer | None = None) -> Options:
    """Turn the texts of the flags, and the files they stand on, into validated options.

    Args:
        command_line: field name → text, or None where the flag was not given; ``set`` is a list.
        pyproject: what pyproject.toml says, if anything.

    Raises:
        OptionError: one line naming the flag or the file and key, the value found and what would
            be right.
    """
    reader = Reader()
    layers = [reader.prepare(layer) for layer in _layers(command_line, pyproject)]
    values = {
        flag.field: value
        for flag in FLAGS
        if flag.name != "set"
        for value in _values(flag, command_line.get(flag.field), layers)
    }
    for flag in map(BY_FIELD.__getitem__, ("tolerance", "gate_strict")):
        if command_line.get(flag.field) and "baseline" not in values:
            raise OptionError(f"--{flag.name}: needs --baseline=FILE, which is what it is about")
    check_models(layers, values.get("model", BY_FIELD["model"].default))
    tables = reader.tables(layers, values.get("strategy", BY_FIELD["strategy"].default))
    explicit = frozenset(values)
    where = values.get("results_dir")
    if isinstance(where, Location):
        values |= {"results_dir": where.folder, "results_url": where.url}
    return Options(
        **values,
        strategies=tables.strategies,
        per_model=tables.per_model,
        decoding=tables.decoding,
        published=tables.published,
        trial=any(layer.is_trial for layer in layers),
        explicit=explicit,
    )


def _values(flag: Flag, given: Any, layers: Sequence[Layer]) -> Iterator[Any]:
    """The flag's value, from the strongest place that has one; nothing if none has."""
    if given is not None and given is not False:
        shown = ",".join(given) if flag.repeats and isinstance(given, list) else given
        yield _parse(flag, given, f"--{flag.name}={shown}")
        return
    for layer in reversed(layers):
        if flag.field in layer.flags:
            if flag.name == "update-baseline":
                raise OptionError(
                    f"{layer.where}{flag.name}: stands on the command line only; in a file it "
                    f"would switch the gate off for good"
                )
            raw = layer.flags[flag.field]
            value = _parse(flag, raw, f"{layer.where}{flag.name} = {raw!r}")
            yield _anchored(flag, value, layer.folder)
            return


def _layers(command_line: Mapping[str, Any], pyproject: Layer | None) -> list[Layer]:
    """What stands below the command line, weakest first: pyproject, recipe, its trial, --set."""
    layers = [pyproject] if pyproject is not None else []
    recipe = command_line.get("recipe")
    if recipe is not None:
        recipe = _parse(BY_FIELD["recipe"], recipe, f"--recipe={recipe}")
    elif pyproject is not None and "recipe" in pyproject.flags:
        flag, raw = BY_FIELD["recipe"], pyproject.flags["recipe"]
        recipe = _parse(flag, raw, f"{pyproject.where}recipe = {raw!r}")
        recipe = Path(anchor(str(recipe), pyproject.folder or Path()))
    settings = [parse_setting(text) for text in command_line.get("set") or ()]
    if recipe is not None:
        whole = read_recipe(recipe)
        layers.append(whole)
        limited = command_line.get("limit") is not None
        limited = limited or any("limit" in layer.flags for layer in [*layers, *settings])
        if limited:
            layers += whole.trial
    return layers + settings


def _anchored(flag: Flag, value: Any, folder: Path | None) -> Any:
    """Let relative paths of a file start at its folder, also where a name may be a path."""
    if folder is None:
        return value
    if flag.name == "recipe":
        return Path(anchor(str(value), folder))
    if isinstance(value, Path):
        return folder / value
    if flag.name == "score-predictions":
        return tuple(folder / path for path in value)
    if flag.name == "judge":
        return value if value.startswith("openai:") else anchor(value, folder)
    if flag.name in ("model", "prompt", "rubric"):
        return tuple(anchor(x, folder) if may_be_path(flag.name, x) else x for x in value)
    return value


def may_be_path(flag: str, text: str) -> bool:
    """Whether a model, prompt or rubric of this name can be a path; the latter two show it."""
    return flag == "model" or "/" in text or text.endswith(".toml")


def _parse(flag: Flag, value: Any, where: str) -> Any:
    if isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, list):
        text = ",".join(str(item) for item in value)
    elif isinstance(value, str | int | float):
        text = str(value)
    else:
        raise OptionError(
            f"{where}: expected a text, a number or a list, found {type(value).__name__}"
        )
    try:
        return flag.parse(text)
    except ValueError as error:
        raise OptionError(f"{where}: expected {error}") from None
