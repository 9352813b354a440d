"""Degeneration: shares of answers with a fault that anybody can see without knowing the task.

Each is a metric of its own: the value of a row is 1 where it has the fault, else 0, and less is
better. A fault that the row's reference has too is what was asked for, and does not count.

    empty          nothing but whitespace and characters that do not show
    truncated      ended at the limit of new tokens; NaN where it is not known how it ended
    looping        ends in a phrase that stands there three times or more in a row (so Holtzman et
                   al. 2020 count repetition), over at least 20 characters and a third of the answer
    copied         the source instead of an answer: chrF2 of 90 or more against the source
    wrong_script   Simplified for Traditional Chinese, Latin for Chinese: see
                   :mod:`harness.metrics.script`
    leaked         markers of a chat template or of a prompt's turns, as text
"""

from __future__ import annotations

import math
import re
import unicodedata
from functools import lru_cache
from typing import ClassVar

from harness.core import Example
from harness.messages import say
from harness.metrics import sacre
from harness.metrics.anchors import source_of
from harness.metrics.base import Aggregate, Metric
from harness.metrics.chrf import Chrf
from harness.metrics.script import is_other_script
from harness.records import LIMIT, Answer

TIMES = 3
LONG = 20  # characters that repetition has to cover,
PART = 3  # and one part in so many of the answer
SAME = 90.0  # chrF2

_MARKERS = re.compile(
    r"<\|[A-Za-z_]+\|>|<｜[^｜\n]{1,40}｜>"  # <|im_start|>, <|eot_id|>, <｜User｜>
    r"|</?(?:start|end)_of_turn>|</?s>|\[/?INST\]|<</?SYS>>|\[/?SYSTEM_PROMPT\]"
    r"|^\s*#{2,} *(?:Instruction|Input|Response|指令|輸入|输入|回答|回應|回应) *[:：]"
    r"|^\s*\**(?:User|Assistant|Human|System|用户|用戶|使用者|助手|系统|系統)\** *[:：]",
    re.MULTILINE | re.IGNORECASE,
)


class _Fault(Metric):
    """A share of answers."""

    noun = say("fault")
    pictured = False
    observes = "answer"
    limits = (0.0, 1.0)
    better = "lower"

    def __init_subclass__(cls) -> None:
        cls.headline = Aggregate(cls.name, cls.title, cls.definition[cls.name], digits=3)
        super().__init_subclass__()

    def row(self, seen: Answer, row: Example) -> float:
        return float(self.has(seen, row))

    def has(self, seen: Answer, row: Example) -> bool:
        raise NotImplementedError


class Empty(_Fault):
    """The share of answers in which nothing is to be seen."""

    name = "empty"
    needs_reference = False
    title = say("share of empty answers")
    definition: ClassVar = {
        "empty": say("share of answers of nothing but whitespace and characters that do not show"),
    }

    def has(self, seen: Answer, row: Example) -> bool:
        return all(c.isspace() or unicodedata.category(c) in ("Cf", "Cc") for c in seen.text)


class Truncated(_Fault):
    """The share of answers that did not come to an end."""

    name = "truncated"
    needs_reference = False
    title = say("share of truncated answers")
    definition: ClassVar = {
        "truncated": say("share of answers that ended at the limit of new tokens"),
    }

    def row(self, seen: Answer, row: Example) -> float:
        # Of an answer of unknown end, NaN: 0 would look like a number.
        return float(seen.ended == LIMIT) if seen.ended else math.nan


class Looping(_Fault):
    """The share of answers that repeat themselves to the end."""

    name = "looping"
    needs_reference = False
    title = say("share of looping answers")
    definition: ClassVar = {
        "looping": say(
            "share of answers that end in a phrase {times} times or more in a row, over at least "
            "{long} characters and 1/{part} of the answer; not where the reference does",
            times=TIMES,
            long=LONG,
            part=PART,
        ),
    }

    def has(self, seen: Answer, row: Example) -> bool:
        return loops(seen.text) and not loops(row.output)


class Copied(_Fault):
    """The share of answers that are their source."""

    name = "copied"
    needs_reference = False
    title = say("share of copied sources")
    definition: ClassVar = {
        "copied": say(
            "share of answers with a chrF2 of {least} or more against the text that the "
            "request is about; not where the reference has that",
            least=f"{SAME:g}",
        ),
    }

    def has(self, seen: Answer, row: Example) -> bool:
        source = source_of(row.instruction)
        return _same(seen.text, source) and not _same(row.output, source)


class WrongScript(_Fault):
    """The share of answers in another script than the reference's."""

    name = "wrong_script"
    title = say("share in the wrong script")
    definition: ClassVar = {
        "wrong_script": say(
            "share of answers of whose letters more than 10 % are in scripts that the "
            "reference has no letter of, or more than 25 % of those that are Simplified or "
            "Traditional only are not of the reference's kind"
        ),
    }

    def has(self, seen: Answer, row: Example) -> bool:
        return is_other_script(seen.text, row.output)


class Leaked(_Fault):
    """The share of answers in which a chat template shows."""

    name = "leaked"
    needs_reference = False
    title = say("share with leaked markers")
    definition: ClassVar = {
        "leaked": say(
            "share of answers with a marker of a chat template (<|im_start|>, [INST] …) or "
            "a line that begins a turn (User:, ### Instruction: …); not where the reference has one"
        ),
    }

    def has(self, seen: Answer, row: Example) -> bool:
        return bool(_MARKERS.search(seen.text)) and not _MARKERS.search(row.output)


def loops(text: str) -> bool:
    """Whether a text ends in a repeated phrase; see the module's definition.

    A text has a tail with the period p that is p + z[p] characters long, where z[p] says how many
    characters of the text read backwards are the same p characters further on.
    """
    text = text.strip()[::-1]
    least = max(LONG, -(-len(text) // PART))
    z = _z_function(text)
    return any(p + z[p] >= max(TIMES * p, least) for p in range(1, len(text) // TIMES + 1))


def _z_function(text: str) -> list[int]:
    """For each place, how long the text from there on is the text's own beginning; linear time."""
    z, left, right = [0] * len(text), 0, 0
    for i in range(1, len(text)):
        if i < right:
            z[i] = min(right - i, z[i - left])
        while i + z[i] < len(text) and text[z[i]] == text[i + z[i]]:
            z[i] += 1
        if i + z[i] > right:
            left, right = i, i + z[i]
    return z


@lru_cache(maxsize=1 << 15)  # a report asks twice: for the shares, and for every row's faults
def _same(text: str, source: str) -> bool:
    if text.strip() == source.strip():
        return bool(source.strip())
    found = Chrf().of_rows(sacre.statistics([text], [source], None))
    return float(found[0]) >= SAME
