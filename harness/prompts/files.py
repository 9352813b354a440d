"""Prompt files: TOML with a preamble, a demonstration and a query."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from harness.core import PromptTemplate
from harness.errors import PromptError, suggest
from harness.places import TEMPLATES, find_files, folders
from harness.prompts.rendering import PLACEHOLDER

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROMPTS = TEMPLATES / "prompts"
FIELDS = ("preamble", "demonstration", "query")


def load_template(name: str) -> PromptTemplate:
    """Load a prompt by name from ``templates/prompts/``, ours or the user's, or from a TOML file.

    Raises:
        PromptError: one line naming the file and the key, what was found and what would be right.
    """
    path = Path(name).expanduser() if "/" in name or name.endswith(".toml") else _named(name)
    if not path.is_file():
        raise PromptError(f"--prompt={name}: no such file")
    try:
        text = path.read_text(encoding="utf-8")
        if text.startswith("\ufeff"):
            raise PromptError(
                f"{path}: starts with a byte order mark; save it as UTF-8 without BOM"
            )
        values = tomllib.loads(text)
    except OSError as error:
        raise PromptError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PromptError(f"{path}: not valid TOML: {error}") from None
    return _template(path, values)


def _named(name: str) -> Path:
    files = find_files("templates", f"prompts/{name}.toml")
    if not files:
        places = [folder / "prompts" for folder in folders("templates")]
        known = sorted({file.stem for place in places for file in place.glob("*.toml")})
        raise PromptError(
            f"--prompt={name}: no such prompt{suggest(name, known)}; "
            f"known: {', '.join(known)}, or the path of a TOML file"
        )
    if len(files) > 1:
        raise PromptError(
            f"--prompt={name}: both {files[0]} and {files[1]} are called so; give the path of one"
        )
    return files[0]


def _template(path: Path, values: dict[str, Any]) -> PromptTemplate:
    for key in values:
        if key not in (*FIELDS, "chat", "description"):
            raise PromptError(
                f"{path}: unknown key {key!r}{suggest(key, FIELDS)}; "
                f"a prompt has {', '.join(FIELDS)} and, optionally, chat and description"
            )
    for key in FIELDS:
        if not isinstance(values.get(key), str):
            raise PromptError(f"{path}: {key!r} must be a text, found {values.get(key)!r}")
    chat = values.get("chat", False)
    if not isinstance(chat, bool):
        raise PromptError(f"{path}: 'chat' must be true or false, found {chat!r}")
    required = {
        "preamble": set(),
        "demonstration": {"instruction"} if chat else {"instruction", "output"},
        "query": {"instruction"},
    }
    forbidden = {
        "preamble": {"instruction", "output", "number"},
        "demonstration": {"output"} if chat else set(),
        "query": {"output"},
    }
    for key in FIELDS:
        found = set(PLACEHOLDER.findall(values[key]))
        for name in sorted(required[key] - found):
            raise PromptError(f"{path}: {key!r} has no {{{name}}}")
        for name in sorted(forbidden[key] & found):
            raise PromptError(f"{path}: {key!r} must not contain {{{name}}}")
        for name in re.findall(r"\{(\w+)\}", values[key]):
            near = suggest(name, ("instruction", "output", "number"))
            if near and name not in found:
                raise PromptError(f"{path}: {key!r} contains {{{name}}}{near}")
    return PromptTemplate(name=path.stem, chat=chat, **{key: values[key] for key in FIELDS})
