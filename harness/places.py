"""Where the folders of strategies, suites, templates and recipes are: the shipped, and the user's.

And where results are that lie elsewhere.

In a checkout the shipped folders stand beside ``harness/``; a wheel carries them inside the package
``adaptbench``, so that it installs no top-level package of such a general name. A user's own folder
of the same name, in the working directory, is looked into as well, and never instead.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from harness.files import cache_dir

ROOT = Path(__file__).resolve().parents[1]  # of the checkout, or site-packages


@dataclass(frozen=True)
class Location:
    """A results directory that is not on this machine.

    Attributes:
        url: of the folder, without a slash at its end.
    """

    url: str

    @property
    def folder(self) -> Path:
        """The folder of this machine that holds what is known of it."""
        name = self.url.rpartition("/")[2][:60]
        own = hashlib.sha256(self.url.encode("utf-8")).hexdigest()[:16]
        return cache_dir() / "results" / f"{name}-{own}"


def shipped(name: str) -> Path:
    """Return the shipped folder called ``name``, e.g. ``templates``."""
    inside = ROOT / "adaptbench" / name
    return inside if inside.is_dir() else ROOT / name


def folders(name: str) -> list[Path]:
    """Return the folders called ``name``: the shipped one, then the working directory's, if any.

    A working directory that is the checkout itself has one of them only.
    """
    own, first = Path.cwd() / name, shipped(name)
    there = own.is_dir() and own.resolve() != first.resolve()
    return [first, own] if there else [first]


def find_files(folder: str, file: str) -> list[Path]:
    """Return the files called ``file`` in the folders called ``folder``, the shipped one first.

    A copy of the shipped file is not another one. Where two are returned, the user has a file of
    their own under the name of a shipped one: neither hides the other.
    """
    found = [path for place in folders(folder) if _is_file(path := place / file)]
    if len(found) > 1 and found[0].read_bytes() == found[1].read_bytes():
        return found[:1]
    return found


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


TEMPLATES = shipped("templates")
LANGUAGES = TEMPLATES / "languages"


def languages() -> tuple[str, ...]:
    """The tags of the languages that reports can be written in, English first."""
    return ("en", *sorted(path.stem for path in LANGUAGES.glob("*.po")))
