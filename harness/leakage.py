"""Training rows that stand in the test set, or nearly do.

Two rows are compared by w-shingling (Broder 1997, "On the resemblance and containment of
documents"): the containment of the smaller row's shingles in the larger one's. A token is one
CJK character or one word, letter case and punctuation ignored; a shingle is four tokens in a row.
Shingles that many rows share (the wording of the instruction) say nothing about copying and are
not counted. A translation asked in the other direction has the same sentences, hence the same
shingles, and is found too.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from harness.core import Example

SHINGLE = 4
CONTAINMENT = 0.6
COMMON = 0.01  # a shingle in more than this share of all rows (and in more than 4) is wording

_TOKEN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]|[^\W_\u3400-\u9fff]+")


def near_copies(train: Sequence[Example], test: Sequence[Example]) -> dict[str, str]:
    """Return training id → id of the test row that it equals or nearly copies.

    A row is a near copy when at least 60 % of the shingles of the smaller of the two rows stand
    in the other. Rows too short to have a shingle of their own are compared as whole texts.
    """
    train_tokens = [_tokens(example) for example in train]
    test_tokens = [_tokens(example) for example in test]
    train_shingles = [_shingles(tokens) for tokens in train_tokens]
    test_shingles = [_shingles(tokens) for tokens in test_tokens]
    counts: Counter[str] = Counter()
    for shingles in (*train_shingles, *test_shingles):
        counts.update(shingles)
    ceiling = max(4, COMMON * (len(train) + len(test)))

    where: dict[str, list[int]] = {}
    sizes = []
    for index, shingles in enumerate(test_shingles):
        own = {shingle for shingle in shingles if counts[shingle] <= ceiling}
        sizes.append(len(own))
        for shingle in own:
            where.setdefault(shingle, []).append(index)
    whole = {_whole(tokens): index for index, tokens in enumerate(test_tokens)}

    found: dict[str, str] = {}
    for example, tokens, shingles in zip(train, train_tokens, train_shingles, strict=True):
        copied = whole.get(_whole(tokens))
        if copied is None:
            copied = _contained(shingles, where, sizes, counts, ceiling)
        if copied is not None:
            found[example.id] = test[copied].id
    return found


def _contained(
    shingles: set[str],
    where: dict[str, list[int]],
    sizes: list[int],
    counts: Counter[str],
    ceiling: float,
) -> int | None:
    shared: Counter[int] = Counter()
    for shingle in shingles & where.keys():
        shared.update(where[shingle])
    if not shared:
        return None
    size = sum(1 for shingle in shingles if counts[shingle] <= ceiling)
    for index, most in shared.most_common():
        if most >= CONTAINMENT * min(size, sizes[index]):
            return index
    return None


def _tokens(example: Example) -> list[list[str]]:
    return [
        _TOKEN.findall(unicodedata.normalize("NFKC", text).lower())
        for text in (example.instruction, example.output)
    ]


def _shingles(fields: list[list[str]]) -> set[str]:
    return {
        " ".join(tokens[start : start + SHINGLE])
        for tokens in fields
        for start in range(len(tokens) - SHINGLE + 1)
    }


def _whole(fields: list[list[str]]) -> str:
    return "\n".join(" ".join(tokens) for tokens in fields)
