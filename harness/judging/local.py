"""A judge that is a model here: how likely it finds every verdict of the menu.

Nothing is written and nothing parsed, so nothing can fail to parse. With p(v) the probability of
verdict v after the question,

    mass     Σ_v p(v): what the judge gives to the menu at all
    score    Σ_v value(v) · p(v) / mass
    spread   the standard deviation of the values under p / mass

A verdict of several tokens is their product. Where one begins another (1 and 10), the shorter one
has what is left without the longer: p(1) = p("1") · (1 − p("0" after "1")).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.core import Prompt, Span
from harness.errors import PromptError
from harness.judging.asking import closed
from harness.judging.rubric import Rubric
from harness.models.encoding import Encoded
from harness.models.loading import LoadedModel

Progress = Callable[[int], None]
SMALLEST = 1e-12  # share of a verdict that is left without longer ones
Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Verdicts:
    """What a judge says of one question.

    Attributes:
        id: of the question.
        score: the expected value.
        mass: the probability of the whole menu.
        spread: standard deviation of the value.
        probabilities: of each verdict, in the menu's order; they sum to 1.
    """

    id: str
    score: float
    mass: float
    spread: float
    probabilities: tuple[float, ...]


def judge(
    loaded: LoadedModel,
    rubric: Rubric,
    questions: Sequence[tuple[str, tuple[Span, ...]]],
    progress: Progress,
) -> tuple[Verdicts, ...]:
    """Ask a local model.

    Args:
        loaded: the judge, in eval mode.
        rubric: what the verdicts are.
        questions: (id, what is asked), ids of their own.
        progress: called with the number of questions done so far.

    Raises:
        PromptError: a question is longer than the judge can read.
        ModelError: one does not fit into memory.
    """
    if not questions:
        return ()
    contexts = [_encoded(loaded, rubric, name, spans) for name, spans in questions]
    found = np.array(_logprobs(loaded, contexts, _menu(loaded, rubric), progress))
    values = np.array([value for _, value in rubric.menu])
    pairs = zip(questions, found, strict=True)
    return tuple(_verdicts(name, row, values) for (name, _), row in pairs)


def _logprobs(
    loaded: LoadedModel,
    contexts: Sequence[tuple[int, ...]],
    verdicts: Sequence[tuple[int, ...]],
    progress: Progress,
) -> list[list[float]]:
    """The log-probability of each verdict after each context; shape (questions, verdicts).

    The verdicts are a tree of tokens. What its inner nodes continue with is computed once for each
    node: of one-token verdicts there is one node, which has read nothing of a verdict.
    """
    from harness.generation.first import first_logprobs

    nodes = sorted({verdict[:end] for verdict in verdicts for end in range(len(verdict))}, key=len)
    paths: list[dict[tuple[int, ...], float]] = [{(): 0.0} for _ in contexts]
    for place, node in enumerate(nodes):
        rows = [
            Encoded(Prompt(str(row), (), ""), context + node, ())
            for row, context in enumerate(contexts)
        ]
        more = sorted({one[len(node)] for one in verdicts if _continues(node, one)})

        def done(count: int, place: int = place) -> None:
            progress((place * len(contexts) + count) // len(nodes))

        found = first_logprobs(loaded, rows, more, done)
        for path, logs in zip(paths, found, strict=True):
            path |= {(*node, t): path[node] + log for t, log in zip(more, logs, strict=True)}
    return [[_alone(path, verdict, verdicts) for verdict in verdicts] for path in paths]


def _continues(node: tuple[int, ...], verdict: tuple[int, ...]) -> bool:
    return len(verdict) > len(node) and verdict[: len(node)] == node


def _alone(
    path: Mapping[tuple[int, ...], float],
    verdict: tuple[int, ...],
    verdicts: Sequence[tuple[int, ...]],
) -> float:
    """The log-probability of a verdict that is not the beginning of a longer one on the menu."""
    longer = [one for one in verdicts if _continues(verdict, one)]
    shortest = [one for one in longer if not any(_continues(other, one) for other in longer)]
    share = math.fsum(math.exp(path[one] - path[verdict]) for one in shortest)
    return path[verdict] + math.log(max(1 - share, SMALLEST))


def _verdicts(name: str, logprobs: Array, values: Array) -> Verdicts:
    largest = float(logprobs.max())
    shares = np.exp(logprobs - largest)
    total = float(shares.sum())
    shares = shares / total
    score = float(shares @ values)
    spread = math.sqrt(max(0.0, float(shares @ (values - score) ** 2)))
    mass = min(1.0, math.exp(largest) * total)
    return Verdicts(name, score, mass, spread, tuple(shares.tolist()))


def _encoded(
    loaded: LoadedModel, rubric: Rubric, name: str, spans: tuple[Span, ...]
) -> tuple[int, ...]:
    """A question's tokens: by the judge's chat template where it has one."""
    encoder = loaded.encoder
    prompt = Prompt(name, _spans(loaded, rubric, spans), "", chat=encoder.chat is not None)
    context = encoder.encode(prompt, limited=False).context
    longest = encoder.max_length
    if longest is not None and len(context) + 8 > longest:
        raise PromptError(
            f"row {name!r}: the judge's question has {len(context)} tokens, and "
            f"{encoder.model_name} reads {longest}; use a judge that reads more, or a smaller "
            f"max_new_tokens"
        )
    return context


def _spans(loaded: LoadedModel, rubric: Rubric, spans: tuple[Span, ...]) -> tuple[Span, ...]:
    """The question inside of the judge's chat template; plain text where it has none."""
    chat = loaded.encoder.chat
    spans = closed(spans, rubric.reply)
    if chat is None:
        system = (Span(f"{rubric.system}\n\n"),) if rubric.system else ()
        return (*system, *spans, Span("\n"))
    marker = "ADAPTBENCHQUESTION"
    turns = [{"role": "system", "content": rubric.system}] if rubric.system else []
    try:
        text = chat([*turns, {"role": "user", "content": marker}])
    except PromptError:  # a template without a system turn
        joined = f"{rubric.system}\n\n{marker}" if rubric.system else marker
        text = chat([{"role": "user", "content": joined}])
    before, found, after = text.partition(marker)
    assert found, "the chat template left the user's words out"
    return (Span(before, special=True), *spans, Span(after, special=True))


def _menu(loaded: LoadedModel, rubric: Rubric) -> list[tuple[int, ...]]:
    """Each verdict's tokens.

    Raises:
        PromptError: two verdicts have the same tokens.
    """
    encoder = loaded.encoder
    tokens = [
        tuple(encoder.encode(Prompt("", (), verdict), limited=False).answer[:-1])
        for verdict, _ in rubric.menu
    ]
    if len(set(tokens)) < len(tokens) or not all(tokens):
        raise PromptError(
            f"rubric {rubric.name}: {encoder.model_name} writes two verdicts of its menu with the "
            f"same tokens; use others"
        )
    return tokens
