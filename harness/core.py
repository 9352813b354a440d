"""The nouns of adaptbench: frozen, standard library only, and nothing else.

Everything the harness passes around is one of these. A strategy needs only this module.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from typing_extensions import Self

    from harness.config.options import Options

Quantization = Literal["none", "nf4", "fp4", "int8", "fp8"]  # fp8: only as it is stored
# What a cell holds of each row.
Observed = Literal["likelihood", "answer", "rating", "preference"]


def digest(value: Any) -> str:
    """Return the SHA-256 (hex) of ``value`` as canonical JSON.

    Keys are sorted and floats keep their shortest exact form, so equal values have equal
    digests on every platform and Python version.
    """
    return hashlib.sha256(canonical(value).encode("utf-8")).hexdigest()


def canonical(value: Any) -> str:
    """What :func:`digest` is the digest of; that of a list is its items', joined by commas."""
    return json.dumps(
        value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
    )


@dataclass(frozen=True)
class Example:
    """One row: an instruction and its reference output.

    ``tags`` are facts about the row that a strategy may use, e.g. ``("direction", "classical")``
    for a row that asks for a translation *into* Classical Chinese.

    ``history`` are the turns of a conversation before ``instruction``, pairs of (role, text):
    ``system`` or nothing first, then ``user`` and ``assistant`` in turn. ``score`` is the quality
    that the file gives the row.
    """

    id: str
    instruction: str
    output: str
    tags: tuple[tuple[str, str], ...] = ()
    history: tuple[tuple[str, str], ...] = ()
    score: float | None = None

    def tag(self, name: str) -> str | None:
        """Return the value of the tag ``name``, or None where the row does not carry it."""
        return dict(self.tags).get(name)

    @property
    def content(self) -> list[Any]:
        """What of this row can change a number, for digests: no score, and no history if empty."""
        history = [[list(turn) for turn in self.history]] if self.history else []
        return [self.id, self.instruction, self.output, *history]


@dataclass(frozen=True)
class Task:
    """A named test set and the pool that demonstrations and training rows come from.

    ``excluded`` names the rows of the training file that are a test row or a near copy of one:
    pairs of (training id, test id). They are not in ``pool``; where the user insists that they
    may be trained on, they are in ``leaks``. ``warnings`` are lines that a reader of the
    numbers has to know about the rows: what was left out, say.
    """

    name: str
    examples: tuple[Example, ...]
    pool: tuple[Example, ...]
    source: str = ""
    pool_source: str = ""
    excluded: tuple[tuple[str, str], ...] = ()
    leaks: tuple[Example, ...] = ()
    warnings: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the test rows, in order."""
        return digest([example.content for example in self.examples])

    @cached_property
    def questions_digest(self) -> str:
        """SHA-256 of what is asked of a model: the test rows without their references."""
        return digest([replace(example, output="").content for example in self.examples])

    @cached_property
    def pool_digest(self) -> str:
        """SHA-256 of the training pool, in order."""
        return digest([example.content for example in self.pool])


@dataclass(frozen=True)
class PromptTemplate:
    """Three strings with the literal placeholders ``{instruction}``, ``{output}``, ``{number}``.

    With ``chat`` the tokenizer's own chat template joins them: ``preamble`` is the system
    message (none if empty), ``demonstration`` the user's turn of a demonstration (the assistant's
    turn is its output), ``query`` the last user turn.
    """

    name: str
    preamble: str
    demonstration: str
    query: str
    chat: bool = False


@dataclass(frozen=True)
class TrainingSettings:
    """How an adapter is trained, each field named as transformers, peft and bitsandbytes do.

    Attributes:
        r: rank of the LoRA update.
        lora_alpha: ``lora_alpha / r`` scales the update.
        lora_dropout: share of the update's inputs that is dropped while training.
        target_modules: names of the layers that get one (never a pattern), or ``all-linear``.
        quantization: of the frozen base: ``nf4``, ``fp4``, ``int8`` or ``none``; ``--quant`` wins.
        bnb_4bit_use_double_quant: whether the scales of 4-bit weights are quantized, too; for
            training and for scoring.
        bnb_4bit_compute_dtype: arithmetic of 4-bit layers; ``auto`` is the run's dtype.
        learning_rate: the schedule's peak.
        lr_scheduler_type: ``cosine``, ``linear``, ``constant``, ``constant_with_warmup`` or
            ``inverse_sqrt``.
        warmup_ratio: share of the steps over which the rate rises; ``warmup_steps`` wins over it.
        warmup_steps: steps over which the rate rises; 0 for the share that ``warmup_ratio`` says.
        weight_decay: of AdamW.
        optim: ``adamw_torch``, ``adamw_8bit``, ``paged_adamw_8bit``, ``paged_adamw_32bit``,
            ``adafactor`` or ``sgd``. A paged or 8-bit optimizer is replaced by AdamW, with a
            warning, where there is no CUDA device.
        max_grad_norm: gradients are scaled down to this norm.
        per_device_train_batch_size: rows that go through the model together.
        gradient_accumulation_steps: as many batches make an optimizer step.
        num_train_epochs: how often every row is trained on; ``max_steps`` wins over it.
        max_steps: optimizer steps in all, whatever ``num_train_epochs`` says; -1 for no limit.
        max_length: longer rows (tokens) are left out with a warning that names them, never cut.
            None: a row that is longer than the model can read is an error.
        eval_steps: evaluate every so many steps, or after this share of all; None for never.
        save_steps: what can be resumed is saved every so many steps, or after this share of all.
        save_total_limit: as many checkpoints are kept to resume from.
        holdout_rows: rows of the pool kept for choosing the checkpoint, where it is chosen there;
            at most a fifth of the pool.
        gradient_checkpointing: less memory, more time.
        together: so many adapters of a run are trained in one batch over one base; 1: each alone.
        seed: of the adapter's initialization, the order of rows and the dropout.
    """

    r: int = 16
    lora_alpha: float = 32.0
    lora_dropout: float = 0.0
    target_modules: str | tuple[str, ...] = "all-linear"
    quantization: Quantization = "nf4"
    bnb_4bit_use_double_quant: bool = True
    bnb_4bit_compute_dtype: str = "auto"
    learning_rate: float = 1e-3
    lr_scheduler_type: str = "cosine"
    warmup_ratio: float = 0.05
    warmup_steps: int = 0
    weight_decay: float = 0.0
    optim: str = "adamw_torch"
    max_grad_norm: float = 1.0
    per_device_train_batch_size: int = 4
    gradient_accumulation_steps: int = 1
    num_train_epochs: float = 1.0
    max_steps: int = -1
    max_length: int | None = None
    eval_steps: float | None = None
    save_steps: float = 0.2
    save_total_limit: int = 1
    holdout_rows: int = 64
    gradient_checkpointing: bool = False
    together: int = 1
    seed: int = 0


@dataclass(frozen=True)
class DecodingSpec:
    """How an answer is written, each field named as transformers does.

    Nothing of a model's own generation configuration is added to it.

    Attributes:
        name: what it is called: ``greedy``, ``sample``, ``beam``, those with settings, or the name
            of a recipe's table.
        max_new_tokens: at most so many tokens are written, the end included.
        max_length: at most so many tokens in all, those before the answer included; takes the
            place of ``max_new_tokens``.
        min_new_tokens: before so many tokens are written, no end token is.
        do_sample: draw each token; otherwise the most likely one is taken.
        temperature: logits are divided by it.
        top_k: only so many of the most likely tokens may be drawn; 0 for all.
        top_p: only the most likely tokens that have this probability together may be drawn.
        min_p: only tokens may be drawn that have this share of the most likely one's probability.
        repetition_penalty: the logits of tokens that stand in the answer are divided by it, where
            they are negative multiplied. Over the answer only: a translation has to repeat names of
            its source.
        no_repeat_ngram_size: no sequence of so many tokens stands in the answer twice; 0 for any.
        num_beams: beams of a beam search; 1 for none.
        length_penalty: a finished beam's score is its log-probability divided by its length to this
            power. 0.0 is neutral, above favours long answers, below short ones.
        early_stopping: when a beam search ends: True, once ``num_beams`` are finished; False, once
            no better one is likely at the present length; ``never``, once none is possible.
        stop: strings that end an answer, found in its text alone, and cut from it.
        num_return_sequences: draws of each row, where tokens are drawn.
    """

    name: str = "greedy"
    max_new_tokens: int = 128
    max_length: int | None = None
    min_new_tokens: int = 0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    stop: tuple[str, ...] = ()
    num_return_sequences: int = 1

    @property
    def described(self) -> str:
        """The settings that are not the defaults, and the limit, in words: for readers."""
        default = DecodingSpec()
        values = {name: value for name, value in asdict(self).items() if name != "name"}
        told = [
            f"{name} = {value!r}"
            for name, value in values.items()
            if value != getattr(default, name) or name == "max_new_tokens"
        ]
        return ", ".join(told)


@dataclass(frozen=True)
class Stage:
    """A part of a training run: its rows, and its epochs and learning rate if they differ."""

    examples: tuple[Example, ...]
    num_train_epochs: float | None = None
    learning_rate: float | None = None


@dataclass(frozen=True)
class TrainingSpec:
    """An adapter to train: rows and settings, and the stages where there are several.

    ``holdout`` are rows that choose the checkpoint and are not trained on; without them, an
    evaluated training chooses it on the test set.
    """

    examples: tuple[Example, ...]
    settings: TrainingSettings = TrainingSettings()
    stages: tuple[Stage, ...] = ()
    holdout: tuple[Example, ...] = ()

    @property
    def curriculum(self) -> tuple[Stage, ...]:
        """The stages; a training run without any has one, over all rows."""
        return self.stages or (Stage(self.examples),)


@dataclass(frozen=True)
class Adaptation:
    """What a strategy does: show ``demonstrations``, train ``training``, or both."""

    demonstrations: tuple[Example, ...] = ()
    training: TrainingSpec | None = None


@dataclass(frozen=True)
class Span:
    """A piece of prompt text. ``special`` text may contain special tokens; data never may."""

    text: str
    special: bool = False


@dataclass(frozen=True)
class Prompt:
    """One test row as the model sees it: what stands before the answer, and the answer."""

    id: str
    context: tuple[Span, ...]
    answer: str
    demo_ids: tuple[str, ...] = ()
    chat: bool = False  # whether a chat template's words stand in it

    @property
    def text(self) -> str:
        """The whole context as one string."""
        return "".join(span.text for span in self.context)


@dataclass(frozen=True)
class ModelSpec:
    """A model as it is scored; ``digest`` and ``adapter_digest`` stand for bytes.

    ``double_quant`` and ``compute_dtype`` (``auto``: that of the rest) matter to 4-bit weights.
    ``score_as``: ``trained`` keeps the adapter beside the base, ``merged`` adds it to the base's
    weights, which are then quantized again. ``gpus``: over so many its layers are spread, which
    determines no number.
    """

    name: str
    digest: str
    quantization: Quantization = "none"
    dtype: str = "float32"
    device: str = "cpu"
    revision: str | None = None
    adapter: str | None = None
    adapter_digest: str | None = None
    double_quant: bool = True
    compute_dtype: str = "auto"
    score_as: str = "trained"
    gpus: int = 1

    NAMES: ClassVar[frozenset[str]] = frozenset({"name", "revision", "adapter", "gpus"})

    @property
    def determining(self) -> dict[str, Any]:
        """Its fields that determine a number: without names, for which the digests stand."""
        return {name: value for name, value in asdict(self).items() if name not in self.NAMES}


@dataclass(frozen=True)
class JudgeSpec:
    """A judge, what it is asked, and what it is asked of.

    Attributes:
        model: the judge.
        rubric: its name.
        rubric_digest: of what it says.
        answers_digest: of the questions as they are asked, answers and references in them.
        against: the label of what the answers are compared with; empty where each is rated alone.
        limits: the least and the greatest that a verdict is worth.
    """

    model: ModelSpec
    rubric: str
    rubric_digest: str
    answers_digest: str
    against: str = ""
    limits: tuple[float, float] = (0.0, 1.0)

    NAMES: ClassVar[frozenset[str]] = frozenset({"rubric", "against", "limits"})


@dataclass(frozen=True)
class Cell:
    """What is observed of one model on all test rows, by everything that determines it.

    A cell holds likelihoods, or answers where it has a ``decoding``, or a judge's ratings of such
    answers, or its preferences between them and others; ``scorer`` is of the first. What is rated
    are texts, whoever wrote them.
    ``NAMES`` are the fields that say what a cell is called; ``key``, its name in the store, is made
    of the others.
    """

    id: str
    task: str
    strategy: str
    label: str
    prompt: str
    k: int
    select: str | None
    draw: str
    seed: int | None
    n: int
    model: ModelSpec
    task_digest: str
    prompt_digest: str
    demonstrations_digest: str
    training_digest: str | None
    decoding: DecodingSpec | None
    judge: JudgeSpec | None
    scorer: str | None
    libraries: tuple[tuple[str, str], ...]

    NAMES: ClassVar[frozenset[str]] = frozenset(
        {"id", "task", "strategy", "label", "prompt", "k", "select", "draw", "n"}
    )

    @property
    def observes(self) -> Observed:
        """What the cell holds of each row."""
        if self.judge is not None:
            return "preference" if self.judge.against else "rating"
        return "likelihood" if self.decoding is None else "answer"

    @cached_property
    def key(self) -> str:
        """SHA-256 over everything that determines what is observed, and over nothing else."""
        if self.judge is not None:
            known = asdict(self.judge).items()
            judge = {name: value for name, value in known if name not in JudgeSpec.NAMES}
            judge["model"] = self.judge.model.determining
            return digest({"judge": judge, "libraries": self.libraries})
        values = {name: value for name, value in asdict(self).items() if name not in self.NAMES}
        del values["judge"]
        values["model"] = self.model.determining
        if self.decoding is not None:
            del values["decoding"]["name"]
        return digest(values)


@runtime_checkable
class Strategy(Protocol):
    """A pure function from (training pool, seed) to an :class:`Adaptation`.

    Subclass it as a frozen dataclass and give it a ``name``; the rest has defaults. Its fields are
    its settings: those of ``[name]`` in a recipe and of ``--set name.field=value``. Several values
    of a field make several variants. A strategy imports no torch and touches no file.

    Attributes:
        name: what ``--strategy`` calls it; ASCII letters, digits, - and _.
        checks: field → what returns its value, given that of the recipe, or raises ValueError
            saying what would be right. Without one, a field may be what its annotation says.
        flags: fields that are set by flags of the same name.
    """

    name: ClassVar[str]
    checks: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}
    flags: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def variants(cls, options: Options) -> Iterable[Self]:
        """Yield one strategy for every combination of the values that its settings are given."""
        for settings in options.variants(cls):
            yield cls(**settings)

    @property
    def label(self) -> str:
        """An ASCII name of this variant, numbers zero-padded: ``fewshot-random-k03``."""
        return self.name

    @property
    def title(self) -> str:
        """What sentences call it where others are compared with it, e.g. ``zero-shot``."""
        return self.label

    @property
    def stochastic(self) -> bool:
        """Whether the seed matters. If not, one seed is run and the std is reported as n/a."""
        return False

    @property
    def draw(self) -> str:
        """``run``: adapt once per seed. ``row``: afresh, with a derived seed, for each row."""
        return "run"

    def adapt(self, pool: Sequence[Example], seed: int) -> Adaptation:
        """Choose demonstrations and training from ``pool``; equal arguments, equal result."""
        ...


class TaskSource:
    """A task that code makes rather than two files: a test set and a training pool.

    Subclass it and give it a ``name``. It is found in ``tasks/`` of the working directory, or by an
    entry point of ``adaptbench.tasks``, and asked for with ``--task``. Training rows that stand in
    the test set, or nearly do, are taken out, as they are of files.
    """

    name: ClassVar[str]

    def test(self) -> Sequence[Example]:
        """Return the test rows: at least one, each with an id of its own."""
        raise NotImplementedError

    def train(self) -> Sequence[Example]:
        """Return the rows that demonstrations and training rows come from."""
        raise NotImplementedError
