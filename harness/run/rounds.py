"""The order in which a run is measured: one seed of everything, then the next seed of everything.

After one seed every strategy stands in the table, so a long run says early what it is going to say;
and what needs no training stands in a table before the first adapter is trained. Each model's
rounds stand together, because loading a large model takes long; judges come last, when all answers
are there.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from harness.run.case import Case

# A report so far takes a second or two; a round that took less than this is soon followed by the
# next one.
WORTH_A_REPORT = 20.0  # seconds


def in_rounds(cases: Sequence[Case]) -> tuple[tuple[Case, ...], ...]:
    """Put cases into rounds, each in the order that they come in.

    A case without a seed stands in its model's first round; the first adapters are the second.
    """
    models = list(dict.fromkeys(case.model_name for case in cases))
    seeds = list(dict.fromkeys(case.seed for case in cases if case.seed is not None))
    rounds: dict[tuple[bool, int, int, bool], list[Case]] = {}
    for case in cases:
        if case.judging is not None:
            turn = (True, 0, 0, False)
        else:
            rank = 0 if case.seed is None else seeds.index(case.seed)
            trained = rank == 0 and case.training is not None
            turn = (False, models.index(case.model_name), rank, trained)
        rounds.setdefault(turn, []).append(case)
    return tuple(tuple(rounds[turn]) for turn in sorted(rounds))


class Rounds:
    """The rounds of a run that are still to come.

    Args:
        cases: what is measured.
    """

    def __init__(self, cases: Sequence[Case]) -> None:
        self._waiting = [{case.id for case in some} for some in in_rounds(cases)]
        self._reported = time.monotonic()

    def ended(self, over: Collection[str], computed: Collection[str]) -> bool:
        """Whether a round ended just now that is worth a report, and another one is to come.

        Args:
            over: ids of the cells that are over.
            computed: of those that were computed in this run.
        """
        ended = False
        while self._waiting and self._waiting[0] <= set(over):
            ended |= bool(self._waiting.pop(0) & set(computed))
        patient = time.monotonic() - self._reported >= WORTH_A_REPORT
        return ended and bool(self._waiting) and patient

    def reported(self) -> None:
        """Hear that a report was written."""
        self._reported = time.monotonic()
