"""Calls of an OpenAI-compatible endpoint: tried again where that can help, counted, paced.

The client's own repeats are switched off: they would not count against a budget, could not be
interrupted, and obey a header by which a server has a refused request sent again.
"""

from __future__ import annotations

import json
import math
import random
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any

from harness.errors import JudgeError, one_line
from harness.judging.client import connecting, make_client, read_address
from harness.judging.spending import Budget, Limits, Pace, counted_tokens, estimated_tokens

TRIES = 4
PASSING = {408, 409, 429}  # and 5xx: may be gone the next time
FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0  # seconds between tries, where the server names none
PATIENCE = 300.0  # a server that asks for a longer pause is not waited for
# Parameters that some servers do not know, and say so: sent otherwise from then on.
ADAPTED = ("max_tokens", "seed", "maxLength")


@dataclass(frozen=True)
class Outcome:
    """What came of a call.

    Attributes:
        status: of HTTP; 0 where nothing came.
        body: the JSON of a 200; None where there is none.
        problem: why there is no body, in a word; empty where there is one.
        detail: what was said of it, in one line.
        final: whether to ask for the next question is of no use either.
        wait: seconds after which the server wants to be asked again.
        tries: how often it was tried for the same reason.
        calls: how many calls were made in all.
        tokens: read and written by them.
    """

    status: int
    body: Mapping[str, Any] | None = None
    problem: str = ""
    detail: str = ""
    final: bool = False
    wait: float | None = None
    tries: int = 1
    calls: int = 1
    tokens: tuple[int, int] = (0, 0)

    @property
    def line(self) -> str:
        """What went wrong, in one line."""
        tried = f" after {self.tries} tries" if self.tries > 1 else ""
        return f"{self.problem}{tried}{f': {self.detail}' if self.detail else ''}"

    @property
    def passing(self) -> bool:
        """Whether the same call may go well the next time."""
        return not self.final and (self.status in PASSING or self.status >= 500 or not self.status)


class Caller:
    """Makes calls, from any thread.

    Raises:
        JudgeError: there is no client, no key and no address, or one that cannot be used.
    """

    def __init__(self, model: str, limits: Limits, environment: Mapping[str, str]) -> None:
        self.model = model
        address = read_address(model, environment)
        self._keyed = bool(address.key)
        self._timeout = limits.timeout
        self._budget = Budget(limits)
        self._pace = Pace(limits.per_minute)
        self._unknown: frozenset[str] = frozenset()  # of ADAPTED
        self.host, self.secrets = address.host, address.secrets
        self._client = make_client(address, limits.timeout)

    @property
    def budget(self) -> Budget:
        """What was spent."""
        return self._budget

    def lacks(self, parameter: str) -> bool:
        """Whether the server has said that it does not know a parameter."""
        return parameter in self._unknown

    def call(self, request: Mapping[str, Any], stop: threading.Event) -> Outcome:
        """Ask, up to four times where what hinders may pass.

        Args:
            request: parameters of a chat completion, without the model.
            stop: when set, no call begins any more.

        Raises:
            JudgeError: the budget is spent.
            StoppedError: ``stop`` was set.
        """
        unknown = self._unknown
        calls, tries, read, written = 0, 0, 0, 0
        while True:
            outcome = self._once(_adapted({"model": self.model, **request}, unknown), stop)
            calls, read, written = calls + 1, read + outcome.tokens[0], written + outcome.tokens[1]
            refused = _refused(outcome, request) - unknown
            if refused:
                unknown |= refused
                continue
            tries += 1
            if outcome.status == 200:
                self._unknown |= unknown
            if not outcome.passing or tries == TRIES:
                break
            if outcome.wait:
                self._pace.pause(outcome.wait)
            else:
                longest = min(FIRST_WAIT * 2 ** (tries - 1), LONGEST_WAIT)
                stop.wait(longest * (1 - random.random() / 4))  # noqa: S311, not all at once
        return replace(outcome, tries=tries, calls=calls, tokens=(read, written))

    def error(self, outcome: Outcome) -> JudgeError:
        """The line for a call that went wrong for good."""
        where = f"judge {self.model}: the endpoint at {self.host}"
        if outcome.status == 401:
            hint = "refuses OPENAI_API_KEY" if self._keyed else "wants a key; set OPENAI_API_KEY"
            return JudgeError(f"{where} {hint} (HTTP 401)")
        if outcome.status == 404:
            hint = "has it no model of this name, or does OPENAI_BASE_URL lack its /v1?"
            return JudgeError(f"{where} says {outcome.line}; {hint}")
        if outcome.status:
            return JudgeError(f"{where} says {outcome.line}")
        return JudgeError(f"{where} does not answer: {outcome.line}")

    def _once(self, sent: Mapping[str, Any], stop: threading.Event) -> Outcome:
        question = sum(estimated_tokens(turn["content"]) for turn in sent["messages"])
        self._budget.begin(question)
        made, tokens = 0, (0, 0)
        try:
            self._pace.wait(stop)
            made = 1
            outcome = self._sent(sent)
            if outcome.body is not None:
                tokens = counted_tokens(outcome.body, question, written(outcome.body))
            return replace(outcome, tokens=tokens)
        finally:
            self._budget.end(question, tokens, made)

    def _sent(self, sent: Mapping[str, Any]) -> Outcome:
        import openai

        try:
            raw = self._client.chat.completions.with_raw_response.create(**sent)
        except openai.APITimeoutError as error:
            if type(error.__cause__).__name__ == "ConnectTimeout":
                return Outcome(0, problem=f"no connection within {connecting(self._timeout):g} s")
            return Outcome(0, problem=f"no reply within {self._timeout:g} s")
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            return Outcome(0, problem="connection broken", detail=self._line(cause))
        except openai.APIStatusError as error:
            return self._failed(error.response)
        response = raw.http_response
        if response.status_code != 200:
            return Outcome(response.status_code, problem=f"HTTP {response.status_code}")
        try:
            body = json.loads(response.content)
        except ValueError as error:
            return Outcome(200, problem="HTTP 200 without JSON", detail=self._line(error))
        if not isinstance(body, dict):
            return Outcome(200, problem="HTTP 200 without a JSON object")
        return Outcome(200, body)

    def _failed(self, response: Any) -> Outcome:
        status = response.status_code
        try:
            body = json.loads(response.content)
        except ValueError:
            body = None
        text = message(body) or response.text
        page = not text.strip() or text.lstrip().startswith("<")  # says nothing in one line
        detail = "" if page else self._line(text)
        wait = retry_after(response.headers.get("retry-after"))
        final = status not in PASSING and status < 500
        if status == 429 and "insufficient_quota" in response.text:
            final = True  # no pause helps
        if wait is not None and wait > PATIENCE:
            final, detail = True, f"it wants to be asked again in {wait:,.0f} s"
        return Outcome(status, problem=f"HTTP {status}", detail=detail, final=final, wait=wait)

    def _line(self, said: object) -> str:
        """What was said, in one line without secrets, which are taken out before it is cut."""
        text = self.secrets.scrub(str(said)) or type(said).__name__
        return one_line(ValueError(text), 200)


def written(body: Mapping[str, Any]) -> str:
    """What a response says, or nothing."""
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    said = first.get("message") if isinstance(first, Mapping) else None
    text = said.get("content") if isinstance(said, Mapping) else None
    return text if isinstance(text, str) else ""


def message(body: object) -> str:
    """What a body says of an error: its message; empty where it says nothing."""
    if not isinstance(body, Mapping):
        return body if isinstance(body, str) else ""
    for field in ("error", "message", "detail"):
        if body.get(field):
            return message(body[field]) or str(body[field])
    return ""


def retry_after(value: str | None) -> float | None:
    """Seconds to wait, of a header that names them or a date; None where it names neither."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return None if math.isnan(seconds) else max(0.0, seconds)


def _refused(outcome: Outcome, request: Mapping[str, Any]) -> frozenset[str]:
    """Parameters that a refusal names and the request has."""
    if outcome.status not in (400, 422):
        return frozenset()
    held = {*request, *(["maxLength"] if "response_format" in request else [])}
    named = (name for name in ADAPTED if re.search(rf"\b{name}\b", outcome.detail))
    return frozenset(name for name in named if name in held)


def _adapted(request: dict[str, Any], unknown: frozenset[str]) -> dict[str, Any]:
    """A request without what the server does not know."""
    if "max_tokens" in unknown:
        request["max_completion_tokens"] = request.pop("max_tokens")
    if "seed" in unknown:
        request.pop("seed", None)
    if "maxLength" in unknown and "response_format" in request:
        request["response_format"] = _without(request["response_format"], "maxLength")
    return request


def _without(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _without(inner, name) for key, inner in value.items() if key != name}
    return value
