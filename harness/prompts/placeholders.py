"""What in a prompt file looks like a placeholder, or like a special token, and is none.

Placeholders are replaced literally (:mod:`harness.prompts.rendering`), so whatever else stands in
braces goes to the model as it is. JSON, LaTeX, code and regular expressions may; another
program's placeholder would be read by the model instead of the row. The key ``literal`` of a
prompt file names what is meant as text.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from harness.errors import suggest
from harness.prompts.rendering import PLACEHOLDER

KNOWN = ("instruction", "output", "number")
_ROWS = "rows have {instruction}, {output} and {number}"

# Names that other programs give to the same things.
_QUESTION = "the question stands in {instruction}"
_ANSWER = "the answer stands in {output}"
_DEMONSTRATIONS = "demonstrations stand between preamble and query, each as 'demonstration' says"
_STANDS = {
    **dict.fromkeys(("input", "context"), "the input stands in {instruction}"),
    **dict.fromkeys(
        ("question", "prompt", "query", "problem", "text", "source", "sentence", "passage"),
        _QUESTION,
    ),
    **dict.fromkeys(("content", "message", "user", "user_input", "user_prompt"), _QUESTION),
    **dict.fromkeys(("answer", "response", "target", "completion", "label", "reference"), _ANSWER),
    **dict.fromkeys(("assistant", "reply", "solution", "gpt"), _ANSWER),
    **dict.fromkeys(
        ("system", "system_prompt", "system_message", "history"),
        "a row's system turn stands before the preamble, and its earlier turns are shown as "
        "demonstrations are",
    ),
    **dict.fromkeys(("examples", "demonstrations", "few_shot", "shots"), _DEMONSTRATIONS),
    **dict.fromkeys(("index", "i", "n", "num", "no"), "the number is {number}"),
}

_DOUBLED = re.compile(r"\{\{+\s*(?P<inner>[^{}\s\\][^{}]*|\{[^{}]*\}.*?)?\s*\}\}+|\{\{+\s*[\"'\n]")
_AROUND = "{}$ "
_STATEMENT = re.compile(r"\{%-?\s*[a-z]+\b[^{}]*%\}|\{#.*?#\}")
_DOLLAR = re.compile(r"\$\{\w*\}|\$(?:instruction|output|number|input)\b")
_PERCENT = re.compile(r"(?<![\w%])%(?:\(\w+\))?[sdr](?!\w)")
_SINGLE = re.compile(
    r"\{\s*(?P<name>\w*)(?P<path>(?:\.\w+|\[\w*\])*)(?P<conversion>![rsa])?"
    r"(?P<format>:[^{}\s\"']*)?(?P<filter>\s*\|\s*[a-z]\w*(?:\([^{}]*\))?)?\s*\}"
)
_SPECIFIED = re.compile(r":[<>^=+-]?0?\d*(?:\.\d+)?[a-zA-Z%]?")  # a format, and not a value
# What stands before an argument of LaTeX, a repetition in a regular expression, a block of code.
_ARGUMENT = re.compile(r"(?:\\[A-Za-z]+\*?(?:\[[^\]]*\])?(?:\{[^{}]*\})*|[\^_])$")
_REPEATED = re.compile(r"[\])\w.]$")
_CODE = re.compile(r"(?:[=)]|\b(?:else|try|do))\s*$")
_SPECIAL = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|<｜[^｜<>\s]{1,40}｜>|</?s>|<(?:bos|eos|pad|unk)>|<(?:start|end)_of_turn>"
)


def misread(text: str, literal: Collection[str]) -> str | None:
    """Return what the author of a prompt has to know of the first thing that is no placeholder.

    Args:
        text: one of a prompt's three strings.
        literal: what is meant as text, with or without its braces.

    Returns:
        ``{input}: rows have …; the input stands in {instruction}``, or None if all is well.
    """
    meant = {text.strip(_AROUND) for text in literal}
    for pattern, explain in (
        (_STATEMENT, _statement),
        (_DOUBLED, _doubled),
        (_DOLLAR, _dollar),
        (_SINGLE, _single),
        (_PERCENT, _percent),
    ):
        for match in pattern.finditer(text):
            found = match[0]
            if found.strip(_AROUND) in meant:
                continue
            line = explain(text[: match.start()], match)
            if line is not None:
                return f"{' '.join(found.split())}{line}"
    return None


def special_token(text: str, literal: Collection[str]) -> str | None:
    """Return the first spelling of a special token, such as ``<|im_start|>``, or None."""
    return next((found for found in _SPECIAL.findall(text) if found not in literal), None)


def _statement(before: str, match: re.Match[str]) -> str:
    return ": no template engine reads a prompt; placeholders are replaced literally, and " + _ROWS


def _doubled(before: str, match: re.Match[str]) -> str | None:
    if _ARGUMENT.search(before) and not match[0].startswith("{{{"):
        return None  # \boxed{{output}}: LaTeX's braces around a placeholder
    named = re.match(r"\w*", match["inner"] or "")
    name = named[0] if named else ""
    meant = f"write {{{name}}}" if name in KNOWN else f"write single ones; {_where(name)}"
    return f": doubled braces would go to the model as they are; {meant}"


def _dollar(before: str, match: re.Match[str]) -> str | None:
    if before.endswith("\\"):
        return None
    name = match[0].strip("${}")
    where = f"write {{{name}}}" if name in KNOWN else _where(name)
    return f": a placeholder has no $; {where}"


def _percent(before: str, match: re.Match[str]) -> str:
    return f": % fills in nothing; {_ROWS}, and the question stands in {{instruction}}"


def _single(before: str, match: re.Match[str]) -> str | None:
    name, shape = match["name"], match["format"] or ""
    if PLACEHOLDER.fullmatch(match[0]):
        return None
    if _ARGUMENT.search(before):
        return None
    if name.isdigit() and _REPEATED.search(before):
        return None
    if not name and (_CODE.search(before) or before.count("{") > before.count("}")):
        return None  # an empty block, or an empty object in JSON
    if shape and not (_SPECIFIED.fullmatch(shape) and (name in KNOWN or len(shape) > 2)):
        return None  # {key:value}
    if name in KNOWN:
        return f": a placeholder is its name in braces and no more; write {{{name}}}"
    if not name:
        return f": placeholders have names; {_ROWS}"
    return f"{suggest(name.lower(), KNOWN)}: {_where(name)}"


def _where(name: str) -> str:
    if name.isdigit():
        return f"placeholders have names; {_ROWS}"
    stands = _STANDS.get(name.lower())
    return f"{_ROWS}; {stands}" if stands else _ROWS
