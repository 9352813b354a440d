"""What a judge's reply says: a verdict on the menu, or nothing.

A reply is JSON with a field ``verdict``, or text whose last line of the form ``Verdict: 4`` (or
Score, Rating, Grade, Answer, or a Chinese word for these) names one, or nothing but a verdict.
What a model thinks aloud before its reply (``<think>…</think>``) is no part of it.
Full-width forms are folded (NFKC), characters that do not show are taken out. Whatever is
not on the menu, or could be read in two ways, is *unjudged*: it is counted, and never a number.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from harness.judging.rubric import Rubric

VERSION = 1  # of the rules here; stored with every verdict
FIELD = "verdict"
_WORDS = (
    "verdict|score|rating|grade|answer|final answer|final score|評分|分數|得分|判定|答案|评分|分数"
)
_LINE = re.compile(
    rf"^[\s>*_#\-]*(?:{_WORDS})[*_\s]*[:=：][*_\s]*(?P<said>[^\n]*?)[\s*_.。]*$", re.IGNORECASE
)
_THOUGHT = re.compile(r"^\s*<think>.*?</think>", re.DOTALL | re.IGNORECASE)  # before the reply
_FENCED = re.compile(r"^```[a-z]*\n(.*?)\n?```$", re.DOTALL | re.IGNORECASE)
_OF = re.compile(r"^(?P<said>.+?)\s*(?:/|out of|of)\s*(?P<most>\d+(?:\.\d+)?)$", re.IGNORECASE)


@dataclass(frozen=True)
class Verdict:
    """A verdict: what was said, and its worth. Without a value it is unjudged, for a reason."""

    said: str
    value: float | None
    reason: str = ""


def parse_verdict(reply: str, rubric: Rubric, finish: str = "stop") -> Verdict:
    """Read a reply.

    Args:
        reply: what the judge wrote.
        rubric: with the menu.
        finish: why it ended; one that broke off at its limit is unjudged, whatever it says.
    """
    if finish == "length":
        return Verdict("", None, "the reply broke off at its limit")
    body = unfenced(_THOUGHT.sub("", reply))
    if not body:
        return Verdict("", None, "the reply is empty")
    if body[:1] == "{":
        return _json(body, rubric)
    lines = [found["said"] for line in body.splitlines() if (found := _LINE.match(line))]
    said = lines[-1] if lines else body
    if not lines and len(body.splitlines()) > 1:
        return Verdict("", None, "no line of the reply names a verdict")
    return _named(said, rubric)


def plain(text: str) -> str:
    """The text folded, without what does not show, and without blank ends."""
    folded = unicodedata.normalize("NFKC", text)
    kept = (c for c in folded if c in "\n\t" or unicodedata.category(c) not in ("Cf", "Cc", "Co"))
    return "".join(kept).strip()


def unfenced(reply: str) -> str:
    """The reply folded, without the fence of a block of code around it."""
    text = plain(reply)
    fenced = _FENCED.match(text)
    return fenced[1].strip() if fenced else text


def _json(body: str, rubric: Rubric) -> Verdict:
    try:
        found = json.loads(body, object_pairs_hook=_once)
    except ValueError as error:
        return Verdict("", None, f"not JSON: {error}")
    if not isinstance(found, Mapping) or FIELD not in found:
        return Verdict("", None, f"JSON without a field {FIELD!r}")
    said = found[FIELD]
    if isinstance(said, bool) or not isinstance(said, str | int | float):
        return Verdict("", None, f"{FIELD} is no text and no number: {said!r:.40}")
    return _named(f"{said:g}" if isinstance(said, float) else str(said), rubric)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError("a field stands twice")
    return dict(pairs)


def _named(said: str, rubric: Rubric) -> Verdict:
    """A verdict by what is said of it, which has to be one of the menu and nothing else."""
    bare = said.strip().strip("\"'`*_[]()「」『』").strip()
    menu = {plain(verdict).casefold(): value for verdict, value in rubric.menu}
    known = bare.casefold()
    if known in menu:
        return Verdict(bare, menu[known])
    share = _OF.match(bare)
    most = max(menu.values())
    if share and float(share["most"]) == most and share["said"].strip().casefold() in menu:
        return Verdict(share["said"].strip(), menu[share["said"].strip().casefold()])
    number = _number(bare, menu)
    if number is not None:
        return Verdict(bare, number)
    return Verdict(bare[:40], None, f"{bare!r:.60} is not on the menu {', '.join(menu)}")


def _number(said: str, menu: Mapping[str, float]) -> float | None:
    """A number that is written otherwise than on the menu: 4.0 for 4."""
    if not re.fullmatch(r"[+]?\d+(?:\.\d+)?", said):
        return None
    for verdict, value in menu.items():
        if re.fullmatch(r"\d+(?:\.\d+)?", verdict) and float(verdict) == float(said):
            return value
    return None
