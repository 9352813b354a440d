"""From a case to its cell: everything that determines its numbers, found out before any model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Generic, TypeVar

from harness.core import Cell, Example, ModelSpec, PromptTemplate, canonical, digest
from harness.errors import AdaptbenchError
from harness.models.code import GENERATION, SCORING, code_digest
from harness.models.fingerprint import FOUR_BIT, folder_digest, libraries
from harness.models.sources import Source
from harness.run.case import AS_TRAINED, Case
from harness.run.plan import Plan

T = TypeVar("T")


class _Once(Generic[T]):
    """Answers that are asked for once per model; a failure is remembered too, and raised again."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str | None], T | AdaptbenchError] = {}

    def get(self, source: Source, ask: Callable[[], T]) -> T:
        key = (source.reference, source.revision)
        if key not in self._known:
            try:
                self._known[key] = ask()
            except AdaptbenchError as error:
                self._known[key] = error
        known = self._known[key]
        if isinstance(known, AdaptbenchError):
            raise known
        return known


class Cells:
    """The cells of a plan, and what they are made of.

    Args:
        plan: what is to be measured.
        terminal: where a first-time model download shows its progress; None for nowhere.
    """

    def __init__(self, plan: Plan, terminal: IO[str] | None = None) -> None:
        self.plan = plan
        self.terminal = terminal
        self._digests: _Once[str] = _Once()
        self._folders: _Once[Path] = _Once()
        self._cells: dict[str, Cell] = {}
        self._trained: dict[str, tuple[ModelSpec, str]] = {}
        self._libraries: dict[tuple[bool, bool], tuple[tuple[str, str], ...]] = {}
        self._contents: dict[Example, str] = {}

    def cell(self, case: Case) -> Cell:
        """Return the case with everything that determines its number found out.

        Raises:
            AdaptbenchError: the model or the adapter cannot be read.
        """
        if case.id not in self._cells:
            self._cells[case.id] = self._make(case)
        return self._cells[case.id]

    def spec(self, case: Case) -> ModelSpec:
        """The case's model, before any training."""
        adapter = case.adapter
        four_bit = case.quantization in FOUR_BIT
        return ModelSpec(
            name=case.source.name,
            digest=self.model_digest(case),
            quantization=case.quantization,
            dtype=case.dtype,
            device=case.device,
            revision=case.source.revision,
            adapter=str(adapter) if adapter else None,
            adapter_digest=folder_digest(adapter) if adapter else None,
            double_quant=case.settings.bnb_4bit_use_double_quant or not four_bit,
            compute_dtype=case.settings.bnb_4bit_compute_dtype if four_bit else "auto",
            score_as=case.score_as,
            gpus=self.plan.options.gpus_per_model if case.device == "cuda" else 1,
        )

    def model_digest(self, case: Case) -> str:
        """Return what stands for the bytes of the case's model, asking for it once.

        Raises:
            ModelError: it cannot be read, or the hub cannot be asked.
        """
        return self._digests.get(case.source, lambda: case.source.digest)

    def folder(self, case: Case) -> Path:
        """The files of the case's model, fetched if they are not here yet.

        Raises:
            ModelError: they cannot be had.
        """
        return self._folders.get(case.source, lambda: case.source.folder(self.terminal))

    def trained(self, case: Case) -> tuple[ModelSpec, str]:
        """The model that a case trains an adapter on, however that is scored; the adapter's key."""
        if case.id not in self._trained:
            spec = replace(self.spec(case), score_as=AS_TRAINED)
            versions = self._versions(spec.quantization != "none", True)
            key = self._training_digest(case, spec, versions)
            assert key is not None
            self._trained[case.id] = spec, key
        return self._trained[case.id]

    def _make(self, case: Case) -> Cell:
        spec, strategy, task = self.spec(case), case.strategy, self.plan.task
        demonstrations = self.plan.demonstrations(case)
        versions = self._versions(
            spec.quantization != "none", spec.adapter is not None or case.training is not None
        )
        answers = case.decoding is not None
        code = code_digest(GENERATION if answers else SCORING)
        return Cell(
            id=case.id,
            task=task.name,
            strategy=strategy.name,
            label=case.label,
            prompt=case.template.name,
            k=max(map(len, demonstrations)),
            select=getattr(strategy, "select", None),
            draw=strategy.draw,
            seed=case.seed,
            n=len(task.examples),
            model=spec,
            task_digest=task.questions_digest if answers else task.digest,
            prompt_digest=_prompt_digest(case.template),
            demonstrations_digest=self._shown_digest(demonstrations),
            training_digest=self._training_digest(case, spec, versions),
            decoding=case.decoding,
            judge=None,
            scorer=None if answers else self.plan.options.scorer,
            libraries=(*versions, ("adaptbench", code)),
        )

    def _versions(self, quantized: bool, adapted: bool) -> tuple[tuple[str, str], ...]:
        """The libraries that take part, looked up once: that reads files."""
        if (quantized, adapted) not in self._libraries:
            found = libraries(quantized=quantized, adapted=adapted)
            self._libraries[quantized, adapted] = found
        return self._libraries[quantized, adapted]

    def _shown_digest(self, demonstrations: Sequence[tuple[Example, ...]]) -> str:
        """The digest of each test row's demonstrations, most of which many rows share."""
        texts = {
            id(shown): f"[{','.join(map(self._content, shown))}]"
            for shown in {id(one): one for one in demonstrations}.values()
        }
        whole = f"[{','.join(texts[id(shown)] for shown in demonstrations)}]"
        return hashlib.sha256(whole.encode("utf-8")).hexdigest()

    def _content(self, example: Example) -> str:
        if example not in self._contents:
            self._contents[example] = canonical(example.content)
        return self._contents[example]

    def _training_digest(
        self, case: Case, spec: ModelSpec, versions: tuple[tuple[str, str], ...]
    ) -> str | None:
        if case.training is None:
            return None
        from harness.training.cache import adapter_key

        return adapter_key(spec, case.template, case.training, versions, self.plan.evaluation_rows)


def _prompt_digest(template: PromptTemplate) -> str:
    return digest([template.preamble, template.demonstration, template.query, template.chat])
