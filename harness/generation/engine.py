"""Writing answers: rows in batches that never matter to what is written.

What the rows begin with goes through the model once (:mod:`harness.scoring.prefix`), their rests in
parts, and then one token of every row at a time; rows that have ended leave the batch. A choice so
near to another one that the batch's rounding could make it is made again from the row alone.
"""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.core import DecodingSpec
from harness.errors import ModelError
from harness.generation import beams
from harness.generation.alone import plain_logits, write_alone
from harness.generation.attention import writing_attention
from harness.generation.forward import Wave
from harness.generation.lines import Line, Task
from harness.generation.noise import key
from harness.generation.sampling import Choice, choose
from harness.generation.stops import Stops, room
from harness.generation.unpacked import unpacked
from harness.generation.ways import Way, does_not_fit, find_way
from harness.models.encoding import Encoded
from harness.models.loading import LoadedModel
from harness.models.memory import free, is_out_of_memory
from harness.records import Answer, Writing
from harness.scoring.fast import OutOfMemoryWarning

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Load:
    """How much may stand in one batch; a single row is never refused.

    Attributes:
        kept: bytes of keys and values.
        logits: rows × vocabulary.
        part: tokens that go through the model together before any is written.
    """

    kept: int
    logits: int
    part: int


LOADS = {
    "cpu": Load(kept=1 << 30, logits=1 << 23, part=512),
    "cuda": Load(kept=1 << 33, logits=1 << 26, part=1 << 13),
}
LEAVING = 8  # rows leave a batch once an eighth of it has ended: leaving costs a copy of the rest


def write(
    loaded: LoadedModel,
    rows: Sequence[Encoded],
    decoding: DecodingSpec,
    seed: int,
    progress: Callable[[int], None],
    load: Load | None = None,
) -> tuple[tuple[Answer, ...], Writing]:
    """Let the model answer each row after its context.

    In float32 a row's answer depends on the row, the decoding and the seed: not on the other rows,
    their order, or how many stand in a batch.

    Args:
        loaded: a model in eval mode.
        rows: encoded rows with ids of their own; their answers are not shown.
        decoding: by which rules; nothing of the model's own generation configuration counts.
        seed: of drawing.
        progress: called with the number of rows done so far.
        load: what fits into a batch; by default, what suits the device.

    Returns:
        Every row's answer, in the order of the rows, its draws behind each other; and how they were
        written.

    Raises:
        PromptError: a row leaves no room for a token.
        ModelError: a single row does not fit into memory, or logits are not finite.
    """
    import torch

    stops = Stops(loaded.encoder.tokenizer, loaded.encoder.ends, decoding.stop)
    task = Task(loaded, decoding, stops, seed)
    limits = [room(loaded, row, decoding) for row in rows]
    found: dict[int, list[Answer]] = {}
    with torch.inference_mode(), writing_attention(loaded.model), unpacked(loaded):
        way, refused = find_way(loaded, rows, max(limits))
        if way is None:
            writing = Writing(refused=refused, batches=len(rows), alone=len(rows))
            for index, row in enumerate(rows):
                found[index] = _alone(task, row, limits[index])
                progress(len(found))
        else:
            task.near = way.near
            writing = Writing(
                way.sharing, way.prefix.length if way.prefix else 0, refused, way.padded
            )
            writing = _together(task, rows, limits, way, load, found, progress, writing)
    answers = tuple(answer for index in range(len(rows)) for answer in found[index])
    _check_finite(loaded, answers)
    return answers, replace(writing, recomputed=task.recomputed)


def _check_finite(loaded: LoadedModel, answers: Sequence[Answer]) -> None:
    """Refuse answers whose tokens were chosen by logits that are not finite: they mean nothing."""
    for one in answers:
        for place, logprob in enumerate(one.logprobs, start=1):
            if not math.isfinite(logprob):
                raise ModelError(
                    f"{loaded.spec.name}: row {one.id!r}: the probability of token {place} of the "
                    f"answer is not finite ({logprob}), so nothing can be chosen by it; weights "
                    f"that are NaN or overflow do this (float16 often: try --dtype=bfloat16)"
                )


def _together(
    task: Task,
    rows: Sequence[Encoded],
    limits: Sequence[int],
    way: Way,
    load: Load | None,
    found: dict[int, list[Answer]],
    progress: Callable[[int], None],
    writing: Writing,
) -> Writing:
    """Write all rows in batches; one that does not fit into memory is halved."""
    load = load or LOADS[task.loaded.device.type]
    waiting = deque(plan_batches(task, rows, max(limits), way, load))
    batches = halvings = 0
    while waiting:
        batch = waiting.popleft()
        some = [(rows[index], limits[index]) for index in batch]
        answers = _written_if_it_fits(task, some, way, load)
        if answers is not None:
            found.update(zip(batch, answers, strict=True))
            batches += 1
            progress(len(found))
            continue
        if len(batch) == 1:
            raise ModelError(does_not_fit(task.loaded, rows[batch[0]]))
        if not halvings:
            warnings.warn(
                OutOfMemoryWarning(
                    f"{task.loaded.spec.name}: writing {len(batch)} rows together did not fit into "
                    f"memory; batches are halved"
                ),
                stacklevel=4,
            )
        halvings += 1
        waiting = deque(halved([batch, *waiting], (len(batch) + 1) // 2))
    return replace(writing, batches=batches, halved=halvings)


def halved(batches: Sequence[tuple[int, ...]], most: int) -> list[tuple[int, ...]]:
    """The batches, those cut into parts that have more than ``most`` rows."""
    return [
        batch[first : first + most] for batch in batches for first in range(0, len(batch), most)
    ]


def plan_batches(
    task: Task, rows: Sequence[Encoded], limit: int, way: Way, load: Load
) -> list[tuple[int, ...]]:
    """Group row numbers, longest first, within the load."""
    model, decoding = task.loaded.model, task.decoding
    copies = max(decoding.num_beams, decoding.num_return_sequences)
    before = way.prefix.length if way.prefix else 0
    copied = 0 if way.in_place else before
    most = max(1, load.logits // model.get_output_embeddings().weight.shape[0] // copies)
    token = _bytes_of_a_token(task.loaded) * copies
    batches: list[list[int]] = []
    for index in sorted(range(len(rows)), key=lambda index: -len(rows[index].context)):
        first = rows[batches[-1][0]] if batches else rows[index]
        columns = len(first.context) - before + copied + limit
        full = not batches or len(batches[-1]) >= most
        full = full or (len(batches[-1]) + 1) * columns * token > load.kept
        if full or (not way.padded and len(first.context) != len(rows[index].context)):
            batches.append([])
        batches[-1].append(index)
    return [tuple(batch) for batch in batches]


def _bytes_of_a_token(loaded: LoadedModel) -> int:
    """Bytes of a token's keys and values, at most."""
    config = loaded.model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None) or 1
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    layers: int = config.num_hidden_layers
    return int(2 * layers * key_heads * size * loaded.model.dtype.itemsize)


def _written_if_it_fits(
    task: Task, some: Sequence[tuple[Encoded, int]], way: Way, load: Load
) -> list[list[Answer]] | None:
    """Each row's answers, or None where the batch does not fit into memory."""
    rows, limit = [row for row, _ in some], max(limit for _, limit in some)
    try:
        wave = Wave(task.loaded, rows, way.prefix, limit, way.in_place, load.part)
        if task.decoding.num_beams > 1:
            return [[answer] for answer in beams.search(task, wave, some)]
        return _write(task, wave, some)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    free()  # outside of the handler: the error holds on to the tensors of the call
    return None


def _write(task: Task, wave: Wave, some: Sequence[tuple[Encoded, int]]) -> list[list[Answer]]:
    """Write a batch token by token."""
    import torch

    draws = task.decoding.num_return_sequences
    lines = [Line(row, draw, limit) for row, limit in some for draw in range(draws)]
    logits = wave.start()
    if draws > 1:
        copies = torch.arange(len(some), device=logits.device).repeat_interleave(draws)
        wave.keep(copies)
        logits = logits[copies]
    live = list(lines)  # the rows of the batch; those that have ended are still computed
    while True:
        choice = _choice(task, live, logits)
        for line, token, logprob in zip(
            live, choice.tokens.tolist(), choice.logprobs.tolist(), strict=True
        ):
            if not line.ended:
                line.add(token, logprob, task.stops)
        going = [index for index, line in enumerate(live) if not line.ended]
        if not going:
            break
        tokens = choice.tokens
        if (len(live) - len(going)) * LEAVING >= len(live):
            kept = torch.tensor(going, device=tokens.device)
            wave.keep(kept)
            tokens, live = tokens[kept], [live[index] for index in going]
        logits = wave.step(tokens)
    done = iter(lines)
    return [[next(done).answer(task.stops) for _ in range(draws)] for _ in some]


def _choice(task: Task, lines: Sequence[Line], logits: Tensor) -> Choice:
    """Each row's next token; from the row alone where another one is near."""
    choice = _chosen(task, lines, logits, task.near)
    for index in choice.near.nonzero().flatten().tolist():
        line = lines[index]
        if line.ended:
            continue
        alone = plain_logits(task.loaded, line.row, [line.tokens])[0, -1:]
        final = _chosen(task, [line], alone, 0.0)
        choice.tokens[index], choice.logprobs[index] = final.tokens[0], final.logprobs[0]
        task.recomputed += 1
    return choice


def _chosen(task: Task, lines: Sequence[Line], logits: Tensor, near: float) -> Choice:
    steps = [len(line.tokens) for line in lines]
    keys = [
        key(task.seed, line.row.prompt.id, line.draw, step) if task.decoding.do_sample else 0
        for line, step in zip(lines, steps, strict=True)
    ]
    ends = sorted(task.stops.ends)
    return choose(logits, [line.tokens for line in lines], task.decoding, ends, keys, near)


def _alone(task: Task, row: Encoded, limit: int) -> list[Answer]:
    """Write one row's answers by transformers' own loop."""
    if task.decoding.num_beams > 1:
        return [beams.search_alone(task, row, limit)]
    found = []
    for draw in range(task.decoding.num_return_sequences):
        line = Line(row, draw, limit)

        def next_token(tokens: Sequence[int], logits: Tensor, line: Line = line) -> int:
            choice = _chosen(task, [line], logits.float(), 0.0)
            token = int(choice.tokens[0])
            line.add(token, float(choice.logprobs[0]), task.stops)
            return task.loaded.encoder.eos if line.ended else token

        write_alone(task.loaded, row, limit, next_token, task.loaded.encoder.eos)
        found.append(line.answer(task.stops))
    return found
