"""A run: from a case to its measurement, from the store or computed.

This is the harness without pytest. A script can do what a session does::

    bench = Bench(make_plan(parse_options({"strategy": "zeroshot", "limit": "8"})))
    for case in bench.plan.cases:
        result = bench.measure(case)
        print(case.id, summarize(result.measurement.observations).mean_perplexity)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from harness import __version__
from harness.core import Cell, ModelSpec, digest
from harness.errors import AdaptbenchError
from harness.models.code import GENERATION, SCORING, code_digest
from harness.models.fingerprint import (
    FOUR_BIT,
    folder_digest,
    hardware,
    libraries,
    version,
)
from harness.records import Measurement, Precision, Provenance, TrainingRecord
from harness.results.store import Store
from harness.run.plan import Case, Plan
from harness.run.progress import silent

if TYPE_CHECKING:
    from harness.models.encoding import Encoded
    from harness.models.loading import ModelPool

Progress = Callable[[str, int, int, str], None]
PRECISION_ROWS = 8  # rows on which half precision is compared with float32


@dataclass(frozen=True)
class Result:
    """What measuring a case gave, and whether it came from the store."""

    measurement: Measurement
    cached: bool


class Bench:
    """Measures cases, keeping the model between them and every result in the store.

    Args:
        plan: what to measure.
        terminal: where a first-time model download shows its progress; None for nowhere.
        workers: how many processes share this machine's cores.
    """

    def __init__(self, plan: Plan, terminal: IO[str] | None = None, workers: int = 1) -> None:
        self.plan = plan
        self.workers = workers
        self.store = Store(plan.options.results_dir)
        self.terminal = terminal
        self._digests: dict[tuple[str, str | None], str | AdaptbenchError] = {}
        self._folders: dict[tuple[str, str | None], Path | AdaptbenchError] = {}
        self._cells: dict[str, Cell] = {}
        self._computed: set[str] = set()
        self._pool: ModelPool | None = None
        self._precisions: dict[ModelSpec, Precision] = {}

    def cell(self, case: Case) -> Cell:
        """Return the case with everything that determines its number found out.

        Raises:
            AdaptbenchError: the model or the adapter cannot be read.
        """
        if case.id not in self._cells:
            self._cells[case.id] = self._make_cell(case)
        return self._cells[case.id]

    def stored(self, case: Case) -> Measurement | None:
        """Return what the store has of this case, computing nothing."""
        return self.store.get(self.cell(case))

    def measure(self, case: Case, progress: Progress = silent) -> Result:
        """Return the case's measurement: the stored one, or a new one, which is then stored.

        Raises:
            AdaptbenchError: a model, prompt, training or file problem, in one line.
        """
        cell = self.cell(case)
        if not self.plan.options.fresh or cell.key in self._computed:
            known = self.store.get(cell)
            if known is not None and known.scoring.times >= self.plan.options.repeat_scoring:
                return Result(known, cached=True)
        measurement = self._compute(case, cell, progress)
        self.store.put(measurement)
        self._computed.add(cell.key)
        return Result(measurement, cached=False)

    def close(self) -> None:
        """Let go of the model in hand."""
        if self._pool is not None:
            self._pool.clear()

    def _make_cell(self, case: Case) -> Cell:
        training, template = case.training, case.template
        generation = self.plan.options.generation
        spec = self.spec(case)
        demonstrations = self.plan.demonstrations(case)
        versions = libraries(
            quantized=spec.quantization != "none",
            adapted=spec.adapter is not None or training is not None,
        )
        training_digest = None
        if training is not None:
            from harness.training.cache import adapter_key

            training_digest = adapter_key(
                spec, template, training, versions, self.plan.task.examples
            )
        return Cell(
            id=case.id,
            task=self.plan.task.name,
            strategy=case.strategy.name,
            label=case.label,
            prompt=template.name,
            k=max(map(len, demonstrations)),
            select=getattr(case.strategy, "select", None),
            draw=case.strategy.draw,
            seed=case.seed,
            n=len(self.plan.task.examples),
            model=spec,
            task_digest=self.plan.task.digest,
            prompt_digest=digest(
                [template.preamble, template.demonstration, template.query, template.chat]
            ),
            demonstrations_digest=digest(
                [[example.content for example in shown] for shown in demonstrations]
            ),
            training_digest=training_digest,
            generation_digest=(
                digest([asdict(generation), code_digest(GENERATION)]) if generation.rows else None
            ),
            scorer=self.plan.options.scorer,
            libraries=(*versions, ("adaptbench", code_digest(SCORING))),
        )

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
        )

    def model_digest(self, case: Case) -> str:
        """Return what stands for the bytes of the case's model, asking for it once.

        Raises:
            ModelError: it cannot be read, or the hub cannot be asked.
        """
        value: str = self._once(self._digests, case, lambda: case.source.digest)
        return value

    def _once(self, memory: dict[Any, Any], case: Case, ask: Callable[[], Any]) -> Any:
        """Ask once per model; a failure is remembered too, so that no cell waits for it again."""
        key = (case.source.reference, case.source.revision)
        if key not in memory:
            try:
                memory[key] = ask()
            except AdaptbenchError as error:
                memory[key] = error
        if isinstance(memory[key], AdaptbenchError):
            raise memory[key]
        return memory[key]

    def folder(self, case: Case) -> Path:
        """The files of the case's model, fetched if they are not here yet."""
        folder: Path = self._once(self._folders, case, lambda: case.source.folder(self.terminal))
        return folder

    @property
    def pool(self) -> ModelPool:
        """The model in hand; asking for the pool imports torch."""
        from harness.models.loading import ModelPool, share_cores

        if self._pool is None:
            share_cores(self.workers)
            self._pool = ModelPool()
        return self._pool

    def rows(self, case: Case, skeletons: dict[str, str] | None = None) -> list[Encoded]:
        """The case's test rows as token ids.

        Args:
            case: what is asked for.
            skeletons: where the chat template's answers to markers are kept.

        Raises:
            ModelError: the tokenizer cannot be loaded.
            PromptError: a row does not fit the model.
        """
        from harness.prompts.rendering import remembering, render

        encoder = self.pool.encoder(self.spec(case), self.folder(case))
        chat = remembering(encoder.chat, {} if skeletons is None else skeletons)
        return [
            encoder.encode(render(case.template, example, shown, chat))
            for example, shown in zip(
                self.plan.task.examples, self.plan.demonstrations(case), strict=True
            )
        ]

    def _compute(self, case: Case, cell: Cell, progress: Progress) -> Measurement:
        from harness.generation.generate import generate
        from harness.models.memory import peak_memory, reset_peak
        from harness.scoring.score import repeat, score

        precision = self._precision(case, progress)  # of the model, so not on the cell's clock
        started = time.perf_counter()
        reset_peak(case.device)
        base, adapter, training = self.folder(case), case.adapter, None
        spec = cell.model
        # All rows are encoded before anything is trained or scored: a row that does not fit
        # costs nothing.
        skeletons: dict[str, str] = {}
        rows = self.rows(case, skeletons)
        if case.training is not None:
            adapter, training = self._train(case, cell, base, progress)
            spec = replace(spec, adapter_digest=cell.training_digest)
        progress(case.short, 0, 0, "loading the model")
        loaded = self.pool.get(spec, base, adapter)
        total = len(rows)
        scores, how = score(
            loaded, rows, cell.scorer, lambda done: progress(case.short, done, total, "rows")
        )
        # What the cell took is what its numbers took.
        seconds, peak = round(time.perf_counter() - started, 3), peak_memory(case.device)
        times = self.plan.options.repeat_scoring
        if times > 1:
            repetition = repeat(
                loaded,
                rows,
                cell.scorer,
                scores,
                times,
                lambda done: progress(case.short, done, total, "rows again"),
            )
            how = replace(how, repetition=repetition)
        writing = self.plan.options.generation
        samples = generate(
            loaded,
            rows[: writing.rows],
            writing,
            case.seed or 0,
            lambda done: progress(case.short, done, min(writing.rows, total), "answers written"),
        )
        return Measurement(
            cell=cell,
            observations=scores,
            samples=samples,
            skeletons=skeletons,
            seconds=seconds,
            provenance=self._provenance(case, loaded.encoder.prefix_kind),
            training=training,
            scoring=replace(how, precision=precision),
            peak_memory_bytes=peak,
        )

    def _train(
        self, case: Case, cell: Cell, base: Path, progress: Progress
    ) -> tuple[Path, TrainingRecord]:
        from harness.results.adapter_files import read_record
        from harness.training.cache import train_once

        assert case.training is not None
        assert cell.training_digest is not None
        self.pool.clear()
        progress(case.short, 0, 0, "loading the model to train")
        folder = train_once(
            self.store.adapters / cell.training_digest[:16],
            replace(cell.model, score_as="trained"),  # scoring only
            base,
            case.template,
            case.training,
            lambda step, steps, note: progress(case.short, step, steps, note),
            self.plan.task.examples,
        )
        return folder, read_record(folder)

    def _precision(self, case: Case, progress: Progress) -> Precision | None:
        """What half precision costs this model, on the first rows without demonstrations.

        Measured once per base, without an adapter; None for float32.
        """
        from harness.prompts.rendering import render
        from harness.scoring.precision import precision

        spec = replace(self.spec(case), adapter=None, adapter_digest=None)
        if spec.dtype == "float32":
            return None
        if spec not in self._precisions:
            progress(case.short, 0, 0, f"comparing {spec.dtype} with float32")
            base = self.folder(case)
            encoder = self.pool.encoder(spec, base)
            rows = [
                encoder.encode(render(case.template, example, (), encoder.chat))
                for example in self.plan.task.examples[:PRECISION_ROWS]
            ]
            self._precisions[spec] = precision(self.pool, spec, base, rows)
        return self._precisions[spec]

    def _provenance(self, case: Case, prefix: str) -> Provenance:
        from harness.models.kernels import use_exact_kernels

        return Provenance(
            adaptbench=__version__,
            prefix_token=prefix,
            pool_digest=self.plan.task.pool_digest,
            matmul=use_exact_kernels() if case.device == "cpu" else "torch default",
            versions={
                name: version(name)
                for name in ("torch", "transformers", "tokenizers", "peft", "bitsandbytes")
            },
            hardware=hardware(case.device),
        )
