"""What is left of a run as jobs: cells and training runs, each with all that it computes, counted.

Tokens are counted with the model's tokenizer. Of rows with demonstrations few are encoded: what
comes before a row's own words has the same length for every row that is shown the same.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.core import Cell, Example, ModelSpec, TrainingSpec
from harness.models.adapters import read_config
from harness.models.encoding import Encoder
from harness.models.hand import bare, is_reusable
from harness.models.sources import Source
from harness.prompts.rendering import render
from harness.results.adapter_files import is_complete
from harness.run import workload
from harness.run.bench import Bench
from harness.run.case import AS_TRAINED, Case
from harness.run.forecast import Counts, Job, Way
from harness.run.outstanding import Known, missing
from harness.run.shape import Shape, Usual, read_shape, small_folder
from harness.run.workload import Rows
from harness.scoring.batches import common_prefix
from harness.training.together import is_joint, kind_of

DRAWN = 8  # rows that are encoded where each has demonstrations of its own
STATES = 16  # bytes of a trained weight: itself, its gradient, and what the optimizer keeps
AGAIN = 8  # rows that are written alone, to compare, in half precision
# What allocators leave in holes: for each byte of activations that training keeps and of keys that
# beams move, and of files that are quantized. Measured with glibc, on SmolLM2-135M.
HOLES = 1.6
PACKING = 0.5


@dataclass
class _Held:
    """The model that a run has in hand, as far as that matters to what comes next.

    Attributes:
        name: of the model with its adapter; empty before the first, and after training.
        base: under its adapter, where another one can be put onto it; None where none can.
        sentinel: the row that is scored again after every cell: (its length, its answer's).
        checked: the longest prefix that rows were seen to share rightly.
    """

    name: str = ""
    base: ModelSpec | None = None
    sentinel: tuple[int, int] | None = None
    checked: int = 0


@dataclass
class Counter:
    """Counts what is left of a run.

    Attributes:
        bench: of the run.
        usual: what the work of each way looks like, once jobs are counted.
    """

    bench: Bench
    usual: dict[Way, Usual] = field(default_factory=dict)
    _held: _Held = field(default_factory=_Held)
    _shapes: dict[str, tuple[Path, Shape]] = field(default_factory=dict)
    _rows: dict[tuple[object, ...], Rows] = field(default_factory=dict)
    _most: dict[Way, float] = field(default_factory=dict)

    def jobs(self, cases: Iterable[Case], known: Known) -> Iterator[tuple[str, Job]]:
        """The jobs of these cases that the store has not, each with its key, in their order.

        Raises:
            ModelError: a model's configuration or tokenizer cannot be had.
            PromptError: a chat template refuses the rows.
        """
        left: dict[str, tuple[Bench, Case, Cell]] = {}
        adapters: dict[str, Hashable] = {}
        for place, case, cell in missing(self.bench, cases, known):
            left.setdefault(cell.key, (place, case, cell))
            digest = cell.training_digest
            if digest and not is_complete(self.bench.store.adapters / digest[:16]):
                adapters.setdefault(digest, _batch_of(case, cell))
        sizes = collections.Counter(adapters.values())
        for key, (place, case, cell) in left.items():
            digest = cell.training_digest
            if digest in adapters:
                yield digest, self._training(place, case, cell, sizes[adapters.pop(digest)])
            yield key, self._cell(place, case, cell)

    # -------------------------------------------------------------------------------- cells

    def _cell(self, place: Bench, case: Case, cell: Cell) -> Job:
        folder, shape = self.shape(place, case)
        rows = self.rows(place, case)
        read = _way(cell.model, _rank(case))
        loads = self._load(cell, read)
        if case.decoding is not None:
            return self._answers(case, cell, rows, (folder, shape), loads)
        options = place.plan.options
        scorer = "reference" if read.quantization == "int8" else options.scorer
        found = workload.read(rows, shape.vocabulary, case.device, scorer)
        counts = found.counts.times(max(1, options.repeat_scoring))
        counts += self._sentinel(rows)
        if scorer == "fast" and rows.prefix > self._held.checked:
            self._held.checked = rows.prefix
            counts += workload.checks(rows)
        self._use(read, folder, shape, counts, rows)
        memory = _loaded(shape, read) + found.kept * shape.kept(read.dtype)
        each = workload.layer_bytes(found.width, shape, read.dtype)
        each += workload.logits_bytes(found.logits, shape, read.dtype, case.device)
        batches = found.batches if case.device == "cpu" else 1
        work = ((read, counts),)
        return Job(case.label, case.seed, work, loads, memory, each, batches, k=cell.k)

    def _answers(
        self,
        case: Case,
        cell: Cell,
        rows: Rows,
        model: tuple[Path, Shape],
        loads: tuple[tuple[Way, int], ...],
    ) -> Job:
        """A cell that holds answers: at most what it takes, since they may end before the limit."""
        folder, shape = model
        decoding = case.decoding
        assert decoding is not None
        found = workload.write(rows, decoding, shape, case.dtype, case.device)
        read = _way(cell.model, _rank(case))
        # 4-bit weights are decoded once for all of them, where they fit.
        write = replace(read, kind="write", quantization="none", decoding=decoding)
        counts = found.counts
        if case.dtype != "float32":
            alone = AGAIN * counts.tokens / max(1, len(rows.contexts))
            counts += Counts(alone, alone, alone * max(rows.contexts), alone)
        self._use(read, folder, shape, found.read.counts, rows)
        self._use(write, folder, shape, counts, rows)
        # Beams move their keys at every step, into memory of other sizes.
        kept = found.kept * (1 + HOLES if decoding.num_beams > 1 else 1)
        memory = (
            _loaded(shape, read)
            + (shape.weights("none", "float32") if read.quantization != "none" else 0.0)
            + max(kept, workload.layer_bytes(found.read.width, shape, read.dtype))
            + 3 * 4.0 * found.rows * shape.vocabulary
        )
        work = ((read, found.read.counts), (write, counts))
        return Job(case.label, case.seed, work, loads, memory, bounded=True, k=cell.k)

    def _load(self, cell: Cell, way: Way) -> tuple[tuple[Way, int], ...]:
        """How often a base is loaded for a cell: not where it is in hand."""
        spec = cell.model
        parts = (spec.digest, spec.quantization, spec.dtype, spec.adapter_digest, spec.score_as)
        name = repr((*parts, cell.training_digest))
        if self._held.name == name:
            return ()
        loaded = self._held.base != bare(spec)
        self._held = _Held(name, self._kept(spec))
        if way.dtype == "float32":
            return ((way, 1),) if loaded else ()
        return ((way, 2),)  # in half precision, the base is loaded in float32 too, to compare

    def _kept(self, spec: ModelSpec) -> ModelSpec | None:
        """The base that stays in hand when an adapter is taken off; None where none does."""
        trains = any(case.training is not None for case in self.bench.plan.cases)
        return bare(spec) if trains and is_reusable(spec) else None

    def _sentinel(self, rows: Rows) -> Counts:
        first = self._held.sentinel is None
        if self._held.sentinel is None:
            self._held.sentinel = rows.lengths[0], rows.answers[0]
        return workload.whole(*self._held.sentinel).times(2 if first else 1)

    # ----------------------------------------------------------------------------- training

    def _training(self, place: Bench, case: Case, cell: Cell, beside: int) -> Job:
        """An adapter that is trained, in one batch with so many as may be, itself counted."""
        training = case.training
        assert training is not None
        folder, shape = self.shape(place, case)
        settings = training.settings
        encoder = place.pool.encoder(replace(place.spec(case), adapter=None), folder)
        rows = self._plain(encoder, case, training.examples)
        found = workload.train(training, rows, encoder.max_length, case.device)
        read = _way(cell.model, settings.r)
        train = replace(read, kind="train", recomputed=settings.gradient_checkpointing)
        sharing = min(beside, settings.together)  # adapters that share each forward
        trained = replace(found.counts, calls=found.counts.calls / sharing)
        work = [(train, trained)]
        self._use(train, folder, shape, trained, rows)
        times = workload.evaluations(settings, found.steps)
        if times:
            evaluated = self._evaluated(place, case, training, encoder)
            counts = sum(
                (workload.read(one, shape.vocabulary, case.device).counts for one in evaluated),
                Counts(),
            ).times(times)
            self._use(read, folder, shape, counts, evaluated[0])
            work.append((read, counts))
        loads = ((read, 1),) if self._held.base != bare(cell.model) else ()
        # Layers that compute activations again are not put onto anything else.
        kept = None if settings.gradient_checkpointing else self._kept(cell.model)
        self._held = _Held(base=kept)
        ranks = settings.r * shape.layers * 7 * 2 * shape.hidden * 1.5
        memory = _loaded(shape, read)
        memory += sharing * (STATES * ranks + 3 * 4.0 * found.logits * shape.vocabulary)
        tokens = float(sharing * found.largest)
        if case.device == "cpu":
            tokens *= HOLES
            memory += PACKING * (shape.file or 0) if read.quantization != "none" else 0.0
        return Job(case.label, case.seed, tuple(work), loads, memory, kept=tokens, training=True)

    def _evaluated(
        self, place: Bench, case: Case, training: TrainingSpec, encoder: Encoder
    ) -> list[Rows]:
        """What is scored at every evaluation."""
        parts = (place.plan.evaluation_rows, training.holdout)
        return [self._plain(encoder, case, part) for part in parts if part]

    # --------------------------------------------------------------------------------- rows

    def rows(self, place: Bench, case: Case) -> Rows:
        """The lengths of a case's rows, with what is shown before them."""
        examples, shown = place.plan.task.examples, place.plan.demonstrations(case)
        encoder = place.pool.encoder(place.spec(case), self.shape(place, case)[0])
        plain = self._plain(encoder, case, examples)
        if case.strategy.draw != "row":
            if not shown[0]:
                return plain
            more = self._length(encoder, case, examples[0], shown[0]) - plain.contexts[0]
            return Rows(tuple(n + more for n in plain.contexts), plain.answers, plain.shared + more)
        step = max(1, len(examples) // DRAWN)
        some = [
            self._length(encoder, case, examples[at], shown[at]) - plain.contexts[at]
            for at in range(0, len(examples), step)
        ]
        contexts = [n + some[at % len(some)] for at, n in enumerate(plain.contexts)]
        return Rows(tuple(contexts), plain.answers)

    @staticmethod
    def _length(encoder: Encoder, case: Case, example: Example, shown: Sequence[Example]) -> int:
        prompt = render(case.template, example, shown, encoder.chat)
        return len(encoder.encode(prompt, limited=False).context)

    def _plain(self, encoder: Encoder, case: Case, examples: Sequence[Example]) -> Rows:
        """The lengths of rows without demonstrations; encoded once for every model and prompt."""
        key = (id(encoder), case.template, id(examples))
        if key not in self._rows:
            found = [
                encoder.encode(render(case.template, one, (), encoder.chat), limited=False)
                for one in examples
            ]
            self._rows[key] = Rows(
                tuple(len(row.context) for row in found),
                tuple(len(row.answer) for row in found),
                common_prefix(found) if len(found) > 1 else 0,
            )
        return self._rows[key]

    def shape(self, place: Bench, case: Case) -> tuple[Path, Shape]:
        """The folder of a model's configuration and tokenizer, and what it says."""
        return self.shape_of(case.source, lambda: place.folder(case))

    def shape_of(self, source: Source, whole: Callable[[], Path]) -> tuple[Path, Shape]:
        """The same of a model by its source; ``whole`` fetches all of its files."""
        name = f"{source.reference} {source.revision}"
        if name not in self._shapes:
            folder = small_folder(source, whole)
            self._shapes[name] = folder, read_shape(f"--model={source.name}", folder)
        return self._shapes[name]

    def _use(self, way: Way, folder: Path, shape: Shape, counts: Counts, rows: Rows) -> None:
        """Note what the work of a way looks like; of several, the one with most tokens counts."""
        if counts.tokens <= self._most.get(way, 0.0):
            return
        self._most[way] = counts.tokens
        lengths = sorted(rows.lengths)
        width = lengths[len(lengths) // 2] - rows.prefix
        seen = counts.pairs / counts.tokens
        before = seen if way.kind == "write" else max(0.0, seen - width / 2)
        self.usual[way] = Usual(folder, shape, counts.tokens / counts.calls, width, before)


def _batch_of(case: Case, cell: Cell) -> Hashable:
    """Equal for adapters that may be trained in one batch."""
    training = case.training
    assert training is not None
    if not is_joint(cell.model, training.settings):
        return cell.training_digest
    return case.source, case.template, bare(cell.model), kind_of(training.settings)


def _way(spec: ModelSpec, rank: int) -> Way:
    return Way("read", spec.digest, spec.quantization, spec.dtype, spec.device, rank)


def _rank(case: Case) -> int:
    """The rank of the LoRA update that a cell is scored with; 0 where it has none beside it."""
    if case.score_as != AS_TRAINED:
        return 0
    if case.training is not None:
        return case.training.settings.r
    if case.adapter is None:
        return 0
    try:
        return int(read_config(case.adapter).get("r") or 0)
    except (OSError, ValueError, TypeError):
        return 0


def _loaded(shape: Shape, way: Way) -> float:
    """Bytes that loading a base takes: its weights, and its files, which are mapped into memory."""
    weights = shape.weights(way.quantization, way.dtype)
    as_stored = shape.same and way.dtype == "float32" and way.quantization == "none"
    if way.device == "cuda" or as_stored:  # on CPUs, weights stay where the file is mapped
        return weights
    return weights + (shape.file or 0)
