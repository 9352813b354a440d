"""The order in which a run is measured: one seed of everything, then the next seed of everything.

After the first round every strategy stands in the table, so a long run says early what it is going
to say. Each model's rounds stand together, because loading a large model takes long; judges come
last, when all answers are there.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.run.case import Case


def in_rounds(cases: Sequence[Case]) -> tuple[tuple[Case, ...], ...]:
    """Put cases into rounds, each in the order that they come in.

    A case without a seed stands in its model's first round.
    """
    models = list(dict.fromkeys(case.model_name for case in cases))
    seeds = list(dict.fromkeys(case.seed for case in cases if case.seed is not None))
    rounds: dict[tuple[bool, int, int], list[Case]] = {}
    for case in cases:
        if case.judging is not None:
            turn = (True, 0, 0)
        else:
            rank = 0 if case.seed is None else seeds.index(case.seed)
            turn = (False, models.index(case.model_name), rank)
        rounds.setdefault(turn, []).append(case)
    return tuple(tuple(rounds[turn]) for turn in sorted(rounds))
