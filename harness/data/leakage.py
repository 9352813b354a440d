"""Training rows that stand in the test set, or nearly do.

Two rows are compared by w-shingling (Broder 1997, "On the resemblance and containment of
documents"). A token is one CJK character or one word, letter case and punctuation ignored; a
shingle is four tokens in a row. A training row is a near copy of a test row when

* the answer of one stands in the other row: at least 60 % of the answer's shingles, of which
  there are at least five (shorter answers are often formulas). A translation asked for in the
  other direction has the same two sentences, and is found this way too; or
* the rows as wholes contain each other: at least 60 % of the smaller row's shingles stand in the
  larger one. Here shingles that rows with many different answers share are not counted: they are
  the wording of the request, and say nothing about copying; or
* the two texts are equal token by token.

The history of a conversation counts as part of its instruction.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.core import Example

SHINGLE = 4
CONTAINMENT = 0.6
ANSWER = 5  # shingles an answer must have to be compared alone
COMMON = 0.01  # wording: in rows with more different answers than this share of the rows (and 4)

_TOKEN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]|[^\W_\u3400-\u9fff]+")


@dataclass(frozen=True)
class _Row:
    id: str
    text: str
    answer: frozenset[str]
    whole: frozenset[str]


def near_copies(train: Sequence[Example], test: Sequence[Example]) -> dict[str, str]:
    """Return training id → id of the test row that it equals or nearly copies."""
    train_rows, test_rows = [_row(example) for example in train], [_row(e) for e in test]
    wording = _wording([*train_rows, *test_rows])
    index: defaultdict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(test_rows):
        for shingle in row.whole:
            index[shingle].append(number)
    bodies = [row.whole - wording for row in test_rows]
    texts = {row.text: row.id for row in test_rows}

    found: dict[str, str] = {}
    for row in train_rows:
        copied = texts.get(row.text)
        if copied is None:
            copied = _copied(row, test_rows, bodies, index, wording)
        if copied is not None:
            found[row.id] = copied
    return found


def _copied(
    row: _Row,
    test: Sequence[_Row],
    bodies: Sequence[frozenset[str]],
    index: dict[str, list[int]],
    wording: frozenset[str],
) -> str | None:
    shared: Counter[int] = Counter()
    body = row.whole - wording
    for shingle in (body | row.answer) & index.keys():
        shared.update(index[shingle])
    for number, _ in shared.most_common():
        other = test[number]
        if (
            _contains(row.whole, other.answer, ANSWER)
            or _contains(other.whole, row.answer, ANSWER)
            or _contains(body, bodies[number], 1)
            or _contains(bodies[number], body, 1)
        ):
            return other.id
    return None


def _contains(larger: frozenset[str], smaller: frozenset[str], least: int) -> bool:
    return len(smaller) >= least and len(smaller & larger) >= CONTAINMENT * len(smaller)


def _wording(rows: Sequence[_Row]) -> frozenset[str]:
    """Shingles that stand in rows with many different answers.

    Counting answers, not rows, keeps a sentence that was copied many times from looking like
    wording.
    """
    ceiling = max(4, COMMON * len(rows))
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(row.whole)
    frequent = {shingle for shingle, count in counts.items() if count > ceiling}
    answers: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        for shingle in row.whole & frequent:
            answers[shingle].add(row.text.rpartition("\n")[2])
    return frozenset(shingle for shingle, seen in answers.items() if len(seen) > ceiling)


def _row(example: Example) -> _Row:
    asked = "\n".join([*(text for _, text in example.history), example.instruction])
    fields = [
        _TOKEN.findall(unicodedata.normalize("NFKC", text).lower())
        for text in (asked, example.output)
    ]
    return _Row(
        id=example.id,
        text="\n".join(" ".join(tokens) for tokens in fields),
        answer=frozenset(_shingles(fields[1])),
        whole=frozenset(_shingles(fields[0])) | frozenset(_shingles(fields[1])),
    )


def _shingles(tokens: list[str]) -> Iterable[str]:
    return (" ".join(tokens[i : i + SHINGLE]) for i in range(len(tokens) - SHINGLE + 1))
