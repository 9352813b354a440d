"""What a model writes for some test rows, to be looked at beside the numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from harness.core import DecodingSpec, GenerationSettings
from harness.generation.engine import write
from harness.models.encoding import Encoded
from harness.models.loading import LoadedModel
from harness.records import LIMIT, Sample


def generate(
    loaded: LoadedModel,
    rows: Sequence[Encoded],
    settings: GenerationSettings,
    seed: int,
    progress: Callable[[int], None],
) -> tuple[Sample, ...]:
    """Let the model answer each row after its context, up to one of its end tokens.

    Args:
        loaded: a model in eval mode.
        rows: encoded rows; their answers are not shown.
        settings: transformers' generation settings. Nothing of the model's own configuration of
            generation counts but its end tokens.
        seed: of drawing; each row draws from it and its own id, so that no other row matters.
        progress: called with the number of rows done.

    Returns:
        What was written for each row; not finished is what ended at ``max_new_tokens``.

    Raises:
        PromptError: a row leaves no room for a token.
        ModelError: a single row does not fit into memory.
    """
    if not rows:
        return ()
    answers, _ = write(loaded, rows, _decoding(settings), seed, progress)
    return tuple(Sample(one.id, one.text, one.n_tokens, one.ended != LIMIT) for one in answers)


def _decoding(settings: GenerationSettings) -> DecodingSpec:
    decoding = DecodingSpec(
        max_new_tokens=settings.max_new_tokens, repetition_penalty=settings.repetition_penalty
    )
    if not settings.do_sample:
        return decoding
    return replace(
        decoding,
        name="sample",
        do_sample=True,
        temperature=settings.temperature,
        top_p=settings.top_p,
    )
