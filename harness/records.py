"""What was found: observations of a model, how they were made, and the measurement of a cell.

These nouns are frozen, need the standard library only, and are what the store keeps. What costs a
model (a row's likelihood) is observed once; metrics (:mod:`harness.metrics`) are read from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from harness.core import Cell

# How the rows of a cell shared the prompt that they begin with.
IN_PLACE, COPIED, NONE = "in place", "copied", "none"


@dataclass(frozen=True, slots=True)
class Likelihood:
    """How likely a model finds one row's reference answer; never rounded and never averaged.

    Attributes:
        id: of the row.
        nll: summed negative log-likelihood, in nats, of the scored tokens.
        n_tokens: scored tokens: the answer's and the EOS.
        n_chars: characters of the answer.
        n_bytes: UTF-8 bytes of the answer.
        n_context: tokens before the answer.
        demo_ids: ids of the demonstrations that were shown.
        surprisal: for looking at: one character for each of the answer and one for the EOS, each
            the NLL of the token that it stands in (:mod:`harness.results.surprisal`); empty where
            the tokenizer does not say where its tokens stand.
    """

    id: str
    nll: float
    n_tokens: int
    n_chars: int
    n_bytes: int
    n_context: int
    demo_ids: tuple[str, ...] = ()
    surprisal: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model wrote for one row, and how sure it was.

    Attributes:
        id: of the row.
        tokens: ids of what was written, without the end token. Where a stop string ended it, up to
            the token that completed the string.
        text: what they spell, cut before the stop string; special tokens left out.
        ended: ``stop token``, ``stop string`` or ``limit``; empty where that is not known, as of
            answers that were read from a file.
        stop: the end token or the stop string; empty at the limit.
        logprobs: of each written token, nats, and of the end token where one was written: under
            the model's own distribution (temperature 1, nothing left out or penalized), whatever
            it was drawn by. Empty where they are not known.
        n_context: tokens before the answer.
        demo_ids: ids of the demonstrations that were shown.
        draw: which of the row's draws it is, from 0.
        score: of a beam search: the beam's summed log-probability (penalties included) divided by
            its length to the power of ``length_penalty``; None for other decodings.
    """

    id: str
    tokens: tuple[int, ...]
    text: str
    ended: str
    stop: str
    logprobs: tuple[float, ...]
    n_context: int
    demo_ids: tuple[str, ...] = ()
    draw: int = 0
    score: float | None = None

    @property
    def n_tokens(self) -> int:
        """Tokens of the answer."""
        return len(self.tokens)


STOP_TOKEN, STOP_STRING, LIMIT = "stop token", "stop string", "limit"  # how an answer ended


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a judge says to one question.

    Attributes:
        said: the verdict, as it stands on the menu, of a local judge the likeliest; empty where
            there is none.
        value: what it is worth, of a local judge the expectation; of a pair, what the answer that
            stands first gets: 1 it wins, 0 it loses, ½ neither. None: unjudged.
        reason: why it is unjudged; empty where it is not.
        why: the judge's own reason for its verdict; empty of a judge that writes none.
        reply: what it wrote, as it came; empty of a local judge.
        probabilities: of a local judge, of each verdict of the menu, in its order.
        mass: of a local judge, what it gives to the menu at all.
        spread: standard deviation of the value under these probabilities.
        asked: how often it was asked.
        tokens: what was read and written for it, as a server counted them.
    """

    said: str
    value: float | None
    reason: str = ""
    why: str = ""
    reply: str = ""
    probabilities: tuple[float, ...] = ()
    mass: float | None = None
    spread: float | None = None
    asked: int = 1
    tokens: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Rating:
    """What a judge says of one answer.

    Attributes:
        id: of the row.
        text: the answer.
        ruling: what the judge says.
        worst: the least that a verdict is worth.
        n_context: tokens before the answer, for its writer.
        demo_ids: ids of the demonstrations that its writer was shown.
        draw: which of the row's draws it is, from 0.
    """

    id: str
    text: str
    ruling: Ruling
    worst: float = 0.0
    n_context: int = 0
    demo_ids: tuple[str, ...] = ()
    draw: int = 0

    @property
    def value(self) -> float | None:
        """The answer's score; None where it is unjudged."""
        return self.ruling.value

    @property
    def rulings(self) -> tuple[Ruling, ...]:
        """What the judge said, once."""
        return (self.ruling,)


@dataclass(frozen=True, slots=True)
class Preference:
    """Which of two answers to a row a judge prefers, asked in both orders.

    Attributes:
        id: of the row.
        text: the answer whose wins are counted.
        other: the answer that it is compared with.
        first: what the judge says where ``text`` stands first.
        second: what it says where ``text`` stands second.
        n_context: tokens before the answer, for its writer.
        demo_ids: ids of the demonstrations that its writer was shown.
        draw: which of the row's draws it is, from 0.
    """

    id: str
    text: str
    other: str
    first: Ruling
    second: Ruling
    n_context: int = 0
    demo_ids: tuple[str, ...] = ()
    draw: int = 0

    @property
    def orders(self) -> tuple[float | None, float | None]:
        """What the answer gets where it stands first, and where it stands second."""
        second = None if self.second.value is None else 1 - self.second.value
        return self.first.value, second

    @property
    def value(self) -> float | None:
        """1 it wins, 0 it loses; ½ where neither does, or the order decides; None: unjudged."""
        first, second = self.orders
        if first is None or second is None:
            return None
        return first if first == second else 0.5

    @property
    def rulings(self) -> tuple[Ruling, ...]:
        """What the judge said in both orders."""
        return self.first, self.second


Observation = Likelihood | Answer | Rating | Preference  # what metrics are read from


@dataclass(frozen=True)
class Label:
    """What a person says of an answer, or of two.

    Attributes:
        id: of the row.
        texts: the answer; of a pair, both.
        score: the person's score; of a pair 1, 0 or ½, what the first answer gets.
    """

    id: str
    texts: tuple[str, ...]
    score: float


@dataclass(frozen=True)
class LabelledScore:
    """A person's word on an answer, or on two, and the judge's.

    Attributes:
        id: of the row.
        human: the person's score; of a pair 1, 0 or ½, what the first answer gets.
        judged: the judge's, on the same scale; None: unjudged.
        lengths: characters of the answer; of a pair, of both.
    """

    id: str
    human: float
    judged: float | None
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class ExamScores:
    """What a judge scored in its examination.

    Attributes:
        judge: its model's name.
        rubric: the rubric's name.
        rows: ids of the rows.
        scores: of a judge of single answers: kind of answer → the score of every row.
        again: what was judged once more: the references, or of pairs ``orders["truncated"]``, what
            the reference gets where it stands first.
        mass: the mean of what a local judge gives to its menu.
        orders: of a judge of pairs: kind of answer → of every row what the reference gets against
            it where the reference stands first, and where it stands second.
        labels: what people said of answers, and the judge.

    A score that is None is one that the judge did not give.
    """

    judge: str
    rubric: str
    rows: tuple[str, ...]
    scores: Mapping[str, tuple[float | None, ...]]
    again: tuple[float | None, ...]
    mass: float | None = None
    orders: Mapping[str, tuple[tuple[float | None, float | None], ...]] = field(
        default_factory=dict
    )
    labels: tuple[LabelledScore, ...] = ()


@dataclass(frozen=True)
class Agreement:
    """How many answers of half precision are others when each row is written alone.

    Attributes:
        rows: so many of the first rows were written alone as well.
        differing: so many of them have another answer.
        first: the place of the first token that differs, in the answer where it comes first.
    """

    rows: int
    differing: int
    first: int | None = None


@dataclass(frozen=True)
class Writing:
    """How the answers of a cell were written.

    Attributes:
        prefix: ``in place``, ``copied`` or ``none``: how rows shared what they begin with.
        prefix_tokens: tokens that they shared.
        refused: way of writing several rows together → why this model cannot.
        padded: whether rows of different lengths stood in a batch.
        batches: in how many batches.
        halved: how many batches were cut in half for want of memory.
        alone: rows that were written one at a time by transformers' own loop.
        recomputed: choices so close that they were made again from the row alone.
        agreement: how far answers depend on the batch; None for float32, where they do not.
    """

    prefix: str = NONE
    prefix_tokens: int = 0
    refused: Mapping[str, str] = field(default_factory=dict)
    padded: bool = False
    batches: int = 0
    halved: int = 0
    alone: int = 0
    recomputed: int = 0
    agreement: Agreement | None = None


@dataclass(frozen=True)
class Repetition:
    """How far numbers moved when rows were scored again in batches of other sizes.

    Attributes:
        times: how often the rows were scored in all.
        batched: whether the batches could differ.
        row: largest relative difference of a row's perplexity.
        geometric: largest relative difference of the geometric mean perplexity.
    """

    times: int
    batched: bool
    row: float
    geometric: float


@dataclass(frozen=True)
class Precision:
    """What half precision costs, against float32 on the same rows.

    Attributes:
        rows: on how many rows it was measured.
        worst: largest relative difference of a row's NLL.
        mean: mean relative difference of a row's NLL.
        perplexity: relative change of the geometric mean perplexity.
        unknown: why it could not be measured; the numbers are then 0.
    """

    rows: int = 0
    worst: float = 0.0
    mean: float = 0.0
    perplexity: float = 0.0
    unknown: str | None = None


@dataclass(frozen=True)
class Scoring:
    """How the rows of a cell were scored.

    Attributes:
        prefix: ``in place``, ``copied`` or ``none``: how rows shared what they begin with.
        prefix_tokens: tokens that they shared.
        refused: way of sharing → why this model cannot.
        batches: in how many batches.
        halved: how many batches were cut in half for want of memory.
        precision: what half precision costs; None for float32.
        repetition: the noise of scoring, where it was measured.
    """

    prefix: str = NONE
    prefix_tokens: int = 0
    refused: Mapping[str, str] = field(default_factory=dict)
    batches: int = 0
    halved: int = 0
    precision: Precision | None = None
    repetition: Repetition | None = None

    @property
    def times(self) -> int:
        """How often the rows were scored."""
        return self.repetition.times if self.repetition else 1


@dataclass(frozen=True)
class Evaluation:
    """A point of a learning curve; None where a value is not finite or was not measured.

    Losses are nats per scored token.
    """

    step: int
    loss: float | None
    mean_perplexity: float | None
    holdout_loss: float | None = None
    holdout_perplexity: float | None = None


@dataclass(frozen=True)
class StageRecord:
    """A stage of a training run as it was done."""

    steps: int
    learning_rate: float
    num_train_epochs: float
    ids: tuple[str, ...]


@dataclass(frozen=True)
class TrainingRecord:
    """A training run as it was done.

    Attributes:
        adapter: name of the adapter's folder.
        sha256: of its weights.
        base: what tells the base's architecture from others.
        settings: every setting, by name; of as many types as TrainingSettings has.
        optimizer: the one that was used.
        rows, tokens: training rows, and their tokens.
        trained_rows, trained_tokens: rows and tokens seen over all steps.
        steps: optimizer steps.
        losses: training loss of each step, nats per scored token.
        evaluations: the learning curve.
        best_step: the step whose checkpoint is scored; None for the last.
        select_on: ``test`` or ``holdout``: where the checkpoint was chosen; None for the last.
        ids: of the training rows.
        left_out: ids of rows that were too long.
        holdout_ids: ids of the rows that chose the checkpoint.
        stages: of a curriculum; empty without one.
        trainable_parameters: how many numbers were trained.
        seconds: how long it took, earlier processes included; of several adapters that were
            trained together, its share.
        resumed_from: the step that it was resumed from, if it was.
        together: how many adapters were trained in one batch with it, itself included.
        apart: why it was trained alone although several were to be trained together; empty
            where they were, or were not to be.
    """

    adapter: str
    sha256: str
    base: Mapping[str, str | int | None]
    settings: Mapping[str, Any]
    optimizer: str
    rows: int
    tokens: int
    trained_rows: int
    trained_tokens: int
    steps: int
    losses: tuple[float, ...]
    evaluations: tuple[Evaluation, ...]
    best_step: int | None
    select_on: str | None
    ids: tuple[str, ...]
    left_out: tuple[str, ...]
    holdout_ids: tuple[str, ...]
    stages: tuple[StageRecord, ...]
    trainable_parameters: int
    seconds: float
    resumed_from: int | None = None
    together: int = 1
    apart: str = ""


@dataclass(frozen=True)
class Provenance:
    """Where a measurement comes from.

    Attributes:
        adaptbench: the version that measured.
        prefix_token: ``BOS`` or ``EOS``: what every row begins with.
        pool_digest: of the training pool.
        matmul: which matrix product was used.
        versions: library → version.
        hardware: fact → value.
    """

    adaptbench: str
    prefix_token: str
    pool_digest: str
    matmul: str
    versions: Mapping[str, str] = field(default_factory=dict)
    hardware: Mapping[str, str | int | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurement:
    """A cell, what was observed, what it took and where it came from.

    Attributes:
        cell: what was measured.
        observations: of each test row, in order: one, or of answers several draws one after the
            other.
        seconds: how long it took, training included.
        provenance: where it comes from.
        training: the training run of its adapter, if there was one.
        peak_memory_bytes: of the device on CUDA, else of the process.
        scoring: how its rows were scored.
        writing: how its answers were written; None where there are none.
        skeletons: what the tokenizer's chat template made of markers, by the roles of the turns:
            with them a prompt can be shown as it was sent.
        warnings: lines that a reader of the numbers has to know about the model, its adapter, its
            tokenizer or its chat template; each names what it speaks of.
    """

    cell: Cell
    observations: tuple[Observation, ...]
    seconds: float
    provenance: Provenance
    training: TrainingRecord | None = None
    peak_memory_bytes: int | None = None
    scoring: Scoring = field(default_factory=Scoring)
    writing: Writing | None = None
    skeletons: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @cached_property
    def readings(self) -> dict[str, Any]:
        """What metrics have read from it: see :func:`harness.metrics.base.reading`."""
        return {}

    @property
    def likelihoods(self) -> tuple[Likelihood, ...]:
        """The observations, where they are likelihoods; else nothing."""
        return tuple(one for one in self.observations if isinstance(one, Likelihood))

    @property
    def answers(self) -> tuple[Answer, ...]:
        """The observations, where they are answers; else nothing."""
        return tuple(one for one in self.observations if isinstance(one, Answer))

    @property
    def ratings(self) -> tuple[Rating, ...]:
        """The observations, where they are ratings; else nothing."""
        return tuple(one for one in self.observations if isinstance(one, Rating))

    @property
    def preferences(self) -> tuple[Preference, ...]:
        """The observations, where they are preferences; else nothing."""
        return tuple(one for one in self.observations if isinstance(one, Preference))
