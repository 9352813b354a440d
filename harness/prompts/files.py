"""Prompt files: TOML with a preamble, a demonstration and a query."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from harness.core import PromptTemplate
from harness.errors import PromptError, suggest
from harness.places import TEMPLATES, find_files, folders
from harness.prompts.placeholders import misread, special_token
from harness.prompts.rendering import PLACEHOLDER

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROMPTS = TEMPLATES / "prompts"
FIELDS = ("preamble", "demonstration", "query")
OPTIONAL = ("chat", "description", "literal")


def load_template(name: str) -> PromptTemplate:
    """Load a prompt by name from ``templates/prompts/``, ours or the user's, or from a TOML file.

    Raises:
        PromptError: one line naming the file and the key, what was found and what would be right.
    """
    path = Path(name).expanduser() if "/" in name or name.endswith(".toml") else _named(name)
    if not path.is_file():
        raise PromptError(f"--prompt={name}: no such file")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
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
        if key not in (*FIELDS, *OPTIONAL):
            raise PromptError(
                f"{path}: unknown key {key!r}{suggest(key, (*FIELDS, *OPTIONAL))}; "
                f"a prompt has {', '.join(FIELDS)} and, optionally, {', '.join(OPTIONAL)}"
            )
    for key in FIELDS:
        if not isinstance(values.get(key), str):
            raise PromptError(f"{path}: {key!r} must be a text, found {values.get(key)!r}")
    chat, literal = values.get("chat", False), values.get("literal", [])
    if not isinstance(chat, bool):
        raise PromptError(f"{path}: 'chat' must be true or false, found {chat!r}")
    if not isinstance(literal, list) or not all(isinstance(text, str) for text in literal):
        raise PromptError(f"{path}: 'literal' must be a list of texts, found {literal!r}")
    for key in FIELDS:
        _check_text(f"{path}: {key!r}", values[key], chat, literal)
    _check_placeholders(path, values, chat)
    return PromptTemplate(name=path.stem, chat=chat, **{key: values[key] for key in FIELDS})


def _check_text(where: str, text: str, chat: bool, literal: list[str]) -> None:
    """See that nothing goes to the model that the author thought would be replaced."""
    line = misread(text, literal)
    if line is not None:
        raise PromptError(
            f"{where} contains {line}. What is meant as text stands in the list 'literal'"
        )
    token = special_token(text, literal)
    if token is not None:
        how = (
            "the tokenizer's chat template writes them; leave them out"
            if chat
            else "with chat = true the tokenizer's own chat template writes them"
        )
        raise PromptError(
            f"{where} contains {token}, which would be tokenized as text: special tokens are "
            f"never read from a prompt. {how[0].upper()}{how[1:]}. What is meant as text stands "
            f"in the list 'literal'"
        )


def _check_placeholders(path: Path, values: dict[str, Any], chat: bool) -> None:
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
