"""The cases of models: strategies × seeds × quantizations × prompts × decodings × ways to score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

from harness.config.options import Options
from harness.core import (
    DecodingSpec,
    PromptTemplate,
    Quantization,
    Strategy,
    Task,
    TrainingSettings,
)
from harness.errors import OptionError
from harness.models.adapters import check_adapter
from harness.models.fingerprint import FOUR_BIT, resolve_dtype
from harness.models.loading import check_quantization
from harness.models.sources import Source, parse_source
from harness.naming import slug
from harness.prompts.files import load_template
from harness.run.adaptations import adaptation_of
from harness.run.asked import device_of
from harness.run.case import AS_TRAINED, Case, as_suffix
from harness.run.variants import Variant, variants_of


def cases_of(
    options: Options,
    task: Task,
    strategies: Sequence[type[Strategy]],
    observed: Sequence[DecodingSpec | None],
) -> tuple[list[Case], dict[str, str]]:
    """The cases of every model and strategy, and a variant's label → its title."""
    device = device_of(options)
    dtype = resolve_dtype(options.dtype, device)
    sources = [parse_source(text) for text in options.model]
    templates = [load_template(name) for name in options.prompt]
    distinct("--prompt", [template.name for template in templates])
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
        distinct("--strategy", [variant.label for variant in variants])
        titles |= {variant.label: variant.title for variant in variants}
        cases += ways.of_model(_Model(source, name, options.loading(text)), variants)
    return cases, titles


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


def _model_names(sources: list[Source]) -> list[str]:
    distinct("--model", [f"{source.reference}@{source.revision}" for source in sources])
    short = [slug(source.name.rpartition("/")[2]) for source in sources]
    if len(set(short)) < len(short):
        short = [slug(f"{source.reference}@{source.revision}") for source in sources]
    return short


def distinct(flag: str, names: Sequence[str]) -> None:
    """See that no name stands twice.

    Raises:
        OptionError: one does.
    """
    for name, times in Counter(names).items():
        if times > 1:
            raise OptionError(f"{flag}: {name!r} stands twice; rename one, or name it once")
