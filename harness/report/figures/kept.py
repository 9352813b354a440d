"""Pictures that were drawn before, so that what has not changed is not drawn again.

They are kept in the user's cache, by a digest of everything that they show and of the code that
draws them. Not beside the report: a picture stands in it as it is, and a results directory may come
from somebody else.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, wraps
from importlib.metadata import version
from pathlib import Path
from typing import Any, ParamSpec

from harness.core import digest
from harness.files import keep, kept, sha256
from harness.metrics.base import Metric
from harness.places import LANGUAGES

P = ParamSpec("P")
KIND = "figures"
DRAWN_BY = ("matplotlib", "numpy")
_KEEPING: ContextVar[bool] = ContextVar("keeping", default=False)


@contextmanager
def keeping() -> Any:
    """While this lasts, pictures come from the cache, and into it."""
    token = _KEEPING.set(True)
    try:
        yield
    finally:
        _KEEPING.reset(token)


def drawn_once(draw: Callable[P, str]) -> Callable[P, str]:
    """Mark a pure function that draws: its arguments are told apart by what they say."""

    @wraps(draw)
    def drawn(*args: P.args, **more: P.kwargs) -> str:
        if not _KEEPING.get():
            return draw(*args, **more)
        said = [repr(_plain(one)) for one in (*args, *more.items())]
        name = digest([draw.__module__, draw.__name__, *said, *_by()])
        known = kept(KIND, name)
        if known is None:
            known = draw(*args, **more)
            keep(KIND, name, known)
        return known

    return drawn


def _plain(value: Any) -> Any:
    """What a picture can show of a metric: it says nothing of itself."""
    if isinstance(value, Metric):
        return value.name, value.noun, value.scale, value.better
    return value


@cache
def _by() -> list[str]:
    """What draws: our code, and the versions of what it uses."""
    here = Path(__file__).parent
    files = [*sorted(here.glob("*.py")), here.parent / "formatting.py"]
    files += sorted(LANGUAGES.glob("*.po"))
    return [*map(sha256, files), *map(version, DRAWN_BY)]
