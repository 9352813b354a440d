"""Judges whose faults are known, for a fake endpoint: what each says to a question."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping

from tests.builders.endpoint import Request

Says = Callable[[Request], str]


def texts_of(request: Request) -> list[str]:
    """The texts between the fences of a question: the instruction, then the answer or both."""
    question = request["messages"][-1]["content"]
    fence = question.partition("lines that begin with ")[2].partition(" is ")[0]
    parts = question.split(f"{fence}\n")
    return [part.removesuffix("\n") for part in parts[1::2]]


def likeness(text: str, reference: str) -> float:
    return difflib.SequenceMatcher(None, text, reference, autojunk=False).ratio()


def perfect(references: Mapping[str, str]) -> Says:
    """Knows the reference of every instruction, and says how near an answer is."""

    def says(request: Request) -> str:
        instruction, *answers = texts_of(request)
        known = [likeness(text, references[instruction]) for text in answers]
        if len(known) == 1:
            return str(round(5 * known[0]))
        return "C" if known[0] == known[1] else "A" if known[0] > known[1] else "B"

    return says


def always_first(request: Request) -> str:
    return "A" if len(texts_of(request)) > 2 else "4"


def prefers_longer(request: Request) -> str:
    _, *answers = texts_of(request)
    sizes = list(map(len, answers))
    if len(sizes) == 1:
        return str(min(5, sizes[0] // 8))
    return "C" if sizes[0] == sizes[1] else "A" if sizes[0] > sizes[1] else "B"
