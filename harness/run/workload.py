"""How much a model computes for some rows, by their lengths alone: as the scorers do it.

The batches are those that scoring, training and writing make, so that padding counts and what rows
share is counted once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.core import DecodingSpec, TrainingSettings, TrainingSpec
from harness.run.forecast import Counts
from harness.run.shape import BYTES, Shape
from harness.scoring.batches import BUDGETS, even, plan_batches
from harness.scoring.sharing import MIN_PREFIX
from harness.training.collation import even_batches
from harness.training.lanes import fitting, takes_turns
from harness.training.schedule import Part, Row, Step, plan_steps


@dataclass(frozen=True)
class Rows:
    """Lengths of encoded rows, in tokens.

    Attributes:
        contexts: what stands before each answer.
        answers: each answer with its end.
        shared: what all contexts begin with.
    """

    contexts: tuple[int, ...]
    answers: tuple[int, ...]
    shared: int = 0

    @property
    def lengths(self) -> list[int]:
        return [a + b for a, b in zip(self.contexts, self.answers, strict=True)]

    @property
    def prefix(self) -> int:
        """What is computed once for all rows."""
        return self.shared if len(self.contexts) > 1 and self.shared >= MIN_PREFIX else 0


@dataclass(frozen=True)
class Reading:
    """Forwards over some rows, and the largest batch among them.

    Attributes:
        counts: of all.
        logits: positions of the largest batch.
        width: tokens of the largest batch.
        kept: tokens whose keys are kept for all batches.
        batches: how many there are, of which cores may compute one each.
    """

    counts: Counts
    logits: float = 0.0
    width: float = 0.0
    kept: float = 0.0
    batches: int = 1

    def __add__(self, other: Reading) -> Reading:
        return Reading(
            self.counts + other.counts,
            max(self.logits, other.logits),
            max(self.width, other.width),
            max(self.kept, other.kept),
            max(self.batches, other.batches),
        )


def batch(rows: int, width: float, before: float = 0.0, scored: float = 0.0) -> Counts:
    """One forward of ``rows`` rows of ``width`` tokens, each after ``before`` shared ones."""
    tokens = rows * width
    return Counts(1, tokens, tokens * (before + (width + 1) / 2), scored)


def whole(length: int, answer: int) -> Counts:
    """One row alone, from its first token on."""
    return batch(1, length, scored=answer)


def read(rows: Rows, vocabulary: int, device: str, scorer: str = "fast") -> Reading:
    """What scoring the rows takes.

    Args:
        rows: their lengths.
        vocabulary: of the model.
        device: ``cpu`` or ``cuda``.
        scorer: ``fast``; or ``reference``: one row at a time, and logits of every position.
    """
    lengths = rows.lengths
    if scorer == "reference":
        counts = sum((whole(length, length) for length in lengths), Counts())
        return Reading(counts, max(lengths), max(lengths))
    skipped = rows.prefix
    budget = BUDGETS[device]
    batches = plan_batches(
        [length - skipped for length in lengths], rows.answers, skipped, vocabulary, budget
    )
    if device == "cpu":
        batches = [even(one, math.inf) for one in batches]
    counts = batch(1, skipped) if skipped else Counts()
    logits = [sum(rows.answers[row] for row in one.rows) for one in batches]
    for one, scored in zip(batches, logits, strict=True):
        counts += batch(len(one.rows), one.width, skipped, scored)
    widest = max((len(one.rows) * one.width for one in batches), default=0)
    return Reading(counts, max(logits, default=0), max(widest, skipped), skipped, len(batches))


def checks(rows: Rows) -> Counts:
    """What it takes to see that a prefix is shared rightly: two rows, whole and without it."""
    found = Counts()
    for pick in (min, max):
        place = pick(range(len(rows.contexts)), key=rows.lengths.__getitem__)
        length, answer = rows.lengths[place], rows.answers[place]
        found += whole(length, answer)
        found += batch(1, length - rows.prefix, rows.prefix, answer)
    return found


@dataclass(frozen=True)
class Training:
    """The steps of a training run.

    Attributes:
        steps: how many.
        counts: forwards with their backward passes.
        largest: tokens of the batches that are computed at a time, at most.
        logits: answer tokens of these, at most.
    """

    steps: int
    counts: Counts
    largest: int
    logits: int


def train(training: TrainingSpec, rows: Rows, longest: int | None, device: str) -> Training:
    """What training takes; rows that are too long are left out.

    Args:
        training: the rows and settings.
        rows: lengths of ``training.examples``.
        longest: tokens that the model can read.
        device: ``cpu`` or ``cuda``.
    """
    settings, lengths = training.settings, rows.lengths
    limit = min((n for n in (settings.max_length, longest) if n is not None), default=None)
    fits = [limit is None or length <= limit for length in lengths]
    names = [example.id for example in training.examples]
    numbers = {name: place for place, name in enumerate(names) if fits[place]}
    parts = []
    for stage in training.curriculum:
        kept = tuple(numbers[one.id] for one in stage.examples if one.id in numbers)
        epochs = stage.num_train_epochs or settings.num_train_epochs
        if kept:
            parts.append(Part(kept, epochs, stage.learning_rate or settings.learning_rate))
    if not parts:
        return Training(0, Counts(), 0, 0)
    described = [Row(name, length) for name, length in zip(names, lengths, strict=True)]
    steps = plan_steps(described, parts, settings)
    counts, largest, logits = Counts(), 0, 0
    for step in steps:
        batches = _batches(step, lengths, device)
        sizes = [len(one) * max(lengths[row] for row in one) for one in batches]
        scored = [sum(rows.answers[row] for row in one) for one in batches]
        for one, size, answer in zip(batches, sizes, scored, strict=True):
            counts += batch(len(one), size / len(one), scored=answer)
        together = 1 if device != "cpu" or takes_turns(settings) else fitting(sizes)
        largest = max(largest, sum(sorted(sizes)[-together:]))
        logits = max(logits, sum(sorted(scored)[-together:]))
    return Training(len(steps), counts, largest, logits)


def _batches(step: Step, lengths: Sequence[int], device: str) -> Sequence[Sequence[int]]:
    """The batches of a step as they go through the model, as collation makes them."""
    if device != "cpu":
        return step.batches
    own = [row for one in step.batches for row in one]
    return [[own[place] for place in one] for one in even_batches([lengths[row] for row in own])]


def evaluations(settings: TrainingSettings, steps: int) -> int:
    """How often a training run is evaluated, the time before its first step included."""
    from harness.training.schedule import at_steps

    due = at_steps(settings.eval_steps, steps)
    return len(due) + 1 if due else 0


@dataclass(frozen=True)
class Writing:
    """What writing answers takes, if every answer is as long as it may be.

    Attributes:
        read: what stands before the answers.
        counts: of writing, a token of each row at a time.
        rows: rows of the largest batch, each beam and draw counted.
        kept: bytes of keys and values of the largest batch.
    """

    read: Reading
    counts: Counts
    rows: int
    kept: float


def write(rows: Rows, decoding: DecodingSpec, shape: Shape, dtype: str, device: str) -> Writing:
    """What writing an answer to each row takes, at most.

    Args:
        rows: the lengths of what stands before.
        decoding: how answers are written.
        shape: of the model.
        dtype: of its arithmetic.
        device: ``cpu`` or ``cuda``.
    """
    from harness.generation.engine import LOADS

    load, copies = LOADS[device], max(decoding.num_beams, decoding.num_return_sequences)
    skipped, token = rows.prefix, shape.kept(dtype) * copies
    most = max(1, load.logits // shape.vocabulary // copies)
    limits = [_limit(decoding, context) for context in rows.contexts]
    batches: list[list[int]] = []
    for place in sorted(range(len(limits)), key=lambda row: -rows.contexts[row]):
        columns = rows.contexts[batches[-1][0] if batches else place] - skipped + max(limits)
        full = not batches or len(batches[-1]) >= most
        if full or (len(batches[-1]) + 1) * columns * token > load.kept:
            batches.append([])
        batches[-1].append(place)
    before = Reading(batch(1, skipped), 0, skipped, skipped) if skipped else Reading(Counts())
    counts, largest, kept = Counts(), 0, 0.0
    for one in batches:
        wide, steps, count = rows.contexts[one[0]] - skipped, max(limits[r] for r in one), len(one)
        parts = max(1, round(count * wide / load.part))
        prefill = replace(batch(count, wide, skipped, count), calls=parts)
        before += Reading(prefill, count, min(count * wide, max(load.part, wide)), skipped)
        seen = skipped + wide + steps / 2
        written = count * copies * steps
        moved = (wide + steps / 2) * shape.kept(dtype) * written if decoding.num_beams > 1 else 0
        counts += Counts(steps, written, written * seen, written, moved)
        largest = max(largest, count * copies)
        kept = max(kept, count * (wide + steps) * token)
    return Writing(before, counts, largest, kept)


def _limit(decoding: DecodingSpec, context: int) -> int:
    if decoding.max_length is None:
        return decoding.max_new_tokens
    return max(1, decoding.max_length - context)


def logits_bytes(positions: float, shape: Shape, dtype: str, device: str) -> float:
    """Bytes of a batch's logits, and of what turns a part of them into losses at a time."""
    part = min(BUDGETS[device].softmax, positions * shape.vocabulary)
    return positions * shape.vocabulary * BYTES.get(dtype, 4) + 4 * part * 4


def layer_bytes(tokens: float, shape: Shape, dtype: str) -> float:
    """Bytes of the states of a batch inside one layer: nothing is kept for a backward pass."""
    inner = shape.linear / max(1, shape.layers) / max(1, shape.hidden)
    return tokens * (6 * shape.hidden + 2 * inner) * BYTES.get(dtype, 4)
