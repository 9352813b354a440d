"""From options to cases: strategies × seeds × models × quantizations × prompts.

A case is one pytest parameter. Making cases reads the data and runs the strategies, but touches
no model: an unusable flag is found here, before anything is computed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from harness.config.options import Options
from harness.core import (
    Adaptation,
    Example,
    PromptTemplate,
    Quantization,
    Strategy,
    Task,
    TrainingSettings,
    TrainingSpec,
)
from harness.data.task import load_task
from harness.errors import DataError, OptionError, StrategyError, one_line
from harness.models.fingerprint import resolve_device, resolve_dtype
from harness.models.loading import check_quantization
from harness.models.sources import Source, check_adapter, parse_source
from harness.naming import slug
from harness.prompts.files import load_template
from harness.run.registry import select_strategies
from harness.training.spec import for_model, hold_out, leakage_line, tailor

AS_TRAINED = "trained"


def as_suffix(score_as: str) -> str:
    """What a name ends with where an adapter is not scored as it was trained."""
    return "" if score_as == AS_TRAINED else f"-{score_as}"


@dataclass(frozen=True)
class Case:
    """One pytest parameter: what to measure, before any model has been looked at."""

    id: str
    source: Source
    model_name: str
    quantization: Quantization
    dtype: str
    device: str
    adapter: Path | None
    template: PromptTemplate
    strategy: Strategy
    seed: int | None
    adaptation: Adaptation
    settings: TrainingSettings  # how 4-bit weights are loaded, with or without training
    score_as: str = AS_TRAINED

    @property
    def label(self) -> str:
        """The strategy's label, and how the adapter is scored if not as trained."""
        return self.strategy.label + as_suffix(self.score_as)

    @property
    def short(self) -> str:
        """Label and seed, for a line that must be short."""
        return self.label + ("" if self.seed is None else f"-s{self.seed}")

    @property
    def training(self) -> TrainingSpec | None:
        return self.adaptation.training


@dataclass(frozen=True)
class Plan:
    """Everything a run is going to do."""

    options: Options
    task: Task
    cases: tuple[Case, ...]

    @cached_property
    def by_id(self) -> dict[str, Case]:
        return {case.id: case for case in self.cases}

    @cached_property
    def _drawn(self) -> dict[str, list[tuple[Example, ...]]]:
        return {}

    def demonstrations(self, case: Case) -> list[tuple[Example, ...]]:
        """The demonstrations of each test row: one draw for all, or one per row."""
        if case.strategy.draw != "row":
            return [case.adaptation.demonstrations] * len(self.task.examples)
        if case.id not in self._drawn:
            self._drawn[case.id] = [
                adapt(
                    case.strategy, self.task.pool, row_seed(case.seed or 0, example.id)
                ).demonstrations
                for example in self.task.examples
            ]
        return self._drawn[case.id]


def row_seed(seed: int, example_id: str) -> int:
    """The seed of one test row's own draw: a function of the run's seed and the row's id alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{example_id}".encode()).digest()[:4], "big")


def make_plan(options: Options) -> Plan:
    """Resolve every flag into cases, in the order in which they should run.

    Raises:
        AdaptbenchError: one line naming the flag or the file, row and field.
    """
    strategies = select_strategies(options.strategy)
    device = resolve_device(options.device)
    dtype = resolve_dtype(options.dtype, device)
    sources = [parse_source(text) for text in options.model]
    templates = [load_template(name) for name in options.prompt]
    _distinct("--prompt", [template.name for template in templates])
    if options.adapter is not None:
        check_adapter(options.adapter)
    if options.templates is not None and not options.templates.is_dir():
        raise OptionError(f"--templates={options.templates}: no such folder")
    task = load_task(
        options.data, options.train_data, options.limit, options.format, options.allow_leakage
    )
    names = _model_names(sources)
    if options.adapter is not None:
        names = [f"{name}+{slug(options.adapter.resolve().name)}" for name in names]

    variants = [v for strategy in strategies for v in _variants(strategy, options)]
    _distinct("--strategy", [variant.label for variant in variants])
    ways = _Ways(options, task, dtype, device)
    cases = [
        case
        for text, source, name in zip(options.model, sources, names, strict=True)
        for quantization in options.quant or (None,)
        for template in templates
        for variant in variants
        for seed in (options.seeds if variant.stochastic else (None,))
        for case in ways.cases(text, source, name, quantization, template, variant, seed)
    ]
    if task.excluded and not options.allow_leakage and any(case.training for case in cases):
        raise DataError(leakage_line(task, options))
    # Distinct parts can join to equal ids: prompt "a-b" with label "c", prompt "a" with "b-c".
    _distinct("cell", [case.id for case in cases])
    return Plan(options, task, tuple(_by_model(cases)))


@dataclass(frozen=True)
class _Ways:
    """Makes the cases of one combination: several where an adapter is scored in several ways."""

    options: Options
    task: Task
    dtype: str
    device: str

    def cases(
        self,
        text: str,
        source: Source,
        model_name: str,
        quantization: Quantization | None,
        template: PromptTemplate,
        strategy: Strategy,
        seed: int | None,
    ) -> list[Case]:
        options = self.options
        adaptation = adapt(strategy, self.task.pool, seed or 0)
        training = adaptation.training
        loading = for_model(options.qlora, options, text)
        if training is not None:
            if options.adapter is not None:
                raise OptionError(
                    "--adapter: cannot be combined with a strategy that trains an adapter of its "
                    "own; choose --strategy=zeroshot,fewshot"
                )
            training = tailor(training, options, text, quantization)
            if options.select_on == "holdout" or self.task.leaks:
                training = self._of_another_pool(strategy, seed or 0, training)
            adaptation = replace(adaptation, training=training)
            loading = training.settings
        parts = [
            model_name,
            quantization,
            self.dtype if options.given("dtype") and options.dtype != "auto" else None,
            slug(template.name),
            strategy.label,
            None if seed is None else f"s{seed}",
        ]
        chosen = loading.quantization if training else quantization or "none"
        check_quantization(chosen)
        name = "-".join(part for part in parts if part)
        adapted = training is not None or options.adapter is not None
        return [
            Case(
                id=name + as_suffix(score_as),
                source=source,
                model_name=model_name,
                quantization=chosen,
                dtype=self.dtype,
                device=self.device,
                adapter=options.adapter,
                template=template,
                strategy=strategy,
                seed=seed,
                adaptation=adaptation,
                settings=loading,
                score_as=score_as,
            )
            for score_as in (options.score_as if adapted else (AS_TRAINED,))
        ]

    def _of_another_pool(
        self, strategy: Strategy, seed: int, training: TrainingSpec
    ) -> TrainingSpec:
        """Ask for the training again, of the pool that may be trained on.

        Without the rows that choose its checkpoint, and with those of the test set where the
        user insists; neither changes what is shown.
        """
        pool = (*self.task.pool, *self.task.leaks)
        held: tuple[Example, ...] = ()
        if self.options.select_on == "holdout":
            held = hold_out(self.task.pool, training.settings.holdout_rows)
        ids = {row.id for row in held}
        rest = [row for row in pool if row.id not in ids]
        where = f"with {len(held)} of {len(pool)} rows held out (qlora.holdout_rows)"
        if not rest:
            raise OptionError(f"--select-on=holdout: {where}, none is left to train on")
        try:
            again = adapt(strategy, rest, seed).training
        except OptionError as error:
            raise OptionError(f"{error} ({where})" if held else str(error)) from None
        if again is None:
            raise StrategyError(
                f"strategy {strategy.name!r}: adapt() asks for a training of {len(self.task.pool)} "
                f"rows, and for none of {len(rest)}"
            )
        return replace(training, examples=again.examples, stages=again.stages, holdout=held)


def adapt(strategy: Strategy, pool: Sequence[Example], seed: int) -> Adaptation:
    """Run a strategy and check what it returns; a third party's mistake becomes one line.

    Raises:
        StrategyError: it raised, or returned something that is not an adaptation of this pool.
    """
    where = f"strategy {strategy.name!r}: adapt()"
    with _one_line(where):
        adaptation = strategy.adapt(pool, seed)
    if not isinstance(adaptation, Adaptation):
        raise StrategyError(
            f"{where} returned {type(adaptation).__name__}, expected harness.core.Adaptation"
        )
    rows: list[Example] = []
    stages = getattr(adaptation.training, "stages", ())
    for part in (
        adaptation.demonstrations,
        getattr(adaptation.training, "examples", ()),
        getattr(adaptation.training, "holdout", ()),
        *(stage.examples for stage in stages),
    ):
        if not isinstance(part, tuple) or not all(isinstance(row, Example) for row in part):
            raise StrategyError(f"{where} returned {part!r:.80}, expected a tuple of Examples")
        rows += part
    known = {example.id: example for example in pool}
    for example in rows:
        if known.get(example.id) != example:
            raise StrategyError(
                f"{where} returned row {example.id!r}, which is not from the training pool; "
                f"demonstrations and training rows must be"
            )
    if adaptation.training is not None:
        examples = adaptation.training.examples
        if not all((examples, *(stage.examples for stage in stages))):
            raise StrategyError(f"{where} asks for a training without rows")
        ids = {example.id for example in examples}
        if any(example.id not in ids for stage in stages for example in stage.examples):
            raise StrategyError(f"{where} has a stage with rows that are not among its examples")
    return adaptation


@contextmanager
def _one_line(where: str) -> Iterator[None]:
    try:
        yield
    except OptionError:
        raise
    except Exception as error:  # a third party's code may raise anything
        raise StrategyError(f"{where} raised {type(error).__name__}: {one_line(error)}") from error


def _variants(strategy: type[Strategy], options: Options) -> list[Strategy]:
    where = f"strategy {strategy.name!r}"
    with _one_line(f"{where}: variants()"):
        variants = list(strategy.variants(options))
    if not variants:
        raise StrategyError(f"{where}: has no variant for these flags")
    for variant in variants:
        with _one_line(f"{where}: label, stochastic or draw"):
            label, draw, _ = variant.label, variant.draw, bool(variant.stochastic)
        if not isinstance(label, str) or not re.fullmatch(r"[A-Za-z0-9._+-]+", label):
            raise StrategyError(
                f"{where}: label {label!r} must be ASCII letters, digits and . _ + -"
            )
        if draw not in ("run", "row"):
            raise StrategyError(f"{where}: draw {draw!r} must be 'run' or 'row'")
    return variants


def _by_model(cases: list[Case]) -> list[Case]:
    """Order cases so that each model is loaded once: trainings last, otherwise as asked for."""
    first: dict[tuple[str, str, bool], int] = {}
    for case in cases:
        first.setdefault(_group(case), len(first))
    models = list(dict.fromkeys(case.model_name for case in cases))
    return sorted(
        cases,
        key=lambda case: (
            models.index(case.model_name),
            case.training is not None,
            first[_group(case)],
        ),
    )


def _group(case: Case) -> tuple[str, str, bool]:
    return case.model_name, case.quantization, case.training is not None


def _model_names(sources: list[Source]) -> list[str]:
    _distinct("--model", [f"{source.reference}@{source.revision}" for source in sources])
    short = [slug(source.name.rpartition("/")[2]) for source in sources]
    if len(set(short)) < len(short):
        short = [slug(f"{source.reference}@{source.revision}") for source in sources]
    return short


def _distinct(flag: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise OptionError(f"{flag}: {name!r} stands twice; rename one, or name it once")
