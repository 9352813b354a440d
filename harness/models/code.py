"""The digests of the harness's own code: for likelihoods, adapters, answers and ratings.

The code that computes a number is part of what determines it, and a version constant would rely
on somebody remembering to raise it. Each digest is that of whole rooms (folders of this package),
so that no list of modules is kept by hand. Code outside of these rooms, of a report or of a
metric, changes no key and makes nothing be computed again.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from harness.core import digest
from harness.files import sha256

PACKAGE = Path(__file__).resolve().parents[1]

SCORING = ("prompts", "models", "scoring")  # what computes a row's likelihood
TRAINING = (*SCORING, "training")  # what computes an adapter
GENERATION = (*SCORING, "generation")  # what computes an answer
JUDGING = (*GENERATION, "judging")  # what computes a rating


@cache
def code_digest(rooms: tuple[str, ...]) -> str:
    """SHA-256 of the code of ``rooms``, read from disk once per process."""
    return rooms_digest(PACKAGE, rooms)


def rooms_digest(package: Path, rooms: tuple[str, ...]) -> str:
    """SHA-256 over the paths and bytes of all Python files of ``rooms``.

    Args:
        package: the folder that the rooms are in.
        rooms: names of folders.
    """
    files = sorted(path for room in rooms for path in (package / room).rglob("*.py"))
    return digest([[path.relative_to(package).as_posix(), sha256(path)] for path in files])
