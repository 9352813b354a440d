"""What a tokenizer's chat template makes of a conversation, and how far ours is the same.

The tokens of a chat prompt are those of ``apply_chat_template``: no prefix is put before them, and
the end of an answer is the token that the template writes after one. What a template does besides
(a thought before the answer, earlier turns rewritten) is found by comparing, and said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.errors import PromptError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Some chat templates print today's date, and a score must not depend on the day. They ask either
# for a variable or for a function; a function cannot be handed in, but a macro hides it.
CHAT_DATE = "01 Jan 2025"
FIXED_NOW = "{%- macro strftime_now(format) -%}" + CHAT_DATE + "{%- endmacro %}{{ '' }}"
SAID = "ADAPTBENCHSAID"
Turns = list[dict[str, str]]


def rendered(
    tokenizer: PreTrainedTokenizerBase, name: str, turns: Turns, *, asks: bool = True
) -> str:
    """The text that the chat template makes of a conversation.

    Args:
        tokenizer: with a chat template.
        name: of the model, for the error.
        turns: role and content of each.
        asks: whether it ends where an answer begins.

    Raises:
        PromptError: the template refuses the conversation (a system turn, say).
    """
    try:
        template = tokenizer.get_chat_template()
        if "strftime_now" in template:
            template = FIXED_NOW + template
        return str(
            tokenizer.apply_chat_template(
                turns,
                chat_template=template,
                tokenize=False,
                add_generation_prompt=asks,
                date_string=CHAT_DATE,
            )
        )
    except Exception as error:  # templates raise whatever their authors wrote
        raise PromptError(
            f"{name}'s chat template refuses this prompt: {' '.join(str(error).split())[:200]}"
        ) from None


def special_spelling(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    """Matches a text that spells a special token."""
    known = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    known |= set(tokenizer.all_special_tokens)
    return re.compile("|".join(map(re.escape, sorted(known))) or r"(?!)")


def end_of_answer(tokenizer: PreTrainedTokenizerBase, name: str) -> tuple[int | None, str]:
    """The token that the template writes after an answer, and a line where it is not that simple.

    Returns:
        Its id, or None where the template writes no special token there; and what a reader has to
        know, or nothing.
    """
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": SAID}]
    try:
        text = rendered(tokenizer, name, turns, asks=False)
    except PromptError:
        text = ""
    after = text.rpartition(SAID)[2] if SAID in text else ""
    found = special_spelling(tokenizer).search(after)
    if found is None:
        return None, (
            f"{name}: its chat template writes no special token after an answer; answers end with "
            f"the tokenizer's EOS, {tokenizer.eos_token!r}, which the template does not"
        )
    before = after[: found.start()]
    line = ""
    if before:
        line = (
            f"{name}: its chat template writes {before!r} between an answer and its end, "
            f"{found[0]!r}; what is scored has the end right after the answer"
        )
    return int(tokenizer.convert_tokens_to_ids(found[0])), line


def differences(
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    turns: Turns,
    answer: str,
    ours: tuple[Sequence[int], Sequence[int]],
) -> list[str]:
    """What of a row's tokens is not what the template makes of the whole conversation.

    Args:
        tokenizer: with a chat template.
        name: of the model.
        turns: those of the prompt.
        answer: of the row.
        ours: the tokens of context and answer.

    Returns:
        Lines that name the first token that differs; none where all are the same.
    """
    context, rest = ours
    asked = _ids(tokenizer, rendered(tokenizer, name, turns))
    found = _differing(tokenizer, context, asked)
    if found:
        return [f"{name}: a chat prompt differs from its chat template's: {found}"]
    whole = [*turns, {"role": "assistant", "content": answer}]
    try:
        said = _ids(tokenizer, rendered(tokenizer, name, whole, asks=False))
    except PromptError:
        return []  # it asks, and does not show answers
    found = _differing(tokenizer, [*context, *rest], said[: len(context) + len(rest)])
    if not found:
        return []
    return [
        f"{name}: a prompt with its answer differs from what its chat template makes of the whole "
        f"conversation: {found}; the answer is scored right after the prompt"
    ]


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)


def _differing(
    tokenizer: PreTrainedTokenizerBase, ours: Sequence[int], theirs: Sequence[int]
) -> str:
    """The first place where two lists of tokens differ, in words; empty where they do not."""
    if list(ours) == list(theirs):
        return ""
    pairs = zip(ours, theirs, strict=False)
    place = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(theirs)))
    shown = [
        repr(tokenizer.decode(list(ids[place : place + 6]))) if place < len(ids) else "nothing"
        for ids in (ours, theirs)
    ]
    return f"at token {place + 1}, {shown[0]} is scored where the template has {shown[1]}"
