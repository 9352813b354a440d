"""The measurement of a case, from the store or computed.

This is the harness without pytest. A script can do what a session does::

    bench = Bench(make_plan(parse_options({"strategy": "zeroshot", "limit": "8"})))
    for case in bench.plan.cases:
        result = bench.measure(case)
        print(case.id, [seen.nll for seen in result.measurement.likelihoods])
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING

from harness import __version__
from harness.core import Cell, ModelSpec
from harness.models.fingerprint import hardware, version
from harness.records import (
    Measurement,
    Precision,
    Provenance,
    TrainingRecord,
)
from harness.results.remote import remote_of
from harness.results.store import Store
from harness.run.case import Case, Judging
from harness.run.cells import Cells
from harness.run.choice import Choice, aside, choose
from harness.run.elsewhere import Engine
from harness.run.examining import Examining
from harness.run.given import is_given, measure_given
from harness.run.judges import Judges
from harness.run.jurors import Jurors
from harness.run.observing import PRECISION_ROWS, doubted, observe
from harness.run.plan import Plan
from harness.run.progress import silent

if TYPE_CHECKING:
    from harness.config.options import Options
    from harness.models.encoding import Encoded
    from harness.models.loading import LoadedModel
    from harness.models.pool import ModelPool
    from harness.training.gathering import Siblings

Progress = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class Result:
    """What measuring a case gave, and whether all of it came from the store."""

    measurement: Measurement
    cached: bool


class Bench:
    """Measures cases, keeping the model between them and every result in the store.

    Args:
        plan: what to measure.
        terminal: where a first-time model download shows its progress; None for nowhere.
        workers: how many processes share this machine's cores.
        beside: another one, whose model in hand this one uses.
    """

    def __init__(
        self,
        plan: Plan,
        terminal: IO[str] | None = None,
        workers: int = 1,
        beside: Bench | None = None,
    ) -> None:
        self.plan = plan
        self._beside = beside
        self.workers = workers
        self.store: Store = _store(plan.options) if beside is None else beside.store
        self.terminal = terminal
        self.cells = Cells(plan, terminal)
        self.wanted: Sequence[Case] = plan.cases  # what the run measures
        self._engine: Engine | None = None
        self._others: Siblings | None = None
        self._computed: set[str] = set()
        self._pool: ModelPool | None = None
        self._precisions: dict[ModelSpec, Precision] = {}

    @property
    def engine(self) -> Engine | None:
        """What computes cells somewhere else; None: nothing does."""
        return self._engine if self._beside is None else self._beside.engine

    @engine.setter
    def engine(self, engine: Engine | None) -> None:
        self._engine = engine

    def cell(self, case: Case) -> Cell:
        """:meth:`Cells.cell <harness.run.cells.Cells.cell>` of this plan.

        Of a decoding that is still to be chosen there is none: see :meth:`choice`.
        """
        return self.cells.cell(case)

    def spec(self, case: Case) -> ModelSpec:
        """:meth:`Cells.spec <harness.run.cells.Cells.spec>` of this plan."""
        return self.cells.spec(case)

    def model_digest(self, case: Case) -> str:
        """:meth:`Cells.model_digest <harness.run.cells.Cells.model_digest>` of this plan."""
        return self.cells.model_digest(case)

    def folder(self, case: Case) -> Path:
        """:meth:`Cells.folder <harness.run.cells.Cells.folder>` of this plan."""
        return self.cells.folder(case)

    def stored(self, case: Case) -> Measurement | None:
        """Return what the store has of this case, computing nothing."""
        if case.judging is not None:
            ours, other = (
                None if one is None else self.stored(one)
                for one in (case.judging.answered, case.judging.other)
            )
            if ours is None or (other is None and case.against):
                return None
            cell = self.judges.cell(case, (ours, other))
            return None if cell is None else self.store.get(cell)
        if case.candidates:
            choice = self.choice(case)
            return None if choice is None else self.store.get(self.cell(choice.of(case)))
        return self.store.get(self.cell(case))

    @cached_property
    def judges(self) -> Judges:
        """Rates answers and compares them."""
        return Judges(self.plan, self.jurors)

    @cached_property
    def examining(self) -> Examining:
        """Examines judges before they are believed."""
        return Examining(self.plan, self.jurors, self.store)

    @cached_property
    def jurors(self) -> Jurors:
        """Asks judges."""
        return Jurors(self.plan, self.cells, self.store, lambda: self.pool)

    def choice(self, case: Case) -> Choice | None:
        """The decoding that held-out rows choose, if the store has all of their answers."""
        return choose(case, self.plan, self.aside.stored)

    @cached_property
    def aside(self) -> Bench:
        """Measures held-out rows."""
        return Bench(aside(self.plan), self.terminal, self.workers, beside=self)

    def measure(self, case: Case, progress: Progress = silent) -> Result:
        """Return the case's measurement: the stored one, or a new one, which is then stored.

        Raises:
            AdaptbenchError: the model, prompt, training run or a file is at fault, in one line.
        """
        if case.judging is not None:
            return self._rated(case, case.judging, progress)
        if case.candidates:
            return self._chosen(case, progress)
        cell = self.cell(case)
        engine = None if is_given(case) else self.engine
        # Of what an engine computes for this run, the store may know before it is asked for here.
        if engine is None or cell.key in self._computed or not engine.expects(cell):
            known = self.known(case, cell)
            if known is not None:
                return Result(known, cached=True)
        if engine is not None:
            measurement = engine.measure(self, case, cell, progress)
        else:
            measurement = self._here(case, cell, progress)
            self.store.put(measurement)
        self._computed.add(cell.key)
        return Result(measurement, cached=False)

    def known(self, case: Case, cell: Cell) -> Measurement | None:
        """What the store has of a cell, as far as this run may take it from there."""
        if self.plan.options.fresh and cell.key not in self._computed:
            return None
        known = self.store.get(cell)
        times = self.plan.options.repeat_scoring if case.decoding is None else 1
        return known if known is not None and known.scoring.times >= times else None

    def _here(self, case: Case, cell: Cell, progress: Progress) -> Measurement:
        if is_given(case):
            return measure_given(case, cell, self.plan.task)
        return self.compute(case, cell, progress)

    def _rated(self, case: Case, judging: Judging, progress: Progress) -> Result:
        """The answers of a case, written if need be, and what the judge says of them."""
        results = [self.measure(one, progress) for one in (judging.answered, judging.other) if one]
        cached = all(result.cached for result in results)
        ours, other = ([result.measurement for result in results] + [None])[:2]
        assert ours is not None
        # What stands behind an endpoint is asked for by every run, before anything stored is used.
        self.examining.examine(case, judging, progress)
        cell = self.judges.cell(case, (ours, other))
        assert cell is not None
        known = self.known(case, cell)
        if known is not None:
            self.judges.check(case, known.observations)
            return Result(known, cached)
        measurement = self.judges.judge(case, cell, (ours, other), progress)
        self.store.put(measurement)
        self._computed.add(cell.key)
        return Result(measurement, cached=False)

    def _chosen(self, case: Case, progress: Progress) -> Result:
        """Let every candidate write for the held-out rows, and the best for the test rows."""
        cached = []

        def measured(one: Case) -> Measurement:
            result = self.aside.measure(one, progress)
            cached.append(result.cached)
            return result.measurement

        choice = choose(case, self.plan, measured)
        assert choice is not None
        result = self.measure(choice.of(case), progress)
        return Result(result.measurement, result.cached and all(cached))

    def close(self) -> None:
        """Let go of the model in hand."""
        if self._pool is not None:
            self._pool.clear()

    @property
    def pool(self) -> ModelPool:
        """The model in hand; asking for the pool imports torch."""
        from harness.models.loading import share_cores
        from harness.models.pool import ModelPool

        if self._beside is not None:
            return self._beside.pool
        if self._pool is None:
            share_cores(self.workers)
            # Where nothing is trained, one base has one adapter at most.
            trains = any(case.training is not None for case in self.plan.cases)
            self._pool = ModelPool(reuse=trains)
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
        from harness.prompts.rendering import messages, remembering, render

        encoder = self.pool.encoder(self.spec(case), self.folder(case))
        chat = remembering(encoder.chat, {} if skeletons is None else skeletons)
        found = []
        pairs = zip(self.plan.task.examples, self.plan.demonstrations(case), strict=True)
        for example, shown in pairs:
            row = encoder.encode(render(case.template, example, shown, chat))
            if case.template.chat:
                encoder.compare(messages(case.template, example, shown), row)
            found.append(row)
        return found

    def compute(self, case: Case, cell: Cell, progress: Progress) -> Measurement:
        """Compute a cell here and now, whatever the store has; nothing is stored but adapters.

        Raises:
            AdaptbenchError: the model, prompt, training run or a file is at fault, in one line.
        """
        from harness.models.memory import peak_memory, reset_peak

        # Of the model, so not on the cell's clock.
        precision = self._precision(case, progress) if case.decoding is None else None
        started = time.perf_counter()
        reset_peak(case.device)
        # All rows are encoded before anything is trained or computed: a row that does not fit
        # costs nothing.
        skeletons: dict[str, str] = {}
        rows = self.rows(case, skeletons)
        loaded, training = self._load(case, cell, progress)
        observed = observe(self.plan.options, case, loaded, rows, progress)
        # What the cell took is what its observations took.
        seconds, peak = round(time.perf_counter() - started, 3), peak_memory(case.device)
        observed = doubted(self.plan.options, case, loaded, rows, observed, progress)
        chat = "chat template's" if case.template.chat else loaded.encoder.prefix_kind
        return Measurement(
            cell=cell,
            observations=observed.seen,
            skeletons=skeletons,
            warnings=_warnings(loaded, rows),
            seconds=seconds,
            provenance=self._provenance(case, chat),
            training=training,
            scoring=replace(observed.scoring, precision=precision),
            writing=observed.writing,
            peak_memory_bytes=peak,
        )

    def _load(
        self, case: Case, cell: Cell, progress: Progress
    ) -> tuple[LoadedModel, TrainingRecord | None]:
        """The model that the cell scores, with its adapter, which is trained first if need be."""
        base, spec, adapter, training = self.folder(case), cell.model, case.adapter, None
        if case.training is not None:
            adapter, training = self.train(case, cell, base, progress)
            spec = replace(spec, adapter_digest=cell.training_digest)
        progress(case.short, 0, 0, "loading the model")
        return self.pool.get(spec, base, adapter), training

    def train(
        self, case: Case, cell: Cell, base: Path, progress: Progress
    ) -> tuple[Path, TrainingRecord]:
        """Return the adapter of a case that trains one, which is trained unless the store has it.

        Raises:
            AdaptbenchError: the model, a row or the training run is at fault.
        """
        from harness.results.adapter_files import read_record
        from harness.training.cache import train_once

        assert case.training is not None
        assert cell.training_digest is not None
        self.pool.leave(cell.model)
        progress(case.short, 0, 0, "loading the model to train")
        folder = train_once(
            self.store.adapters / cell.training_digest[:16],
            replace(cell.model, score_as="trained"),  # scoring only
            base,
            case.template,
            case.training,
            lambda step, steps, note: progress(case.short, step, steps, note),
            self.plan.evaluation_rows,
            self.store.remote,
            self._siblings(case),
            self.pool,
        )
        return folder, read_record(folder)

    def _siblings(self, case: Case) -> Siblings:
        """What this run wants to be trained beside a case's adapter, and knows of it."""
        from harness.run.siblings import siblings_of
        from harness.training.gathering import Siblings

        if self._beside is not None:
            return self._beside._siblings(case)
        if self._others is None:
            self._others = Siblings()
        self._others.wanted = siblings_of(
            case, self.wanted, self.cells.trained, self.store.adapters
        )
        return self._others

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


def _store(options: Options) -> Store:
    folder = options.results_dir
    return Store(folder, remote_of(options.results_url, folder))


def _warnings(loaded: LoadedModel, rows: list[Encoded]) -> tuple[str, ...]:
    """What a reader of the cell's numbers has to know of model, adapter, template and tokenizer."""
    encoder = loaded.encoder
    return tuple(dict.fromkeys((*loaded.warnings, *encoder.warnings, *encoder.unwritable(rows))))
