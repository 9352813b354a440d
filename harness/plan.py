"""From options to cases: strategies × seeds × models × quantizations × prompts.

A case is one pytest parameter. Making cases reads the data and runs the strategies, but touches
no model: an unusable flag is found here, before anything is computed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.core import (
    Adaptation,
    Example,
    PromptTemplate,
    Quantization,
    Strategy,
    Task,
    TrainingSpec,
)
from harness.data import load_task
from harness.errors import OptionError, StrategyError, one_line
from harness.identity import resolve_device, resolve_dtype
from harness.models import check_quantization
from harness.options import Options
from harness.prompts import load_template
from harness.registry import select_strategies
from harness.sources import Source, check_adapter, parse_source


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

    def demonstrations(self, case: Case) -> list[tuple[Example, ...]]:
        """The demonstrations of each test row: one draw for all, or one per row."""
        if case.strategy.draw != "row":
            return [case.adaptation.demonstrations] * len(self.task.examples)
        return [
            adapt(
                case.strategy, self.task.pool, row_seed(case.seed or 0, example.id)
            ).demonstrations
            for example in self.task.examples
        ]


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
    task = load_task(options.data, options.train_data, options.limit)
    names = _model_names(sources)

    cases: list[Case] = []
    variants = [v for strategy in strategies for v in _variants(strategy, options)]
    _distinct("--strategy", [variant.label for variant in variants])
    for source, model_name in zip(sources, names, strict=True):
        for quantization in options.quant or (None,):
            for template in templates:
                for variant in variants:
                    for seed in options.seeds if variant.stochastic else (None,):
                        adaptation = adapt(variant, task.pool, seed or 0)
                        _check(adaptation, options)
                        training = adaptation.training
                        quant = quantization or (training.quantization if training else "none")
                        check_quantization(quant)
                        parts = [model_name]
                        parts += [quantization] if quantization else []
                        parts += (
                            [dtype] if options.given("dtype") and options.dtype != "auto" else []
                        )
                        parts += [slug(template.name), variant.label]
                        parts += [f"s{seed}"] if seed is not None else []
                        cases.append(
                            Case(
                                id="-".join(parts),
                                source=source,
                                model_name=model_name,
                                quantization=quant,
                                dtype=dtype,
                                device=device,
                                adapter=options.adapter,
                                template=template,
                                strategy=variant,
                                seed=seed,
                                adaptation=adaptation,
                            )
                        )
    return Plan(options, task, tuple(_by_model(cases)))


def adapt(strategy: Strategy, pool: Sequence[Example], seed: int) -> Adaptation:
    """Run a strategy and check what it returns; a third party's mistake becomes one line.

    Raises:
        StrategyError: it raised, or returned something that is not an adaptation.
    """
    try:
        adaptation = strategy.adapt(pool, seed)
    except OptionError:
        raise
    except Exception as error:
        raise StrategyError(
            f"strategy {strategy.name!r}: adapt() raised {type(error).__name__}: {one_line(error)}"
        ) from error
    if not isinstance(adaptation, Adaptation):
        raise StrategyError(
            f"strategy {strategy.name!r}: adapt() returned {type(adaptation).__name__}, "
            f"expected harness.core.Adaptation"
        )
    known = {example.id: example for example in pool}
    rows = [
        *adaptation.demonstrations,
        *(adaptation.training.examples if adaptation.training else ()),
    ]
    for example in rows:
        if known.get(example.id) != example:
            raise StrategyError(
                f"strategy {strategy.name!r}: row {example.id!r} is not from the training pool; "
                f"demonstrations and training rows must be"
            )
    return adaptation


def _variants(strategy: type[Strategy], options: Options) -> Iterator[Strategy]:
    found = False
    for variant in strategy.variants(options):
        found = True
        if not re.fullmatch(r"[A-Za-z0-9._+-]+", variant.label):
            raise StrategyError(
                f"strategy {strategy.name!r}: label {variant.label!r} must be ASCII letters, "
                f"digits and . _ + -"
            )
        yield variant
    if not found:
        raise StrategyError(f"strategy {strategy.name!r}: has no variant for these flags")


def _check(adaptation: Adaptation, options: Options) -> None:
    if adaptation.training is not None:
        if options.adapter is not None:
            raise OptionError(
                "--adapter: cannot be combined with a strategy that trains an adapter of its own; "
                "choose --strategy=zeroshot,fewshot"
            )
        if not adaptation.training.examples:
            raise StrategyError("a strategy asks for a training without rows")


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
            raise OptionError(f"{flag}: {name!r} stands twice; rename one or name it once")


def slug(name: str) -> str:
    """An ASCII version of ``name`` for ids; what cannot be shown is replaced by a short hash."""
    plain = re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip("-.")
    if plain == name:
        return plain
    return f"{plain or 'x'}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
