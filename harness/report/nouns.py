"""What a report says, as nouns: each is frozen, and turned into JSON once, where it is written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.core import DecodingSpec, ModelSpec, PromptTemplate
from harness.gate.verdict import Gate
from harness.messages import say
from harness.metrics.base import Metric
from harness.records import Precision, Repetition, Writing
from harness.results.manifest import ChoiceRecord, Control, EngineRecord, TaskRecord
from harness.statistics.corrected import Corrected
from harness.statistics.exams import Exam
from harness.statistics.intervals import Interval
from harness.statistics.lengths import LengthRate
from harness.statistics.uncertainty import Bounds, Comparison

Number = float | None  # None where there is nothing finite to say


def finite(value: float | None) -> Number:
    """The value, or None where it is not finite: JSON has no word for that."""
    return value if value is not None and math.isfinite(value) else None


@dataclass(frozen=True)
class Known:
    """A number over seeds, and its standard deviation; None where it is not finite."""

    mean: Number
    std: Number


@dataclass(frozen=True)
class CellFacts:
    """A measured cell, whatever the metric."""

    id: str
    task: str
    model: str
    quantization: str
    dtype: str
    strategy: str
    label: str
    k: int
    select: str | None
    draw: str
    seed: int | None
    prompt: str
    observes: str
    decoding: str
    against: str
    key: str
    n: int
    seconds: float
    cached: bool
    file: str | None
    node: str = ""


@dataclass(frozen=True)
class CellResult:
    """A cell under one metric: its aggregates by name, their intervals, the gate's word."""

    cell: CellFacts
    aggregates: Mapping[str, Number]
    bounds: Bounds
    nonfinite: int
    verdict: str | None = None


@dataclass(frozen=True)
class Group:
    """A strategy variant over its seeds, whatever the metric.

    ``against`` is the label of what a judge compared its answers with; empty for anything else.
    ``context_tokens`` is what a query costs before its answer, on average. ``training_*`` are of
    one seed's training run; None without one.
    """

    label: str
    strategy: str
    model: str
    quantization: str
    dtype: str
    prompt: str
    decoding: str
    against: str
    k: int
    select: str | None
    draw: str
    n: int
    seeds: tuple[int, ...]
    n_seeds: int
    n_seeds_planned: int
    context_tokens: float
    training_tokens: int | None
    training_rows: int | None
    training_seconds: float | None

    @property
    def name(self) -> tuple[str, ...]:
        """What tells it from other groups."""
        return named(self)

    def value(self, field: str) -> str:
        """One of the fields that tell rows of a table apart: those of ``VARYING``."""
        return str(getattr(self, field))


@dataclass(frozen=True)
class GroupResult:
    """A group under one metric.

    Attributes:
        group: whose numbers they are.
        mean, std: of the headline over seeds.
        aggregates: of every aggregate over seeds, by name.
        bounds: 95 % intervals.
        nonfinite: values that are not finite, over all seeds.
        comparison: with the control; None for the control, and where it cannot be compared.
        disagreeing: whether the two means moved in opposite directions, and one of them surely.
        verdict: the gate's word on its worst seed.
    """

    group: Group
    mean: Number
    std: Number
    aggregates: Mapping[str, Known]
    bounds: Bounds
    nonfinite: int
    comparison: Comparison | None = None
    disagreeing: bool = False
    verdict: str | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the headline: for unseen seeds where several were run."""
        return self.bounds.mean_seeds or self.bounds.mean

    @property
    def center_interval(self) -> tuple[float, float] | None:
        """Of the center: for unseen seeds where several were run."""
        return self.bounds.center_seeds or self.bounds.center


@dataclass(frozen=True)
class Anchor:
    """Answers that no model wrote, under one metric: the source copied, or the reference.

    Or, ``published``, what was measured elsewhere: to look at, and compared with nothing.
    """

    name: str
    value: Number
    published: bool = False


@dataclass(frozen=True)
class StdFactor:
    """What a standard deviation over so many seeds knows of the true one, as factors of it."""

    seeds: int
    low: float
    high: float


@dataclass(frozen=True)
class Section:
    """What a report says under one metric, of the cells that the metric reads.

    ``anchors`` are what answers are read against: the floor, the ceiling, published numbers.
    """

    metric: Metric
    cells: tuple[CellResult, ...]
    groups: tuple[GroupResult, ...]
    conclusions: tuple[str, ...] = ()
    spreads: tuple[StdFactor, ...] = ()
    anchors: tuple[Anchor, ...] = ()

    @property
    def constant(self) -> dict[str, str]:
        """What all groups have in common, so that a table need not repeat it in every row.

        What no group has is left out.
        """
        groups = [result.group for result in self.groups]
        return {
            FIELDS[name]: groups[0].value(name)
            for name in VARYING
            if len({group.value(name) for group in groups}) == 1 and groups[0].value(name)
        }

    @property
    def varying(self) -> list[str]:
        """Columns that stand in its tables because they tell rows apart."""
        groups = [result.group for result in self.groups]
        return [name for name in VARYING if len({group.value(name) for group in groups}) > 1]


@dataclass(frozen=True)
class ModelFacts:
    """A model as it was scored."""

    spec: ModelSpec
    prefix_token: str


@dataclass(frozen=True)
class PrecisionFacts:
    """What half precision costs one model."""

    model: str
    quantization: str
    dtype: str
    cost: Precision


@dataclass(frozen=True)
class Noise:
    """How far one cell's numbers moved when it was scored again."""

    cell: str
    found: Repetition


@dataclass(frozen=True)
class Unshared:
    """A model whose rows cannot share what they begin with, and why."""

    model: str
    reason: str


@dataclass(frozen=True)
class Environment:
    """Where cells were measured."""

    versions: Mapping[str, str]
    hardware: Mapping[str, Any]
    matmul: str


@dataclass(frozen=True)
class Missing:
    """A planned cell that was not measured, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class Degeneration:
    """What went wrong with a group's answers: the share with each fault, over rows and seeds.

    ``shares`` are by the name of a metric; None where it is not known how answers ended.
    """

    group: Group
    shares: Mapping[str, Number]


@dataclass(frozen=True)
class Written:
    """What a cell's model wrote; ``finished``, or stopped at the limit."""

    cell: str
    text: str
    finished: bool


@dataclass(frozen=True)
class SampleRow:
    """A test row with what the models wrote for it."""

    id: str
    instruction: str
    reference: str
    written: tuple[Written, ...]


@dataclass(frozen=True)
class JudgeFacts:
    """A judge: what it was asked by, on how many rows it was examined, and how it did.

    ``mass`` is what a local judge gives to its menu, on average; None for others. ``calls`` and
    ``tokens`` (read and written) are what a server counted for the cells of the report.
    """

    name: str
    rubric: str
    rows: int
    mass: float | None
    exam: Exam
    calls: int = 0
    tokens: tuple[int, int] = (0, 0)

    @property
    def took(self) -> str:
        """What its verdicts took; empty of a judge that is a model here."""
        if not any(self.tokens):
            return ""
        read, written = self.tokens
        return say(
            "Its verdicts took {calls} calls, {read} tokens read and {written} written.",
            calls=f"{self.calls:,}",
            read=f"{read:,}",
            written=f"{written:,}",
        )


@dataclass(frozen=True)
class Duel:
    """What a judge says of two systems, and what length and order have to do with it.

    Attributes:
        group: the system whose wins are counted, and what it is compared with.
        judged: rows with a verdict in both orders.
        rows: rows in all.
        rate: the win rate, with its interval over rows; None with fewer than two rows.
        matched: of rows whose answers are about as long, and how many these are; None with fewer
            than two.
        controlled: what it would be if both systems' answers were as long.
        longer: the share of rows on which the system's answer is the longer one.
    """

    group: Group
    judged: int
    rows: int
    rate: Interval | None = None
    matched: LengthRate | None = None
    controlled: LengthRate | None = None
    longer: Number = None


@dataclass(frozen=True)
class Strength:
    """A system's place among those of a model, prompt and decoding: log-odds, their mean 0."""

    model: str
    prompt: str
    decoding: str
    label: str
    strength: Interval


@dataclass(frozen=True)
class CorrectedFacts:
    """A judge's mean, corrected by people's labels.

    Attributes:
        group: whose answers were labelled.
        metric: what is corrected: ``judge`` or ``win_rate``.
        found: the corrected mean, and what it is made of.
    """

    group: Group
    metric: str
    found: Corrected


@dataclass(frozen=True)
class WritingFacts:
    """How a cell's answers were written."""

    cell: str
    model: str
    dtype: str
    how: Writing


@dataclass(frozen=True)
class CurvePoint:
    """A point of a learning curve; the training loss is the mean since the point before it."""

    step: int
    loss: Number
    mean_perplexity: Number
    holdout_loss: Number
    holdout_perplexity: Number
    training_loss: Number
    best: bool


@dataclass(frozen=True)
class Curve:
    """One seed's training run: the loss of every step, the evaluations, where stages end."""

    seed: int | None
    losses: tuple[Number, ...]
    evaluations: tuple[CurvePoint, ...]
    best_step: int | None
    boundaries: tuple[int, ...]


@dataclass(frozen=True)
class StageFacts:
    """A stage of a curriculum."""

    rows: int
    steps: int
    num_train_epochs: float
    learning_rate: float


@dataclass(frozen=True)
class Training:
    """A training run, over its seeds.

    ``ids`` are of the rows that were chosen; None where all of the pool were. ``select_on`` says
    where the checkpoint was chosen: ``test``, ``holdout``, or None for the last step. ``together``
    adapters, or fewer, were trained in one batch; ``apart`` says why none were that should have
    been.
    """

    slug: str
    label: str
    model: str
    quantization: str
    prompt: str
    rows: int
    pool: int
    tokens: int
    steps: int
    trained_rows: int
    trained_tokens: int
    trainable_parameters: int
    optimizer: str
    left_out: tuple[str, ...]
    holdout: int
    select_on: str | None
    stages: tuple[StageFacts, ...]
    settings: Mapping[str, Any]
    ids: tuple[str, ...] | None
    together: int = 1
    apart: str = ""
    runs: tuple[Curve, ...] = ()


@dataclass(frozen=True)
class ExplorerCell:
    """One cell as the explorer of rows shows it; lists are in the order of the rows.

    Attributes:
        values: for each metric, what is shown of each row; nothing where it reads something else.
        tokens: scored tokens of each row, under likelihoods.
        surprisal: of each row's characters, under likelihoods.
        answers: of each row and draw: its text as a place in the explorer's strings, how it ended,
            and its tokens; under answers.
        faults: of each row, the names of what went wrong; under answers.
        shared: pieces that the prompts of all rows begin with: (kind, label, text), the latter two
            as places in the explorer's strings.
        own: the other pieces of each row's prompt.
        note: what is not known of the prompts.
    """

    id: str
    model: str
    quantization: str
    dtype: str
    prompt: str
    decoding: str
    against: str
    observes: str
    label: str
    seed: int | None
    values: tuple[tuple[Number, ...], ...]
    tokens: tuple[int, ...]
    surprisal: tuple[str, ...]
    answers: tuple[tuple[tuple[int, str, int], ...], ...]
    faults: tuple[tuple[str, ...], ...]
    shared: tuple[tuple[str, int, int], ...]
    own: tuple[tuple[tuple[str, int, int], ...], ...]
    note: str = ""


@dataclass(frozen=True)
class ExplorerRow:
    """A test row."""

    id: str
    instruction: str
    output: str
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Explorer:
    """What a reader needs to look into single rows."""

    rows: tuple[ExplorerRow, ...]
    cells: tuple[ExplorerCell, ...]
    strings: tuple[str, ...]
    alphabet: str
    step: float


@dataclass(frozen=True)
class Report:
    """Everything that a report says. The first section is the headline metric's."""

    adaptbench: str
    task: TaskRecord
    control: Control
    sections: tuple[Section, ...]
    cells: tuple[CellFacts, ...]
    groups: tuple[Group, ...]
    models: tuple[ModelFacts, ...]
    prompts: tuple[PromptTemplate, ...]
    seeds: tuple[int, ...]
    scorers: tuple[str, ...]
    trainings: tuple[Training, ...]
    degeneration: tuple[Degeneration, ...]
    samples: tuple[SampleRow, ...]
    writings: tuple[WritingFacts, ...]
    decodings: tuple[DecodingSpec, ...]
    choices: tuple[tuple[str, ChoiceRecord], ...]
    judges: tuple[JudgeFacts, ...]
    duels: tuple[Duel, ...]
    strengths: tuple[Strength, ...]
    corrected: tuple[CorrectedFacts, ...]
    explorer: Explorer
    recipe: Mapping[str, Any]
    trial: bool
    runs: tuple[str, ...]
    precision: tuple[PrecisionFacts, ...]
    unshared: tuple[Unshared, ...]
    halved: tuple[str, ...]
    environments: tuple[Environment, ...]
    noise: tuple[Noise, ...]
    missing: tuple[Missing, ...]
    engine: EngineRecord | None = None
    so_far: bool = False  # the run was going on when this was written
    gate: Gate | None = None
    warnings: tuple[str, ...] = ()  # of the rows, the models, the adapters and the prompts

    @property
    def headline(self) -> Section:
        """The first metric's section."""
        return self.sections[0]

    @property
    def conclusions(self) -> list[str]:
        """The sentences of all metrics, the headline's first."""
        return [sentence for section in self.sections for sentence in section.conclusions]

    @property
    def decodings_on_test(self) -> list[str]:
        """Decodings that are compared on the test rows, where there are several to pick from."""
        named = (one for one in self.groups if one.strategy != GIVEN)
        names = dict.fromkeys(one.decoding for one in named if one.decoding)
        return list(names) if len(names) > 1 else []

    @property
    def chosen_on_test(self) -> list[Training]:
        """Training runs whose checkpoint was chosen by the rows that it is then scored on."""
        return [entry for entry in self.trainings if entry.select_on == "test"]


ZERO_SHOT = say("zero-shot")
GIVEN = "predictions"  # the strategy of answers in files
# Field → what it is called, which in English is the same.
FIELDS: Mapping[str, str] = {
    one: one
    for one in (
        say("model"),
        say("quantization"),
        say("dtype"),
        say("prompt"),
        say("decoding"),
        say("against"),
    )
}
VARYING = tuple(map(str, FIELDS))
NAMED = ("model", "quantization", "dtype", "prompt", "label", "against", "decoding")


def called(control: Control) -> str:
    """The control's name in sentences."""
    return ZERO_SHOT if control.title == ZERO_SHOT else control.title


def named(one: Group | CellFacts | ExplorerCell) -> tuple[str, ...]:
    """What cells that differ only in their seed have in common, and no others."""
    return tuple(getattr(one, name) for name in NAMED)
