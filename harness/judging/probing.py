"""What an endpoint does of what it is asked for, found out before the first row.

Servers answer 200 and leave out what they do not know: a schema, log-probabilities, a seed. So
each is asked for once in a way that shows whether it was done. All of it at temperature 0, as the
judge is asked: that the same seed gives the same reply says that asking again does, not by what.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.errors import JudgeError, one_line
from harness.judging.calling import Caller, Outcome
from harness.judging.replies import content, model_of, schema
from harness.judging.rubric import Rubric

QUESTION = "Write a few sentences about the sea."
CLOSING = "Reply with JSON with the fields reason and verdict."
WORDS = ("zorvex", "quimbal")  # that no model says unless it is held to them
SHORT, TINY = 24, 3  # tokens
STOPS = 4  # as many as every server takes: the characters that a reply has most of
# The server cannot do what was asked for; anything else is no answer to that.
UNABLE = (400, 404, 405, 422, 500, 501)
LINES = {
    "schema": "The endpoint does not hold its replies to a schema: verdicts are read from words.",
    "logprobs": "The endpoint gives no log-probabilities.",
    "seed": "The endpoint said two things when it was asked twice with the same seed.",
    "stop": "The endpoint does not end a reply at a stop string.",
    "limit": "The endpoint does not end a reply at the limit of tokens that it is given.",
}


class Prober:
    """Asks an endpoint for one thing after another.

    Args:
        caller: makes the calls.
        rubric: that it will be asked by.
        reply_tokens: the longest reply.
    """

    def __init__(self, caller: Caller, rubric: Rubric, reply_tokens: int) -> None:
        self._caller, self._rubric, self._reply_tokens = caller, rubric, reply_tokens
        self._models: list[str] = []
        self.fingerprint = ""

    @property
    def model(self) -> str:
        """The id that came back."""
        return self._models[0]

    def honours(self) -> dict[str, bool]:
        """What was asked for → whether it was done.

        Raises:
            JudgeError: it cannot be asked at all, or is two models.
        """
        plain, text = self._first()
        stops = [one for one, _ in Counter("".join(text.split())).most_common(STOPS)]
        short = {"temperature": 0, "max_tokens": SHORT}
        found = {
            "schema": self._schema(),
            "logprobs": self._does({**short, "logprobs": True, "top_logprobs": 2}, _has_logprobs),
            "seed": bool(text) and self._does(plain, lambda body: _text(body) == text),
            "stop": bool(stops)
            and self._does({**plain, "stop": stops}, lambda body: _stopped(body, stops)),
            "limit": self._does({**short, "max_tokens": TINY}, _is_tiny),
        }
        found["seed"] = found["seed"] and not self._caller.lacks("seed")
        if len(set(self._models)) > 1:
            raise JudgeError(
                f"judge {self._caller.model}: the endpoint at {self._caller.host} answers as "
                f"{' and as '.join(dict.fromkeys(self._models))}; name one of them"
            )
        return found

    def _first(self) -> tuple[dict[str, Any], str]:
        """A question without anything special, and its reply."""
        plain: dict[str, Any] = {}
        for longest in (SHORT, self._reply_tokens):  # some think before they write
            plain = {"temperature": 0, "seed": 0, "max_tokens": longest}
            text = _text(self._asked(plain, needed=True) or {})
            if text:
                break
        return plain, text

    def _schema(self) -> bool:
        closing = self._rubric.explain or CLOSING
        asked = {
            "temperature": 0,
            "max_tokens": self._reply_tokens,
            "response_format": schema(WORDS, 40),
        }
        return self._does(asked, _conforms, f"{QUESTION}\n{closing}")

    def _does(
        self,
        asked: Mapping[str, Any],
        shows: Callable[[Mapping[str, Any]], bool],
        text: str = QUESTION,
    ) -> bool:
        body = self._asked(asked, text)
        return body is not None and shows(body)

    def _asked(
        self, asked: Mapping[str, Any], text: str = QUESTION, *, needed: bool = False
    ) -> Mapping[str, Any] | None:
        """The response's body; None where the server cannot do what was asked for.

        Raises:
            JudgeError: it does not answer, or not even this one.
        """
        turns = [{"role": "user", "content": text}]
        if self._rubric.system:
            turns.insert(0, {"role": "system", "content": self._rubric.system})
        outcome = self._caller.call({"messages": turns, **asked}, threading.Event())
        if outcome.body is None:
            if outcome.status in UNABLE and not needed:
                return None
            raise self._caller.error(outcome)
        problem, _, _ = content(outcome.body)
        if problem and needed:
            raise self._caller.error(_unusable(outcome, self._caller.secrets.scrub(problem)))
        if not problem:
            scrub = self._caller.secrets.scrub
            self._models.append(scrub(model_of(outcome.body)))
            fingerprint = str(outcome.body.get("system_fingerprint") or "")
            self.fingerprint = self.fingerprint or scrub(fingerprint)
        return outcome.body


def _unusable(outcome: Outcome, problem: str) -> Outcome:
    return Outcome(outcome.status, problem=one_line(ValueError(problem), 200))


def _text(body: Mapping[str, Any]) -> str:
    return content(body)[1]


def _has_logprobs(body: Mapping[str, Any]) -> bool:
    found = body["choices"][0].get("logprobs") if not content(body)[0] else None
    return isinstance(found, Mapping) and bool(found.get("content"))


def _stopped(body: Mapping[str, Any], stops: Sequence[str]) -> bool:
    problem, text, finish = content(body)
    return not problem and finish == "stop" and not any(stop in text for stop in stops)


def _is_tiny(body: Mapping[str, Any]) -> bool:
    problem, text, finish = content(body)
    return not problem and finish == "length" and len(text) <= 20 * TINY


def _conforms(body: Mapping[str, Any]) -> bool:
    try:
        found = json.loads(_text(body))
    except ValueError:
        return False
    return (
        isinstance(found, dict)
        and set(found) == {"reason", "verdict"}
        and (found["verdict"] in WORDS and isinstance(found["reason"], str))
    )
