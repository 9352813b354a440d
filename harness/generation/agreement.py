"""How far answers of half precision depend on the batch that they were written in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.core import DecodingSpec
from harness.generation.engine import write
from harness.models.encoding import Encoded
from harness.models.loading import LoadedModel
from harness.records import Agreement, Answer


def agreement(
    loaded: LoadedModel,
    rows: Sequence[Encoded],
    decoding: DecodingSpec,
    seed: int,
    answers: Sequence[Answer],
    progress: Callable[[int], None],
) -> Agreement:
    """Write each row again alone, and compare.

    Args:
        loaded: the model that wrote.
        rows: the first rows of those that were written.
        decoding: by which rules.
        seed: of drawing.
        answers: what was written together, of these rows first.
        progress: called with the number of rows done so far.

    Returns:
        How many rows have another answer, and the first place where one differs.
    """
    firsts: list[int] = []
    draws = decoding.num_return_sequences
    for place, row in enumerate(rows):
        alone, _ = write(loaded, [row], decoding, seed, lambda done: None)
        together = answers[place * draws : (place + 1) * draws]
        found = [
            _first_difference(one.tokens, other.tokens)
            for one, other in zip(alone, together, strict=True)
            if one.tokens != other.tokens
        ]
        firsts += [min(found)] if found else []
        progress(place + 1)
    return Agreement(len(rows), len(firsts), min(firsts, default=None))


def _first_difference(one: Sequence[int], other: Sequence[int]) -> int:
    """The place of the first token that is not the same."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
