"""Prompt files: TOML with a preamble, a demonstration and a query."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from harness.core import PromptTemplate
from harness.errors import PromptError, suggest
from harness.places import TEMPLATES
from harness.prompts.rendering import PLACEHOLDER

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROMPTS = TEMPLATES / "prompts"
FIELDS = ("preamble", "demonstration", "query")


def load_template(name: str) -> PromptTemplate:
    """Load a prompt by name from ``templates/prompts/``, or from the path of a TOML file.

    Raises:
        PromptError: one line naming the file and the key, what was found and what would be right.
    """
    is_path = "/" in name or name.endswith(".toml")
    path = Path(name).expanduser() if is_path else PROMPTS / f"{name}.toml"
    if not path.is_file():
        known = sorted(file.stem for file in PROMPTS.glob("*.toml"))
        if is_path:
            raise PromptError(f"--prompt={name}: no such file")
        raise PromptError(
            f"--prompt={name}: no such prompt{suggest(name, known)}; "
            f"known: {', '.join(known)}, or the path of a TOML file"
        )
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
