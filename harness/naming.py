"""Names that are safe in ids, file names and addresses; numbers of things."""

from __future__ import annotations

import hashlib
import re


def counted(number: int, noun: str) -> str:
    """``1 cell``, ``2 cells``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def slug(name: str) -> str:
    """An ASCII version of ``name`` for ids; what cannot be shown is replaced by a short hash."""
    plain = re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip("-.")
    if plain == name:
        return plain
    return f"{plain or 'x'}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
