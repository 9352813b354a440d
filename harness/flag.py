"""One flag, and the flags of what needs neither data nor model: reports and the gate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness import parse
from harness.places import languages


@dataclass(frozen=True)
class Flag:
    """One flag: ``parse`` turns its text into a value or raises ValueError saying what is right.

    ``kind`` is what the flag names where that is found as plugins are: ``strategies``.
    ``repeats`` is whether it may stand several times, which is the same as a list.
    """

    name: str
    parse: Callable[[str], Any]
    default: Any
    help: str
    metavar: str | None = None
    kind: str | None = None
    repeats: bool = False

    @property
    def field(self) -> str:
        return self.name.replace("-", "_")


_OFFLINE = (
    Flag(
        "report",
        parse.choices("csv", "latex"),
        (),
        "write the main table also as report.csv or report.tex: csv, latex",
        "NAMES",
    ),
    Flag(
        "lang",
        parse.choices(*languages()),
        ("en",),
        f"languages of the Markdown and HTML reports: {', '.join(languages())}; en is report.html, "
        f"zh-TW is report.zh-TW.html. Those not named are not written, except to keep a report up "
        f"to date that stands there already",
        "TAGS",
    ),
    Flag(
        "templates",
        parse.path,
        None,
        "a folder whose files stand in for those of templates/ in the reports",
        "DIR",
    ),
    Flag(
        "baseline",
        parse.path,
        None,
        "hold every cell to this stored run: exit status 1 if one got worse",
        "FILE",
    ),
    Flag(
        "update-baseline", parse.switch, False, "write this run to --baseline instead of comparing"
    ),
    Flag(
        "tolerance",
        parse.share,
        0.01,
        "change for the worse that the gate accepts, such as 1% or 0.01: a share of the geometric "
        "mean of perplexities, or of the range of a metric on a linear scale",
        "SHARE",
    ),
    Flag(
        "gate-strict",
        parse.switch,
        False,
        "fail also where a change as large as the tolerance could have gone unseen",
    ),
)
OFFLINE = {flag.name: flag for flag in _OFFLINE}
