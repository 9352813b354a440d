"""Rubrics: what a judge is asked, and what it may say. TOML files in ``templates/judges/``.

    kind = "single"                     or "pairwise": two answers, in both orders
    question = "…{instruction}…{answer}…"
    menu = {"0" = 0.0, "1" = 1.0}       what may be said, and its worth; "pairwise" has A, B, C
    system = "…"                        the judge's own instructions; optional
    reply = "…"                         how to reply, the question's last line; optional
    explain = "…"                       the same for a judge whose reply is held to JSON with a
                                        reason and a verdict; optional
    reference = true                    whether {reference} is shown; optional
    description = "…"                   for readers; optional

Placeholders are replaced literally, once: nothing in a row or an answer is read as one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.core import digest
from harness.errors import OptionError, suggest
from harness.places import find_files, folders

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KINDS = {
    "single": ("instruction", "answer"),
    "pairwise": ("instruction", "answer_a", "answer_b"),
}
KEYS = ("kind", "question", "menu")
OPTIONAL = ("system", "reply", "explain", "reference", "description")
PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
VERDICTS = {"A": 1.0, "B": 0.0, "C": 0.5}  # of a pair: what the first answer gets


@dataclass(frozen=True)
class Rubric:
    """What a judge is asked of an answer, or of two.

    Attributes:
        name: of its file.
        kind: ``single`` or ``pairwise``.
        question: with the placeholders of its kind.
        menu: verdict → what it is worth, in the file's order.
        system: the judge's instructions.
        reference: whether the reference is shown.
        reply: how to reply, put on a line of its own after the question.
        explain: put there instead where the reply is held to JSON with a reason and a verdict.
    """

    name: str
    kind: str
    question: str
    menu: tuple[tuple[str, float], ...]
    system: str = ""
    reference: bool = False
    reply: str = ""
    explain: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of what it says; its name is no part of it."""
        return digest({name: value for name, value in asdict(self).items() if name != "name"})

    @property
    def limits(self) -> tuple[float, float]:
        """The least and the greatest value of its menu."""
        values = [value for _, value in self.menu]
        return min(values), max(values)


def load_rubric(name: str) -> Rubric:
    """Load a rubric by its name in ``templates/judges/``, ours or the user's, or from a TOML file.

    Raises:
        OptionError: one line naming the file and the key, what was found and what would be right.
    """
    path = Path(name).expanduser() if "/" in name or name.endswith(".toml") else _named(name)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise OptionError(f"--rubric={name}: no such file") from None
    except OSError as error:
        raise OptionError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"{path}: not valid TOML: {error}") from None
    return _rubric(path, values)


def rubric_names() -> list[str]:
    """The names of all rubrics."""
    places = [folder / "judges" for folder in folders("templates")]
    return sorted({file.stem for place in places for file in place.glob("*.toml")})


def _named(name: str) -> Path:
    files = find_files("templates", f"judges/{name}.toml")
    if not files:
        known = rubric_names()
        raise OptionError(
            f"--rubric={name}: no such rubric{suggest(name, known)}; known: {', '.join(known)}, "
            f"or the path of a TOML file"
        )
    if len(files) > 1:
        raise OptionError(
            f"--rubric={name}: both {files[0]} and {files[1]} are called so; give the path of one"
        )
    return files[0]


def _rubric(path: Path, values: Mapping[str, Any]) -> Rubric:
    for key in values:
        if key not in (*KEYS, *OPTIONAL):
            raise OptionError(
                f"{path}: unknown key {key!r}{suggest(key, (*KEYS, *OPTIONAL))}; a rubric has "
                f"{', '.join(KEYS)} and, optionally, {', '.join(OPTIONAL)}"
            )
    kind = values.get("kind")
    if kind not in KINDS:
        raise OptionError(f"{path}: 'kind' must be {' or '.join(KINDS)}, found {kind!r}")
    texts = {key: values.get(key, "") for key in ("system", "reply", "explain")}
    texts["question"] = values.get("question")
    for key, text in texts.items():
        if not isinstance(text, str) or (key == "question" and not text.strip()):
            raise OptionError(f"{path}: {key!r} must be a text, found {text!r:.60}")
    reference = values.get("reference", False)
    if not isinstance(reference, bool):
        raise OptionError(f"{path}: 'reference' must be true or false, found {reference!r:.60}")
    _check_placeholders(path, kind, texts["question"], reference)
    for key in ("reply", "explain"):
        for name in PLACEHOLDER.findall(texts[key]):
            if name in (*KINDS[kind], "reference"):
                raise OptionError(f"{path}: {key!r} has {{{name}}}; it belongs into 'question'")
    menu = _menu(path, kind, values.get("menu"))
    return Rubric(path.stem, str(kind), menu=menu, reference=reference, **texts)


def _check_placeholders(path: Path, kind: str, question: str, reference: bool) -> None:
    wanted = [*KINDS[kind], *(["reference"] if reference else [])]
    found = PLACEHOLDER.findall(question)
    for name in wanted:
        if found.count(name) != 1:
            raise OptionError(
                f"{path}: 'question' has {{{name}}} {found.count(name)} times; expected once"
            )
    for name in found:
        if name not in wanted:
            more = "; say reference = true" if name == "reference" else ""
            raise OptionError(
                f"{path}: 'question' has {{{name}}}{suggest(name, wanted)}; there are "
                f"{', '.join(f'{{{one}}}' for one in wanted)}{more}"
            )


def _menu(path: Path, kind: str, menu: object) -> tuple[tuple[str, float], ...]:
    if kind == "pairwise":
        if menu is not None:
            raise OptionError(f"{path}: 'menu': a pairwise rubric has A, B and C; leave it out")
        return tuple(VERDICTS.items())
    if not isinstance(menu, Mapping) or len(menu) < 2:
        raise OptionError(
            f"{path}: 'menu' must be a table of two verdicts or more and what they are worth, "
            f"found {menu!r:.60}"
        )
    for verdict, value in menu.items():
        if not verdict.strip() or isinstance(value, bool) or not isinstance(value, int | float):
            raise OptionError(
                f"{path}: 'menu': {verdict!r} = {value!r:.40}: expected a verdict and a number"
            )
    return tuple((str(verdict), float(value)) for verdict, value in menu.items())
