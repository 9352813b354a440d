"""What judging is going to take, before anything is asked: calls and tokens of each cell.

Of answers that are stored, the questions are counted as they are; of answers that are still to be
written, a question for each row and draw is counted, and the longest answer that may be written.
Tokens are estimated, since an endpoint's tokenizer is not here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core import DecodingSpec
from harness.errors import OptionError
from harness.judging.endpoint import Limits, estimated_tokens
from harness.judging.probes import probes
from harness.run.asking import question
from harness.run.case import Case, Judging
from harness.run.examining import EXAMINED, WATCHED

if TYPE_CHECKING:
    from harness.run.bench import Bench

PROBING = 8  # calls of a probe, about
REPLY = 60  # tokens of a usual reply


@dataclass(frozen=True)
class Estimate:
    """What judging a cell takes.

    Attributes:
        name: of the cell, or what else is asked.
        calls: questions that were not answered yet.
        tokens: read and written, about.
        exact: whether its answers are known, so that the calls are exact.
    """

    name: str
    calls: int
    tokens: int
    exact: bool = True


def estimates(bench: Bench) -> list[Estimate]:
    """What the cells of a run take that are still to be judged, and examining their judges."""
    return [estimate for _, estimate in of_judging(bench, bench.plan.cases)]


def of_judging(bench: Bench, cases: Iterable[Case]) -> list[tuple[Case, Estimate]]:
    """The same of some cases, each with the case that it is for; an exam with the first."""
    found: list[tuple[Case, Estimate]] = []
    examined: set[str] = set()
    for case in cases:
        judging = case.judging
        if judging is None:
            continue
        if judging.rubric.name not in examined:
            examined.add(judging.rubric.name)
            found.append((case, _of_exam(bench, case, judging)))
        if bench.stored(case) is None:
            found.append((case, _of_case(bench, case, judging)))
    return found


def check_budget(bench: Bench) -> None:
    """See that an endpoint's budget of calls and tokens is enough, before anything is spent.

    Raises:
        OptionError: it is not.
    """
    options = bench.plan.options
    remote = any(case.judging is not None and case.judging.remote for case in bench.plan.cases)
    found = estimates(bench) if remote and (options.judge_calls or options.judge_tokens) else []
    for flag, allowed, needed in (
        ("judge-calls", options.judge_calls, sum(one.calls for one in found)),
        ("judge-tokens", options.judge_tokens, sum(one.tokens for one in found)),
    ):
        if allowed is not None and needed > allowed:
            raise OptionError(
                f"--{flag}={allowed}: judging takes about {needed:,}, and nothing was spent yet; "
                f"allow as many, judge fewer rows (--limit), or see where they go "
                f"(--judge-dry-run)"
            )


def _of_exam(bench: Bench, case: Case, judging: Judging) -> Estimate:
    """An examination; where it was taken already, looking again at an endpoint."""
    name = f"examination of {judging.source.name} by {judging.rubric.name}"
    rows = [row for row in bench.plan.task.examples if row.output][:EXAMINED]
    if len(rows) < 2:
        return Estimate(name, 0, 0)
    orders = 2 if judging.rubric.kind == "pairwise" else 1
    if bench.examining.known(case, judging) is not None:
        watched = 2 * WATCHED if judging.remote else 0
        return Estimate(f"watching {judging.source.name}", PROBING + watched, 2 * watched * REPLY)
    texts = [
        "".join(span.text for span in question(judging.rubric, row, (text, row.output)[:orders])[1])
        for values in probes(rows).values()
        for row, text in zip(rows, values, strict=True)
    ]
    calls = orders * len(texts) + len(rows) + PROBING
    tokens = orders * sum(map(estimated_tokens, texts)) + calls * REPLY
    return Estimate(name, calls, tokens)


def _of_case(bench: Bench, case: Case, judging: Judging) -> Estimate:
    sides = [one for one in (judging.answered, judging.other) if one is not None]
    stored = [bench.stored(one) for one in sides]
    ours, other = ([*stored, None])[:2]
    if ours is not None and None not in stored:
        questions = bench.judges.questions(case, (ours, other))
        places = bench.jurors.waiting(case, judging, questions)
        texts = ["".join(span.text for span in questions[place][1]) for place in places]
        tokens = sum(map(estimated_tokens, texts)) + REPLY * len(texts)
        return Estimate(case.id, len(texts), tokens)
    orders = len(sides)
    written = orders * _longest(case.decoding)
    draws = case.decoding.num_return_sequences if case.decoding else 1
    texts_of = [
        question(judging.rubric, row, ("", "")[:orders])[1] for row in bench.plan.task.examples
    ]
    each = [
        estimated_tokens("".join(s.text for s in spans)) + written + REPLY for spans in texts_of
    ]
    return Estimate(case.id, orders * draws * len(each), orders * draws * sum(each), exact=False)


def _longest(decoding: DecodingSpec | None) -> int:
    return 0 if decoding is None else decoding.max_new_tokens


def lines(found: Sequence[Estimate], limits: Limits) -> list[str]:
    """What a dry run says: each estimate, all of them, and what is allowed."""
    shown = [
        f"{one.name}: {one.calls:,} calls, about {one.tokens:,} tokens"
        + ("" if one.exact else " at most; its answers are not written yet")
        for one in found
    ]
    calls, tokens = (sum(getattr(one, name) for one in found) for name in ("calls", "tokens"))
    allowed = [
        f"{value:,} {what}"
        for value, what in ((limits.calls, "calls"), (limits.tokens, "tokens"))
        if value is not None
    ]
    budget = f"; allowed: {', '.join(allowed)}" if allowed else ""
    return [*shown, f"In all: {calls:,} calls, about {tokens:,} tokens{budget}. Nothing was asked."]
