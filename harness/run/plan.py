"""From options to cases: strategies × seeds × models × quantizations × prompts × decodings.

What is observed follows from the metrics: likelihoods where one reads them, answers where one reads
answers, or a decoding is asked for. Each is a case of its own, so that neither is computed again
because of the other.

A case is one pytest parameter. Making cases reads the data and runs the strategies, but touches
no model: an unusable flag is found here, before anything is computed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

from harness.config.options import Options
from harness.core import (
    DecodingSpec,
    Example,
    PromptTemplate,
    Quantization,
    Strategy,
    Task,
    TrainingSettings,
)
from harness.data.named import load_named_task
from harness.data.predictions import check_suffix
from harness.data.rows import Reading
from harness.data.task import load_task
from harness.errors import DataError, OptionError, suggest
from harness.judging.rubric import load_rubric
from harness.metrics.base import Metric
from harness.metrics.find import GROUPS, select_metrics
from harness.models.adapters import check_adapter
from harness.models.fingerprint import FOUR_BIT, resolve_device, resolve_dtype
from harness.models.loading import check_quantization
from harness.models.sources import Source, parse_source
from harness.naming import slug
from harness.plugins import find_strategies, select_strategies
from harness.prompts.files import load_template
from harness.run.adaptations import adapt, adaptation_of
from harness.run.case import AS_TRAINED, Case, Judging, as_suffix
from harness.run.given import given_cases, is_given
from harness.run.variants import Variant, variants_of
from harness.training.spec import held_out_rows, leakage_line

CHOSEN = "chosen"  # the name of a decoding that held-out rows decide on


@dataclass(frozen=True)
class Plan:
    """Everything a run is going to do.

    Attributes:
        options: what was asked for.
        task: the rows.
        cases: in the order in which they run.
        metrics: what is read from what is observed, the headline first.
        control: label and title of what the others are compared with.
        held_out: rows that choose decodings; they are neither shown nor trained on.
        evaluated: what trainings are evaluated on, where that is not the task's test rows.
    """

    options: Options
    task: Task
    cases: tuple[Case, ...]
    metrics: tuple[Metric, ...]
    control: tuple[str, str] = ("zeroshot", "zero-shot")
    held_out: tuple[Example, ...] = ()
    evaluated: tuple[Example, ...] | None = None

    @cached_property
    def by_id(self) -> dict[str, Case]:
        return {case.id: case for case in self.cases}

    @property
    def evaluation_rows(self) -> tuple[Example, ...]:
        """The rows that trainings are evaluated on."""
        return self.task.examples if self.evaluated is None else self.evaluated

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
    if options.predictions is not None:
        check_suffix(options.predictions)
    strategies = select_strategies(options.strategy) if _models(options) else []
    observed = observed_by(options)
    task = _load_task(options)
    metrics = _readable(options, task)
    task, held_out = _held_out(options, task, metrics)
    cases = given_cases(options.score_predictions)
    titles = {case.variant: case.variant for case in cases}
    if strategies:
        made, named = _cases(options, task, strategies, observed)
        cases += made
        titles |= named
    cases += _judged(options, cases, metrics)
    if options.predictions is not None and not any(case.decoding for case in cases):
        raise OptionError(
            f"--predictions={options.predictions}: no answer is written; add --decode=greedy, or a "
            f"metric of answers"
        )
    if task.excluded and not options.allow_leakage and any(case.training for case in cases):
        raise DataError(leakage_line(task))
    # Distinct parts can join to equal ids: prompt "a-b" with label "c", prompt "a" with "b-c".
    _distinct("cell", [case.id for case in cases])
    control = _control(options, cases, titles)
    return Plan(options, task, tuple(_by_model(cases)), metrics, control, held_out)


def _models(options: Options) -> bool:
    """Whether a model is asked for, and not only files of answers measured."""
    return not options.score_predictions or options.given("strategy")


def _cases(
    options: Options,
    task: Task,
    strategies: Sequence[type[Strategy]],
    observed: Sequence[DecodingSpec | None],
) -> tuple[list[Case], dict[str, str]]:
    """The cases of every model and strategy, and a variant's label → its title."""
    device = resolve_device(options.device)
    dtype = resolve_dtype(options.dtype, device)
    sources = [parse_source(text) for text in options.model]
    templates = [load_template(name) for name in options.prompt]
    _distinct("--prompt", [template.name for template in templates])
    if options.adapter is not None:
        check_adapter(options.adapter)
    names = _model_names(sources)
    if options.adapter is not None:
        names = [f"{name}+{slug(options.adapter.resolve().name)}" for name in names]

    ways = _Ways(options, task, dtype, device, templates, observed)
    cases: list[Case] = []
    titles: dict[str, str] = {}
    for text, source, name in zip(options.model, sources, names, strict=True):
        variants = [v for one in strategies for v in variants_of(one, options.of(text))]
        _distinct("--strategy", [variant.label for variant in variants])
        titles |= {variant.label: variant.title for variant in variants}
        cases += ways.of_model(_Model(source, name, options.loading(text)), variants)
    return cases, titles


def observed_by(options: Options) -> tuple[DecodingSpec | None, ...]:
    """What is observed of every adaptation: likelihoods (None), and answers by each decoding.

    Raises:
        MetricError: a metric is unknown or unusable.
        OptionError: so is a decoding.
    """
    read = {metric.observes for metric in select_metrics(options.metrics)}
    written = {"answer", "rating"} & read or options.given("decode")
    answers = options.decodings if written else ()
    if options.choose_decoding is not None:
        if len(answers) < 2:
            raise OptionError(
                f"--choose-decoding={options.choose_decoding}: {len(answers)} decodings to choose "
                f"from; name several with --decode"
            )
        answers = (replace(answers[0], name=CHOSEN),)
    return (*((None,) if "likelihood" in read else ()), *answers)


def _judged(options: Options, cases: Sequence[Case], metrics: Sequence[Metric]) -> list[Case]:
    """A case for every one with answers, in which a judge rates them; none if nothing reads that.

    Raises:
        OptionError: there is no judge, its rubric is unusable, or asks for references that are
            not there.
    """
    reads = [metric.name for metric in metrics if metric.observes == "rating"]
    if not reads:  # --judge alone is for suites/test_judge.py
        return []
    if options.judge is None:
        raise OptionError(f"--metrics={reads[0]}: needs --judge=NAME, the model that rates answers")
    return [
        replace(case, id=f"{case.id}-judged", source=judging.source, judging=judging)
        for case in cases
        if case.decoding is not None
        for judging in [judging_of(options, case)]
    ]


def judging_of(options: Options, answered: Case) -> Judging:
    """The judge that flags name, of the answers of a case.

    Raises:
        OptionError: its rubric is unusable, or compares two answers.
        ModelError: the model cannot be used.
    """
    assert options.judge is not None
    rubric = load_rubric(options.rubric)
    if rubric.kind != "single":
        raise OptionError(
            f"--rubric={options.rubric}: compares two answers; a score needs a rubric of kind "
            f"single, such as helpful"
        )
    dtype = resolve_dtype(options.dtype, resolve_device(options.device))
    return Judging(parse_source(options.judge), dtype, rubric, answered)


def _held_out(
    options: Options, task: Task, metrics: Sequence[Metric]
) -> tuple[Task, tuple[Example, ...]]:
    """The rows that choose decodings, and the task without them in its pool.

    Raises:
        OptionError: the pool is too small, or nothing is read of answers.
    """
    rows = options.choose_decoding
    if rows is None or not _models(options):
        return task, ()
    if not any(metric.observes == "answer" for metric in metrics):
        raise OptionError(
            f"--choose-decoding={rows}: no metric of --metrics reads answers, so nothing says "
            f"which are best; add one, such as chrf"
        )
    if rows > len(task.pool) // 2:
        raise OptionError(
            f"--choose-decoding={rows}: the training pool has {len(task.pool)} rows; half of them "
            f"at most may be held out"
        )
    held = held_out_rows(task.pool, rows, most=rows)
    ids = {row.id for row in held}
    return replace(task, pool=tuple(row for row in task.pool if row.id not in ids)), held


def _needs_references(options: Options) -> bool:
    """Whether a metric that was named, not as one of a group, reads references."""
    named = select_metrics([name for name in options.metrics if name not in GROUPS])
    return any(metric.needs_reference for metric in named)


def _readable(options: Options, task: Task) -> tuple[Metric, ...]:
    """The metrics; of a group, where rows have no reference, those that need none."""
    metrics = select_metrics(options.metrics)
    if options.score_predictions and "truncated" not in options.metrics:
        # A file does not say how its answers ended.
        metrics = tuple(metric for metric in metrics if metric.name != "truncated")
    if all(row.output for row in task.examples):
        return metrics
    return tuple(metric for metric in metrics if not metric.needs_reference)


def _load_task(options: Options) -> Task:
    if options.templates is not None and not options.templates.is_dir():
        raise OptionError(f"--templates={options.templates}: no such folder")
    if options.task is not None:
        return load_named_task(options.task, options.limit, options.allow_leakage)
    how = Reading(
        options.format,
        options.columns,
        options.direction_pattern,
        options.skip_bad_rows,
        references=_needs_references(options),
    )
    pool = options.train_data if _models(options) else None
    return load_task(options.data, pool, options.limit, how, options.allow_leakage)


def _control(options: Options, cases: Sequence[Case], titles: Mapping[str, str]) -> tuple[str, str]:
    """Label and title of the control.

    Raises:
        OptionError: the user asked for one that this run does not have.
    """
    label = options.control
    for case in cases:
        if case.label == label:
            return label, titles[case.variant] + as_suffix(case.score_as)
    if options.given("control"):
        known = list(dict.fromkeys(case.label for case in cases))
        raise OptionError(
            f"--control={label}: nothing in this run is called so{suggest(label, known)}; "
            f"known: {', '.join(known)}"
        )
    if all(map(is_given, cases)):  # files: the first of them
        return cases[0].label, cases[0].label
    # Nothing is compared with it, but sentences may say that it is missing.
    strategy = find_strategies().get(label)
    return label, strategy().title if strategy is not None else label


@dataclass(frozen=True)
class _Model:
    """A model of the run: its files, its name in ids, and how 4-bit weights of it are loaded."""

    source: Source
    name: str
    loading: TrainingSettings


@dataclass(frozen=True)
class _Ways:
    """Makes the cases of a model: several of one variant where several flags are lists."""

    options: Options
    task: Task
    dtype: str
    device: str
    templates: Sequence[PromptTemplate]
    observed: Sequence[DecodingSpec | None]

    def of_model(self, model: _Model, variants: Sequence[Variant]) -> list[Case]:
        """Quantizations × prompts × variants × seeds × decodings × ways to score an adapter."""
        return [
            case
            for quantization in self.options.quant or (None,)
            for template in self.templates
            for variant in variants
            for seed, decoding in self._seeded(variant.strategy)
            for case in self._cases(model, quantization, template, variant, seed, decoding)
        ]

    def _seeded(self, strategy: Strategy) -> Iterator[tuple[int | None, DecodingSpec | None]]:
        """Seeds × what is observed; no seed where neither strategy nor decoding draws."""
        first = self.options.seeds[0]
        for seed in self.options.seeds:
            for decoding in self.observed:
                among = [] if decoding is None else self._candidates(decoding) or [decoding]
                if strategy.stochastic or any(one.do_sample for one in among):
                    yield seed, decoding
                elif seed == first:
                    yield None, decoding

    def _candidates(self, decoding: DecodingSpec | None) -> list[DecodingSpec]:
        """What a decoding that is to be chosen is chosen from; nothing of any other."""
        chosen = decoding is not None and self.options.choose_decoding is not None
        return list(self.options.decodings) if chosen else []

    def _cases(
        self,
        model: _Model,
        quantization: Quantization | None,
        template: PromptTemplate,
        variant: Variant,
        seed: int | None,
        decoding: DecodingSpec | None,
    ) -> list[Case]:
        options, strategy = self.options, variant.strategy
        adaptation = adaptation_of(strategy, self.task, options, quantization, seed or 0)
        training = adaptation.training
        chosen = training.settings.quantization if training else quantization or "none"
        chosen = as_stored(model.source, chosen, asked=quantization is not None or bool(training))
        check_quantization(chosen)
        dtype = self.dtype if options.given("dtype") and options.dtype != "auto" else None
        seeded = None if seed is None else f"s{seed}"
        named = None if decoding is None else decoding.name
        parts = [model.name, quantization, dtype, slug(template.name), variant.label, named, seeded]
        as_trained = Case(
            id="-".join(part for part in parts if part),
            source=model.source,
            model_name=model.name,
            quantization=chosen,
            dtype=self.dtype,
            device=self.device,
            adapter=options.adapter,
            template=template,
            strategy=strategy,
            variant=variant.label,
            seed=seed,
            adaptation=adaptation,
            settings=_loading(model, training.settings if training else model.loading, chosen),
            decoding=decoding,
            candidates=tuple(self._candidates(decoding)),
        )
        return self._scored(as_trained)

    def _scored(self, as_trained: Case) -> list[Case]:
        """A case for each way to score its adapter, if it has one."""
        adapted = as_trained.training is not None or as_trained.adapter is not None
        return [
            replace(as_trained, id=as_trained.id + as_suffix(score_as), score_as=score_as)
            for score_as in (self.options.score_as if adapted else (AS_TRAINED,))
        ]


def as_stored(source: Source, chosen: Quantization, *, asked: bool) -> Quantization:
    """The quantization of a model: what was chosen, unless its weights are stored quantized.

    Args:
        source: the model.
        chosen: by a flag, a training run's settings, or by default.
        asked: whether somebody chose it.

    Raises:
        OptionError: something else was chosen than what is stored.
    """
    stored = source.stored_quantization
    if stored == "none" or stored == chosen:
        return chosen
    if asked:
        raise OptionError(
            f"--quant={chosen}: the weights of {source.name} are stored as {stored}, and cannot be "
            f"read as anything else; leave --quant out, or name the checkpoint that it was made "
            f"from" + (f" (a training run takes --quant={stored})" if stored in FOUR_BIT else "")
        )
    return cast(Quantization, stored)


def _loading(model: _Model, settings: TrainingSettings, chosen: str) -> TrainingSettings:
    """How 4-bit weights are loaded; those that are stored so, as they are stored."""
    if model.source.stored_quantization != chosen or chosen not in FOUR_BIT:
        return settings
    return replace(settings, bnb_4bit_use_double_quant=model.source.stored_double_quant)


def _by_model(cases: list[Case]) -> list[Case]:
    """Order cases so that each model is loaded once: training runs last, then the judge."""
    first: dict[tuple[str, str, bool], int] = {}
    for case in cases:
        first.setdefault(_group(case), len(first))
    models = list(dict.fromkeys(case.model_name for case in cases))
    return sorted(
        cases,
        key=lambda case: (
            case.judging is not None,
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
