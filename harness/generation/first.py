"""The log-probabilities of some tokens right after each context: one forward for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from harness.core import DecodingSpec
from harness.errors import ModelError
from harness.generation.alone import plain_logits
from harness.generation.attention import writing_attention
from harness.generation.engine import LOADS, halved, plan_batches
from harness.generation.forward import Wave
from harness.generation.lines import Task
from harness.generation.stops import Stops
from harness.generation.unpacked import unpacked
from harness.generation.ways import Way, does_not_fit, find_way
from harness.models.encoding import Encoded
from harness.models.loading import LoadedModel
from harness.models.memory import free, is_out_of_memory

if TYPE_CHECKING:
    from torch import Tensor

ONE = DecodingSpec(max_new_tokens=1)


def first_logprobs(
    loaded: LoadedModel,
    rows: Sequence[Encoded],
    tokens: Sequence[int],
    progress: Callable[[int], None],
) -> list[list[float]]:
    """How likely each token is to come first after each row's context, in nats.

    Args:
        loaded: a model in eval mode.
        rows: their contexts are read, their answers are not.
        tokens: ids.
        progress: called with the number of rows done so far.

    Returns:
        For each row, the log-probability of each token.

    Raises:
        ModelError: a single row does not fit into memory.
    """
    import torch

    task = Task(loaded, ONE, Stops(loaded.encoder.tokenizer, loaded.encoder.ends), 0)
    found: dict[int, list[float]] = {}
    with torch.inference_mode(), writing_attention(loaded.model), unpacked(loaded):
        way, _ = find_way(loaded, rows, 1)
        if way is None:
            for place, row in enumerate(rows):
                found[place] = _picked(plain_logits(loaded, row, [[]])[0, -1:], tokens)[0]
                progress(len(found))
            return [found[place] for place in range(len(rows))]
        waiting = plan_batches(task, rows, 1, way, LOADS[loaded.device.type])
        while waiting:
            batch = waiting.pop(0)
            logits = _logits(loaded, [rows[place] for place in batch], way)
            if logits is None:
                if len(batch) == 1:
                    raise ModelError(does_not_fit(loaded, rows[batch[0]]))
                waiting = halved([batch, *waiting], (len(batch) + 1) // 2)
                continue
            found.update(zip(batch, _picked(logits, tokens), strict=True))
            progress(len(found))
    return [found[place] for place in range(len(rows))]


def _picked(logits: Tensor, tokens: Sequence[int]) -> list[list[float]]:
    picked: list[list[float]] = logits.double().log_softmax(-1)[:, list(tokens)].tolist()
    return picked


def _logits(loaded: LoadedModel, rows: Sequence[Encoded], way: Way) -> Tensor | None:
    """The logits after each context, or None where they do not fit into memory."""
    part = LOADS[loaded.device.type].part
    try:
        return Wave(loaded, rows, way.prefix, 1, way.in_place, part).start()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    free()
    return None
