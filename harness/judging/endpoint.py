"""A judge behind an OpenAI-compatible endpoint: a reason first, then a verdict of the menu.

The server is probed once. Where it holds a reply to a schema, the judge writes its reason and then
a verdict of the menu; elsewhere the verdict is read from its words. A reply that is not a verdict
is asked for again with another seed, and then it is unjudged, for a reason; it is never a number.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.core import Span
from harness.errors import JudgeError
from harness.judging.asking import closed
from harness.judging.calling import Caller, Outcome
from harness.judging.probing import LINES, Prober
from harness.judging.replies import ruling, schema
from harness.judging.rubric import Rubric
from harness.judging.spending import Limits, Spent, StoppedError, estimated_tokens
from harness.judging.workers import Workers
from harness.records import Ruling

__all__ = ["Endpoint", "Limits", "Probe", "Spent", "estimated_tokens"]

SILENT = 5  # so many questions in a row without an answer: it is not there

Question = tuple[str, tuple[Span, ...]]
Heard = Callable[[int, Ruling], None]


@dataclass(frozen=True)
class Probe:
    """What an endpoint is and does.

    Attributes:
        asked: the model as it was asked for.
        model: the id that the server returned.
        fingerprint: the server's ``system_fingerprint``; empty where it gives none.
        honours: ``schema``, ``logprobs``, ``seed`` (the same reply twice), ``stop``, ``limit`` →
            whether it does this.
    """

    asked: str
    model: str
    fingerprint: str
    honours: Mapping[str, bool]

    @property
    def lines(self) -> tuple[str, ...]:
        """A sentence for each thing that is not honoured."""
        return tuple(line for name, line in LINES.items() if not self.honours.get(name))


class Endpoint:
    """A judge behind an endpoint.

    Args:
        model: as the server calls it.
        limits: how it may be asked.
        environment: with OPENAI_BASE_URL and OPENAI_API_KEY; None for the process's own. A server
            of one's own may need no key.

    Raises:
        JudgeError: there is neither, or no client is installed.
    """

    def __init__(
        self, model: str, limits: Limits = Limits(), environment: Mapping[str, str] | None = None
    ) -> None:
        self._limits = limits
        self._caller = Caller(model, limits, os.environ if environment is None else environment)

    def __repr__(self) -> str:
        return f"Endpoint({self._caller.model!r} at {self._caller.host})"

    @property
    def spent(self) -> Spent:
        """Calls and tokens so far, the probe's too."""
        return self._caller.budget.spent

    def probe(self, rubric: Rubric) -> Probe:
        """Find out what the server does of what it is asked for; takes about six calls.

        Args:
            rubric: that it will be asked by.

        Raises:
            JudgeError: it cannot be reached, refuses the key, has no such model, or the budget
                is spent.
        """
        prober = Prober(self._caller, rubric, self._limits.reply_tokens)
        honours = prober.honours()
        return Probe(self._caller.model, prober.model, prober.fingerprint, honours)

    def ask(
        self, rubric: Rubric, questions: Sequence[Question], probe: Probe, heard: Heard
    ) -> list[Ruling]:
        """Ask all questions.

        Args:
            rubric: what the verdicts are.
            questions: (id, what is asked).
            probe: of this endpoint.
            heard: called in this thread with a question's place and its ruling, once for each, as
                soon as it is there.

        Returns:
            The rulings, in the order of the questions.

        Raises:
            JudgeError: the endpoint is not there, refuses to be asked, or the budget is spent;
                what was ruled before has been heard.
        """
        stop = threading.Event()
        asking = _Asking(self._caller, self._limits, rubric, probe, stop)
        workers = Workers(
            lambda place: asking.ruled(questions[place][1]),
            len(questions),
            self._limits.concurrency,
            stop,
        )
        rulings: dict[int, Ruling] = {}
        try:
            failure = _hear(workers, self._caller, stop, rulings, heard)
        finally:
            stop.set()
        if failure is not None:
            raise failure
        return [rulings[place] for place in range(len(questions))]


@dataclass(frozen=True)
class _Ruled:
    """A ruling, and the call that it could not be made for."""

    ruling: Ruling
    silence: Outcome | None = None


class _FailedError(Exception):
    """Asking further is of no use; holds the call that showed it."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome


@dataclass(frozen=True)
class _Asking:
    """Asks one question, in any thread."""

    caller: Caller
    limits: Limits
    rubric: Rubric
    probe: Probe
    stop: threading.Event

    def ruled(self, spans: tuple[Span, ...]) -> _Ruled:
        """Ask until there is a verdict, as often as the limits allow."""
        request = self.request(spans)
        calls, read, written = 0, 0, 0
        for seed in range(1 + self.limits.again):
            outcome = self.caller.call({**request, "seed": seed}, self.stop)
            if outcome.final:
                self.stop.set()  # here, before this thread takes the next question
                raise _FailedError(outcome)
            calls += outcome.calls
            read, written = read + outcome.tokens[0], written + outcome.tokens[1]
            if outcome.body is None:
                found = Ruling("", None, outcome.line)
            else:
                found = ruling(outcome.body, self.rubric, self.probe.model, self.caller.secrets)
            found = replace(found, asked=calls, tokens=(read, written))
            if found.value is not None or outcome.passing:  # tried often enough
                break
        return _Ruled(found, None if outcome.status else outcome)

    def request(self, spans: tuple[Span, ...]) -> dict[str, Any]:
        """The parameters of a question, without its seed."""
        rubric = self.rubric
        held = bool(rubric.explain) and self.probe.honours.get("schema", False)
        words = closed(spans, rubric.explain if held else rubric.reply)
        turns = [{"role": "system", "content": rubric.system}] if rubric.system else []
        turns.append({"role": "user", "content": "".join(span.text for span in words)})
        request = {"messages": turns, "temperature": 0, "max_tokens": self.limits.reply_tokens}
        if held:
            request["response_format"] = schema([verdict for verdict, _ in rubric.menu])
        return request


def _hear(
    workers: Workers[_Ruled],
    caller: Caller,
    stop: threading.Event,
    rulings: dict[int, Ruling],
    heard: Heard,
) -> BaseException | None:
    """Hear rulings as they come, to the end or to what makes an end of it.

    Returns:
        What made an end of it.
    """
    try:
        return _heard(workers, caller, stop, rulings, heard)
    except KeyboardInterrupt:
        _hear_ready(workers, stop, rulings, heard)
        raise


def _heard(
    workers: Workers[_Ruled],
    caller: Caller,
    stop: threading.Event,
    rulings: dict[int, Ruling],
    heard: Heard,
) -> BaseException | None:
    failure: BaseException | None = None
    silent = 0
    for place, result in workers.results():
        if isinstance(result, _Ruled):
            rulings[place] = result.ruling
            heard(place, result.ruling)
            silent = silent + 1 if result.silence else 0
            if silent < SILENT:
                continue
            assert result.silence is not None
            failure = caller.error(result.silence)
        elif isinstance(result, StoppedError):
            continue
        elif isinstance(result, JudgeError):  # the budget: calls that are paid for are waited for
            stop.set()
            failure = failure or result
            continue
        else:
            failure = caller.error(result.outcome) if isinstance(result, _FailedError) else result
        break
    _hear_ready(workers, stop, rulings, heard)
    return failure


def _hear_ready(
    workers: Workers[_Ruled], stop: threading.Event, rulings: dict[int, Ruling], heard: Heard
) -> None:
    """Let no call begin any more, and hear what has been ruled already."""
    stop.set()
    for place, result in workers.ready():
        if isinstance(result, _Ruled):
            rulings[place] = result.ruling
            heard(place, result.ruling)
