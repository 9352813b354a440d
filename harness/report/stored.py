"""Lines that rooms which measure keep in English, so that a report can say them in a language.

Each is the template of an f-string that stands where the line is made (a test looks there). They
are marked here because the source of those rooms is part of a cell's key.
"""

from __future__ import annotations

STORED: tuple[str, ...] = ()
