"""What a response of an endpoint says: a ruling, or why there is none.

Only a complete reply of the model that was probed, which ended by itself and names a verdict of
the menu, is a number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import one_line
from harness.judging.calling import message
from harness.judging.client import Secrets
from harness.judging.rubric import Rubric
from harness.judging.verdicts import Verdict, parse_verdict, plain, unfenced
from harness.records import Ruling

ENDED = ("stop", "eos", "eos_token", "end_turn", "stop_sequence")  # by itself, in their words
REASON = "reason"
LONGEST_REASON = 300  # characters


def schema(verdicts: Sequence[str], longest: int = LONGEST_REASON) -> dict[str, Any]:
    """The response format that holds a reply to a reason and then one of the verdicts."""
    return {
        "type": "json_schema",
        "json_schema": {
            "name": "ruling",
            "strict": True,
            "schema": {
                "type": "object",
                "properties": {
                    REASON: {"type": "string", "maxLength": longest},
                    "verdict": {"type": "string", "enum": list(verdicts)},
                },
                "required": [REASON, "verdict"],
                "additionalProperties": False,
            },
        },
    }


def ruling(body: Mapping[str, Any], rubric: Rubric, model: str, secrets: Secrets) -> Ruling:
    """Read a response.

    Args:
        body: of the response.
        rubric: with the menu.
        model: the id of the one that may have written it.
        secrets: what must not stand in a ruling.
    """
    problem, text, finish = content(body)
    text = secrets.scrub(text)  # first, so that nothing is cut through
    wrote = secrets.scrub(model_of(body))
    if not problem and wrote != model:
        problem = f"written by another model, {wrote[:80]!r}, not {model!r}"
    if problem:
        return Ruling("", None, one_line(ValueError(secrets.scrub(problem)), 200), reply=text)
    found = parse_verdict(text, rubric, finish)
    why = secrets.scrub(_reason(text)) if found.value is not None else ""
    return Ruling(_said(found, rubric), found.value, found.reason, why, text)


def model_of(body: Mapping[str, Any]) -> str:
    """The id of the model that wrote a response; empty where it names none."""
    return str(body.get("model") or "")


def content(body: Mapping[str, Any]) -> tuple[str, str, str]:
    """Why a response says nothing (empty where it does), what it says, and how that ended."""
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    if body.get("error"):
        return f"HTTP 200 with an error: {message(body)}", "", ""
    if not isinstance(first, Mapping) or not isinstance(first.get("message"), Mapping):
        return "HTTP 200 without a reply", "", ""
    said, finish = first["message"], first.get("finish_reason")
    text = said.get("content") or ""
    if said.get("refusal"):
        return f"the judge refuses: {said['refusal']}", "", ""
    if not isinstance(text, str):
        return "the reply is no text", "", ""
    if finish == "content_filter":
        return "the endpoint's content filter held the reply back", text, finish
    if finish == "length":
        return "", text, finish
    if finish not in ENDED:
        return f"the reply did not end by itself: finish_reason {finish!r:.40}", text, ""
    return "", text, "stop"


def _said(found: Verdict, rubric: Rubric) -> str:
    """The verdict as it stands on the menu; empty where there is none."""
    if found.value is None:
        return ""
    menu = [verdict for verdict, _ in rubric.menu]
    same = [one for one in menu if plain(one).casefold() == found.said.casefold()]
    return (same or [one for one in menu if _number(one) == _number(found.said)])[0]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _reason(text: str) -> str:
    """The reason of a reply that is JSON; empty where it has none."""
    for form in (text, unfenced(text)):  # as it was written where it can be read so
        try:
            found = json.loads(form)
        except ValueError:
            continue
        reason = found.get(REASON) if isinstance(found, Mapping) else None
        return reason.strip() if isinstance(reason, str) else ""
    return ""
