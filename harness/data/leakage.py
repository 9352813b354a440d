"""Training rows that stand in the test set, or nearly do.

Two rows are compared by w-shingling (Broder 1997, "On the resemblance and containment of
documents"). A token is one CJK character, one word, or one sign of mathematics, arrow or emoji;
letter case, punctuation and the form of a character are ignored (Simplified, Traditional,
variant, width: :mod:`harness.data.folding`). A shingle is four tokens in a row. Question and
answer are judged together. A training row is a near copy of a test row when

* the answer of one stands in the other row: at least 60 % of the answer's shingles, of which
  there are at least five (shorter answers are often formulas). A common answer says nothing of
  copying, and is not compared alone; or
* each row's question holds at least 60 % of the shingles of the other's answer: a translation
  asked for in the other direction, however common the two sentences are; or
* the rows as wholes contain each other: at least 60 % of the smaller row's shingles stand in the
  larger one, at least three. Neither the wording of requests nor common answers are counted, so
  that a row with a common answer is a copy only if its question is; or
* the answers are equal, and at least 60 % of what the test row's question holds besides wording
  stands in the other's question; or
* the two texts are equal token by token.

An answer is common if more than half of its shingles stand in the answers of at least three rows
with different questions (labels, also as sentences; boilerplate). Where half of all rows share
their answer with a row that has another question, answers are labels, and every one is common.
Questions are different when less than 40 % of the shorter one's shingles stand in the other, so
that a row asked in other words counts once.

Wording is a shingle in rows with many different answers, or in many different questions, some of
the test set's among them, that have more than one answer or are half of the test set.

The history of a conversation counts as part of its question.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from itertools import islice
from pathlib import Path

from harness.core import Example, digest
from harness.data import folding
from harness.data.folding import fold
from harness.files import keep, kept, sha256

KIND = "near-copies"  # in the user's cache
SHINGLE = 4
CONTAINMENT = 0.6
ANSWER = 5  # shingles an answer must have to be compared alone
WHOLE = 3  # shingles that the smaller row must have
COMMON = 0.01  # many: more than this share of the rows, at least 4 and at most MANY
MANY = 20
SHARED = 3  # rows with different questions that make an answer common
RELATED = 0.4  # questions that share this much are one question in other words
SEEN = 200  # as many rows with an answer are looked at

_TOKEN = re.compile(
    r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
    r"|[^\W_\u3400-\u9fff]+"
    r"|[¬±×÷\u2190-\u22ff\u2600-\u27bf\U0001f300-\U0001faff]|[-+*/^=<>](?=\s?\d)"
)
_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Row:
    id: str
    asked: str
    said: str
    question: frozenset[str]
    answer: frozenset[str]


@dataclass(frozen=True)
class _Compared:
    """What of a row is compared: wording and common answers are left out of everything but it."""

    row: _Row
    question: frozenset[str]
    answer: frozenset[str]  # nothing if it is not compared alone
    body: frozenset[str]


def near_copies(train: Sequence[Example], test: Sequence[Example]) -> dict[str, str]:
    """Return training id → id of the test row that it equals or nearly copies.

    What was found is kept in the user's cache, by a digest of the rows and of what compares them.
    """
    sides = [[example.content for example in side] for side in (train, test)]
    name = digest([sides, *_compared_by()])
    known = kept(KIND, name)
    if known is None:
        found = _near_copies(train, test)
        keep(KIND, name, json.dumps(found))
        return found
    remembered: dict[str, str] = json.loads(known)
    return remembered


@cache
def _compared_by() -> list[str]:
    """The code that compares rows, and the versions of what it folds characters with."""
    code = (sha256(Path(source)) for source in (__file__, folding.__file__))
    return [*code, version("opencc"), unicodedata.unidata_version]


def _near_copies(train: Sequence[Example], test: Sequence[Example]) -> dict[str, str]:
    train_rows, test_rows = list(map(_row, train)), list(map(_row, test))
    wording = _wording(train_rows, test_rows)
    common = _common_answers([*train_rows, *test_rows], wording)
    compared = [_compared(row, wording, common) for row in test_rows]
    about = [_apart_from_wording(row, wording) for row in test_rows]
    index: defaultdict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(test_rows):
        for shingle in row.question | row.answer:
            index[shingle].append(number)
    texts = {(row.asked, row.said): row.id for row in test_rows}

    found: dict[str, str] = {}
    for row in train_rows:
        copied = texts.get((row.asked, row.said))
        if copied is None:
            copied = _copied(_compared(row, wording, common), compared, about, index)
        if copied is not None:
            found[row.id] = copied
    return found


def _copied(
    one: _Compared,
    test: Sequence[_Compared],
    about: Sequence[frozenset[str]],
    index: dict[str, list[int]],
) -> str | None:
    shared: Counter[int] = Counter()
    for shingle in (one.body | one.answer) & index.keys():
        shared.update(index[shingle])
    for number, _ in shared.most_common():
        other = test[number]
        if (
            _holds(one.row, other.answer)
            or _holds(other.row, one.answer)
            or (
                _contains(one.question, other.row.answer, 1)
                and _contains(other.question, one.row.answer, 1)
            )
            or (one.row.said == other.row.said and _contains(one.question, about[number], WHOLE))
            or _contains(one.body, other.body, WHOLE)
            or _contains(other.body, one.body, WHOLE)
        ):
            return other.row.id
    return None


def _holds(row: _Row, answer: frozenset[str]) -> bool:
    """Whether an answer stands in a row, in its question and answer together."""
    if len(answer) < ANSWER:
        return False
    found = len(answer & row.question) + len((answer & row.answer) - row.question)
    return found >= CONTAINMENT * len(answer)


def _contains(larger: frozenset[str], smaller: frozenset[str], least: int) -> bool:
    return len(smaller) >= least and len(smaller & larger) >= CONTAINMENT * len(smaller)


def _compared(row: _Row, wording: frozenset[str], common: frozenset[str]) -> _Compared:
    question, own = row.question - wording, row.answer - common
    return _Compared(
        row=row,
        question=question,
        answer=own if 2 * len(own) >= len(row.answer) else _NONE,
        body=question | (own - wording),
    )


def _apart_from_wording(row: _Row, wording: frozenset[str]) -> frozenset[str]:
    """Shingles of what a question is about: none of them reaches into the wording."""
    if not row.question & wording:
        return row.question
    tokens = row.asked.split()
    stays = [True] * len(tokens)
    for start, shingle in enumerate(_shingles(tokens)):
        if shingle in wording:
            stays[start : start + SHINGLE] = [False] * SHINGLE
    return frozenset(
        shingle
        for start, shingle in enumerate(_shingles(tokens))
        if all(stays[start : start + SHINGLE])
    )


def _wording(train: Sequence[_Row], test: Sequence[_Row]) -> frozenset[str]:
    """Shingles that are the wording of requests.

    Counting answers, and questions of the test set, not rows, keeps a sentence that was copied
    many times from looking like wording.
    """
    rows = [*train, *test]
    ceiling = min(max(4, COMMON * len(rows)), MANY)
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(row.question | row.answer)
    frequent = {shingle for shingle, count in counts.items() if count > ceiling}
    answers, asked, tested = (defaultdict[str, set[str]](set) for _ in range(3))
    for row in rows:
        for shingle in (row.question | row.answer) & frequent:
            answers[shingle].add(row.said)
        for shingle in row.question & frequent:
            asked[shingle].add(row.asked)
    for row in test:
        for shingle in row.question & frequent:
            tested[shingle].add(row.asked)
    several, half = min(2, len(test)), max(3, len(test) / 2)
    return frozenset(
        shingle
        for shingle, given in answers.items()
        if len(given) > ceiling
        or (
            len(asked[shingle]) > ceiling
            and len(tested[shingle]) >= (several if len(given) > 1 else half)
        )
    )


def _common_answers(rows: Sequence[_Row], wording: frozenset[str]) -> frozenset[str]:
    """Shingles of answers that rows with different questions share."""
    counts: Counter[str] = Counter()
    texts: defaultdict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        counts.update(row.answer)
        texts[row.said].append(row)
    shared = [group for group in texts.values() if _differently_asked(group, wording, 2)]
    if len(shared) > 1 and 2 * sum(map(len, shared)) >= len(rows):
        return frozenset(counts)
    frequent = {shingle for shingle, count in counts.items() if count >= SHARED}
    given: defaultdict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        for shingle in row.answer & frequent:
            given[shingle].append(row)
    return frozenset(
        shingle
        for shingle, sharing in given.items()
        if _differently_asked(sharing, wording, SHARED)
    )


def _differently_asked(rows: Sequence[_Row], wording: frozenset[str], least: int) -> bool:
    """Whether at least so many of the rows have different questions."""
    if len(rows) < least:
        return False
    different: list[tuple[str, frozenset[str]]] = []
    for row in islice(rows, SEEN):
        question = row.question - wording
        if not any(row.asked == asked or _related(question, other) for asked, other in different):
            different.append((row.asked, question))
            if len(different) == least:
                return True
    return False


def _related(one: frozenset[str], other: frozenset[str]) -> bool:
    shorter = min(len(one), len(other))
    return shorter > 0 and len(one & other) >= RELATED * shorter


def _row(example: Example) -> _Row:
    asked = "\n".join([*(text for _, text in example.history), example.instruction])
    question, answer = (_TOKEN.findall(fold(text)) for text in (asked, example.output))
    said = " ".join(answer)
    return _Row(
        id=example.id,
        asked=" ".join(question) or asked.strip(),
        said=said or example.output.strip(),
        question=frozenset(_shingles(question)),
        # An answer too short for a shingle is one, so that it is counted.
        answer=frozenset(_shingles(answer)) or frozenset({said}),
    )


def _shingles(tokens: list[str]) -> Iterable[str]:
    return (" ".join(tokens[i : i + SHINGLE]) for i in range(len(tokens) - SHINGLE + 1))
