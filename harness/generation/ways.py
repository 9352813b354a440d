"""In which way this model's rows can be written together, found out by trying.

A way is tried on the shortest and the longest row: their next tokens must have the
log-probabilities that they have in a plain forward. A family that cannot share a prefix, cannot
read it in place or cannot bear padding is refused that way and tried in the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import ModelError, one_line
from harness.generation.alone import plain_logits
from harness.generation.forward import Wave
from harness.generation.sampling import NEAR
from harness.models.attention import attends_here
from harness.models.encoding import Encoded
from harness.models.loading import LoadedModel
from harness.models.memory import is_out_of_memory
from harness.records import COPIED, IN_PLACE, NONE
from harness.scoring.batches import common_prefix
from harness.scoring.prefix import (
    SharedPrefix,
    UnsupportedCacheError,
    empty_cache,
    must_be_alone,
)
from harness.scoring.sharing import MIN_PREFIX

if TYPE_CHECKING:
    from torch import Tensor

TRIED = 3  # tokens that are written to try a way
# What a log-probability may differ by in two ways of computing it, in nats. A mistake is 0.1 and
# more in float32; in half precision single tokens move by up to 0.2, a mistake by 0.8 and more.
ALLOWED = {"float16": 0.25, "bfloat16": 0.6}
ALLOWED_EXACT = 1e-3


@dataclass(frozen=True)
class Way:
    """How rows are written together.

    Attributes:
        sharing: ``in place``, ``copied`` or ``none``: what becomes of their common prefix.
        in_place: whether a row's keys are read where they lie.
        padded: whether rows of different lengths stand in a batch.
        prefix: what they share.
        near: nats between two tokens below which the batch could decide; 0 in half precision,
            where it may.
    """

    sharing: str
    in_place: bool
    padded: bool
    prefix: SharedPrefix | None = None
    near: float = NEAR

    @property
    def name(self) -> str:
        keys = ", keys in place" if self.in_place and self.sharing != IN_PLACE else ""
        return f"{self.sharing}{keys}, {'padded' if self.padded else 'equal lengths'}"


def find_way(
    loaded: LoadedModel, rows: Sequence[Encoded], limit: int
) -> tuple[Way | None, dict[str, str]]:
    """Return the best way that this model gets right, or None, and why the others are not.

    Args:
        loaded: a model in eval mode.
        rows: to be written.
        limit: tokens that may be written for each.

    Raises:
        ModelError: a row does not fit into memory.
    """
    longest = max(len(row.context) for row in rows) + limit
    alone = must_be_alone(loaded.model, longest)
    if loaded.spec.quantization == "int8":
        alone = "int8 layers choose their outlier columns by the batch"
    if alone:
        return None, {"together": alone}
    refused: dict[str, str] = {}
    shared = common_prefix(rows) if len(rows) > 1 else 0
    for way in _candidates(loaded, shared >= MIN_PREFIX, longest):
        try:
            return _tried(loaded, way, rows, shared, longest), refused
        except ModelError:
            raise
        except Exception as error:  # a family's own code, handed a cache it may not know
            if is_out_of_memory(error):
                row = max(rows, key=lambda row: len(row.context))
                raise ModelError(does_not_fit(loaded, row)) from None
            refused[way.name] = one_line(error, 160)
    return None, refused


def does_not_fit(loaded: LoadedModel, row: Encoded) -> str:
    """What is said of a row for which there is no memory."""
    return (
        f"row {row.prompt.id!r}: writing after {len(row.context)} tokens does not fit into memory "
        f"with {loaded.spec.name}, even alone; use a smaller --k, --quant=nf4 or --dtype=bfloat16"
    )


def _candidates(loaded: LoadedModel, share: bool, longest: int) -> list[Way]:
    """Ways in the order of their speed, without those that are known to be wrong."""
    try:
        _, windows = empty_cache(loaded.model)
    except UnsupportedCacheError:
        windows = []
    # A window counts columns: padding between prefix and row would be counted, too.
    narrow = any(window is not None and window < longest for window in windows)
    possible = attends_here(loaded.model)
    ways = [
        Way(sharing, sharing == IN_PLACE, padded)
        for padded in ((False,) if narrow else (True, False))
        for sharing in (IN_PLACE, COPIED)
        if share and (possible or sharing == COPIED)
    ]
    if possible and not narrow:
        ways.append(Way(NONE, True, True))
    return [*ways, Way(NONE, False, True), Way(NONE, False, False)]


def _tried(
    loaded: LoadedModel, way: Way, rows: Sequence[Encoded], shared: int, longest: int
) -> Way:
    """Return the way with its prefix computed, if what it computes is right.

    Raises:
        UnsupportedCacheError: it is not.
    """
    prefix = None
    if way.sharing != NONE:
        prefix = SharedPrefix(loaded.model, rows[0].context[:shared], longest, way.in_place)
    ordered = sorted(rows, key=lambda row: -len(row.context))
    some = list(dict.fromkeys((ordered[0], ordered[-1])))
    if not way.padded:
        some = [row for row in some if len(row.context) == len(some[0].context)]
    checked, error = loaded.written.get(way.name, (0, 0.0))
    if longest > checked:
        error = _difference(loaded, Way(way.sharing, way.in_place, way.padded, prefix), some)
        if not error <= ALLOWED.get(loaded.spec.dtype, ALLOWED_EXACT):
            raise UnsupportedCacheError(f"log-probabilities differ by up to {error:.2g}")
        if not way.padded or len({len(row.context) for row in some}) > 1:
            loaded.written[way.name] = longest, error
    near = 0.0 if loaded.spec.dtype in ALLOWED else max(NEAR, 8 * error)
    sharing = prefix.way if prefix else NONE
    return Way(sharing, way.in_place, way.padded, prefix, near)


def _difference(loaded: LoadedModel, way: Way, rows: Sequence[Encoded]) -> float:
    """Largest difference of a log-probability from that of a plain forward, in nats."""
    import torch

    wave = Wave(loaded, rows, way.prefix, TRIED, way.in_place, part=1 << 30)
    answers = [(row.answer * TRIED)[:TRIED] for row in rows]
    found: list[Tensor] = [wave.start()]
    for step in range(TRIED):
        tokens = torch.tensor([answer[step] for answer in answers], device=loaded.device)
        found.append(wave.step(tokens))
    together = torch.stack(found, dim=1).log_softmax(-1)
    worst = 0.0
    for index, row in enumerate(rows):
        right = plain_logits(loaded, row, [answers[index]])[0].log_softmax(-1)
        if right.isnan().any() and together[index].isnan().any():
            continue
        worst = max(worst, float((together[index] - right).abs().max()))
    return worst
