"""Beam search as transformers does it: the same answers and the same scores.

A beam's score is the sum of its tokens' log-probabilities, after penalties; a finished beam is
compared by its score divided by its length to the power of ``length_penalty``. At each step the
best continuations of all beams of a row are taken, so many that ``num_beams`` are left when all
others end. Of those among the first ``num_beams``, ends are kept as finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.generation import alone
from harness.generation.forward import Wave
from harness.generation.lines import Line, Task
from harness.generation.sampling import process
from harness.models.encoding import Encoded
from harness.records import Answer

if TYPE_CHECKING:
    from torch import Tensor

NEVER = -1e9  # the score of what is not to be chosen, as in transformers


@dataclass(frozen=True)
class Beam:
    """Tokens and their summed score.

    ``source``: the beam that it goes on from, by its place among the row's.
    """

    score: float
    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    source: int = 0


@dataclass
class Search:
    """The search for one row's answer."""

    task: Task
    row: Encoded
    room: int
    running: list[Beam] = field(init=False)
    finished: list[Beam] = field(default_factory=list)
    improvable: bool = True
    done: bool = False

    def __post_init__(self) -> None:
        unused = self.task.decoding.num_beams - 1
        self.running = [Beam(0.0), *[Beam(NEVER)] * unused]

    def ends(self, beam: Beam) -> bool:
        """Whether an answer ends with its last token."""
        stops = self.task.stops
        return (
            beam.tokens[-1] in stops.ends
            or len(beam.tokens) >= self.room
            or stops.find(beam.tokens) is not None
        )

    def is_near(self, found: Sequence[Beam], near: float) -> bool:
        """Whether rounding could decide which continuations are taken."""
        count = self.task.decoding.num_beams
        going = [beam.score for beam in found if not self.ends(beam)]
        all_of_them = [beam.score for beam in found]
        return any(
            scores[count - 1] - scores[count] < near and scores[count] > NEVER / 2
            for scores in (all_of_them, going)
            if len(scores) > count
        )

    def go_on(self, found: Sequence[Beam]) -> None:
        """Take the best continuations, best first."""
        decoding = self.task.decoding
        count, power = decoding.num_beams, decoding.length_penalty
        length = len(found[0].tokens)
        ended = [self.ends(beam) for beam in found]
        full = len(self.finished) == count
        if self.improvable and not (full and decoding.early_stopping is True):
            new = [
                Beam(beam.score / length**power, beam.tokens, beam.logprobs)
                for beam, end in zip(found[:count], ended, strict=False)
                if end
            ]
            best = sorted([*self.finished, *new], key=lambda beam: -beam.score)
            self.finished = best[:count]
        left = [
            Beam(beam.score + end * NEVER, beam.tokens, beam.logprobs, beam.source)
            for beam, end in zip(found, ended, strict=True)
        ]
        self.running = sorted(left, key=lambda beam: -beam.score)[:count]
        self._look_ahead(length, all(ended))

    def _look_ahead(self, length: int, over: bool) -> None:
        """Find out whether the search is over."""
        decoding = self.task.decoding
        full = len(self.finished) == decoding.num_beams
        if decoding.early_stopping == "never" and decoding.length_penalty > 0:
            length = self.room
        if full:
            possible = self.running[0].score / length**decoding.length_penalty
            self.improvable &= possible > self.finished[-1].score
        self.done = over or not self.improvable or (full and decoding.early_stopping is True)

    def answer(self) -> Answer:
        """The best finished beam."""
        return answer(self.task, self.row, self.room, self.finished[0])


def answer(task: Task, row: Encoded, room: int, beam: Beam) -> Answer:
    """A beam as an answer."""
    line = Line(row, 0, room)
    for token, logprob in zip(beam.tokens, beam.logprobs, strict=True):
        line.add(token, logprob, task.stops)
    return line.answer(task.stops, beam.score)


def search(task: Task, wave: Wave, some: Sequence[tuple[Encoded, int]]) -> list[Answer]:
    """The best answer to each row of a batch.

    Args:
        task: how it is searched.
        wave: the batch, not started.
        some: its rows, and how many tokens may be written for each.
    """
    import torch

    count = task.decoding.num_beams
    searches = [Search(task, row, room) for row, room in some]
    live = searches
    logits = wave.start()
    first = torch.arange(len(some), device=logits.device).repeat_interleave(count)
    wave.keep(first)
    logits = logits[first]
    while True:
        for one, found in zip(live, _continuations(task, live, logits), strict=True):
            if task.near and one.is_near(found, task.near):
                found = _again(task, one)
                task.recomputed += 1
            one.go_on(found)
        order = [
            place * count + beam.source
            for place, one in enumerate(live)
            if not one.done
            for beam in one.running
        ]
        live = [one for one in live if not one.done]
        if not live:
            return [one.answer() for one in searches]
        if order != list(range(len(logits))):
            wave.keep(torch.tensor(order, device=logits.device))
        tokens = [beam.tokens[-1] for one in live for beam in one.running]
        logits = wave.step(torch.tensor(tokens, device=logits.device))


def _continuations(task: Task, live: Sequence[Search], logits: Tensor) -> list[list[Beam]]:
    """The best continuations of each row's beams, best first."""
    import torch

    written = [beam.tokens for one in live for beam in one.running]
    plain = logits.log_softmax(-1)
    changed = process(plain, written, task.decoding, sorted(task.stops.ends))
    scores = torch.tensor(
        [beam.score for one in live for beam in one.running], device=logits.device
    )
    return _best(task, live, plain, changed + scores[:, None])


def _best(task: Task, live: Sequence[Search], plain: Tensor, totals: Tensor) -> list[list[Beam]]:
    """The best of the summed scores ``totals``, shape (rows · beams, vocabulary), of each row."""
    count, size = task.decoding.num_beams, totals.shape[-1]
    keep = min(max(2, 1 + len(task.stops.ends)) * count, count * size)
    values, places = totals.reshape(len(live), count * size).topk(keep, dim=-1)
    logprobs = plain.reshape(len(live), count * size).gather(1, places)
    return [
        [
            Beam(
                score,
                (*one.running[place // size].tokens, place % size),
                (*one.running[place // size].logprobs, logprob),
                place // size,
            )
            for score, place, logprob in zip(*row, strict=True)
        ]
        for one, *row in zip(live, values.tolist(), places.tolist(), logprobs.tolist(), strict=True)
    ]


def _again(task: Task, one: Search) -> list[Beam]:
    """The best continuations of a row's beams, all of it computed from the row alone."""
    import torch

    written = [beam.tokens for beam in one.running]
    plain = alone.plain_logits(task.loaded, one.row, written).log_softmax(-1)
    scores = torch.tensor(
        [0.0 if beam.score > NEVER / 2 else beam.score for beam in one.running],
        device=plain.device,
    )
    for step in range(plain.shape[1]):
        so_far = [tokens[:step] for tokens in written]
        changed = process(plain[:, step], so_far, task.decoding, sorted(task.stops.ends))
        if step < len(written[0]):
            taken = torch.tensor([tokens[step] for tokens in written], device=plain.device)
            scores = scores + changed.gather(1, taken[:, None]).squeeze(1)
    return _best(task, [one], plain[:, -1], changed + scores[:, None])[0]


def search_alone(task: Task, row: Encoded, limit: int) -> Answer:
    """The best answer to a row, by transformers' own loop."""
    ends = sorted(task.stops.ends)
    tokens, score = alone.search_alone(
        task.loaded,
        row,
        task.decoding,
        limit,
        ends,
        lambda scores, written: process(scores, written, task.decoding, ends),
        lambda written: task.stops.find(written) is not None,
    )
    plain = alone.plain_logits(task.loaded, row, [tokens])[0].log_softmax(-1)
    logprobs = [float(plain[step, token]) for step, token in enumerate(tokens)]
    return answer(task, row, limit, Beam(score, tuple(tokens), tuple(logprobs)))
