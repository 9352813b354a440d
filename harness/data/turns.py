"""Turns of a conversation: ShareGPT's ``from``, ``value``, or OpenAI's ``role``, ``content``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.data.json_rows import kind_of
from harness.data.unread import CARRIERS, is_empty, is_metadata
from harness.data.validation import check_once, check_text, text_of, value_of
from harness.errors import DataError, suggest

ROLES = {
    "system": "system",
    "developer": "system",
    "human": "user",
    "user": "user",
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard", "model"), "assistant"),
}
# Of a turn, beside those of a row: what else the speaker said or saw.
_TURN_CARRIERS = CARRIERS | {"tool_calls", "tool_call_id", "function_call"}
_SPEAKER = ("name", "refusal", "weight", "loss", "train")

Turn = tuple[str, str]
History = tuple[Turn, ...]


def turns_of(
    where: str, field: str, found: Any, before: int = 0
) -> tuple[list[Turn], tuple[str, ...]]:
    """Return (role, text) of every turn, and the names of fields of turns that are not read.

    A system turn without text is left out.

    Args:
        where: what an error line begins with.
        field: what holds the turns.
        found: what stands there.
        before: turns that stand before these, for their numbers.

    Raises:
        DataError: one line naming the turn and what was found.
    """
    if not isinstance(found, list) or not found:
        what = kind_of(found) if found != [] else "an empty one"
        raise DataError(f"{where}, field {field!r}: expected an array of turns, found {what}")
    turns: list[Turn] = []
    beside: dict[str, None] = {}
    for number, turn in enumerate(found, start=before + 1):
        spoken, others = _turn(f"{where}, turn {number}", turn)
        beside |= dict.fromkeys(others)
        if spoken is not None:
            turns.append(spoken)
    return turns, tuple(beside)


def check_turns(where: str, turns: Sequence[Turn], before: int = 0) -> None:
    """See that (role, text) pairs are a conversation that ends with the assistant's answer.

    Args:
        where: what an error line begins with.
        turns: in order.
        before: turns of the file that stand before these, for their numbers.

    Raises:
        DataError: the roles do not take turns; the line begins with ``where``.
    """
    if not turns:
        raise DataError(f"{where}: no turn has a text")
    system = 1 if turns[0][0] == "system" else 0
    for number, (role, _) in enumerate(turns[system:], start=1):
        due = "user" if number % 2 else "assistant"
        if role != due:
            raise DataError(
                f"{where}, turn {before + system + number}: expected the {due}'s turn, found one "
                f"of the {role}; after a system turn, if any, user and assistant alternate, the "
                f"user first"
            )
    if turns[-1][0] != "assistant":
        raise DataError(
            f"{where}, turn {before + len(turns)}: the last turn is the {turns[-1][0]}'s; it must "
            f"be the assistant's, which is the answer"
        )


def _turn(where: str, turn: Any) -> tuple[Turn | None, list[str]]:
    if not isinstance(turn, dict):
        raise DataError(f"{where}: expected an object, found {kind_of(turn)}")
    check_once(where, turn)
    openai = turn.get("role") is not None and turn.get("from") is None
    speaker, text = ("role", "content") if openai else ("from", "value")
    name = text_of(where, turn, speaker)
    if name not in ROLES:
        raise DataError(
            f"{where}, field {speaker!r}: unknown role {name!r}{suggest(name, ROLES)}; "
            f"known: {', '.join(ROLES)}"
        )
    role, others = ROLES[name], _beside(where, turn, (speaker, text))
    if role == "system" and text in turn and _is_blank(turn[text]):
        return None, others
    if openai and isinstance(turn.get(text), list) and turn[text]:
        return (role, _joined(where, turn[text])), others
    return (role, text_of(where, turn, text)), others


def _is_blank(text: Any) -> bool:
    return text is None or (isinstance(text, str) and not text.strip())


def _beside(where: str, turn: dict[str, Any], read: tuple[str, str]) -> list[str]:
    """Fields of a turn that are not read, and are not known to say nothing."""
    others = []
    for name, value in turn.items():
        if name in read or name in _SPEAKER or is_empty(value) or is_metadata(name, value):
            continue
        if name.lower() in _TURN_CARRIERS:
            raise DataError(
                f"{where}, field {name!r}: is not read, and the answer may depend on it; leave "
                f"such conversations out"
            )
        others.append(name)
    return others


def _joined(where: str, parts: list[Any]) -> str:
    """The text of OpenAI's parts of a content, one after the other."""
    texts = []
    for number, part in enumerate(parts, start=1):
        inside = f"{where}, field 'content', part {number}"
        if not isinstance(part, dict):
            raise DataError(f"{inside}: expected an object, found {kind_of(part)}")
        if part.get("type") != "text":
            raise DataError(
                f"{inside}: of type {part.get('type')!r}; only parts of type 'text' are read"
            )
        text = value_of(inside, part, "text")
        check_text(inside, "text", text)
        texts.append(text)
    joined = "".join(texts)
    if not joined.strip():
        raise DataError(f"{where}, field 'content': it is empty")
    return joined
