"""Turning one test row into what stands before its answer.

Data is never parsed: placeholders are replaced literally, in one pass over the template's own
text, so a row may contain ``{output}``, Jinja syntax or a special token's spelling and it stays
text. The one template engine involved is the tokenizer's own chat template, and that is shown
markers where the data goes, not the data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.core import Example, Prompt, PromptTemplate, Span
from harness.errors import PromptError

PLACEHOLDER = re.compile(r"\{(instruction|output|number)\}")

ChatTemplate = Callable[[list[dict[str, str]]], str]


def fill(template: str, *, instruction: str = "", output: str = "", number: int = 0) -> str:
    """Replace the placeholders literally; braces in the values are left alone."""
    values = {"instruction": instruction, "output": output, "number": str(number)}
    return PLACEHOLDER.sub(lambda match: values[match[1]], template)


def render(
    template: PromptTemplate,
    example: Example,
    demonstrations: Sequence[Example] = (),
    chat_template: ChatTemplate | None = None,
) -> Prompt:
    """Return ``system + preamble + demonstrations + history + query`` for one row.

    Each exchange (user, assistant) of the row's history is written as a demonstration is, and
    numbered on after them. A demonstration with a history shows its exchanges in the same way,
    one after the other; its system turn is left out.

    Args:
        template: the prompt.
        example: the row that is asked.
        demonstrations: rows shown before it, in order, numbered from 1.
        chat_template: for a chat prompt, the tokenizer's template: messages → text that ends
            where the assistant's answer begins.

    Raises:
        PromptError: a chat prompt without a usable chat template.
    """
    found = parts(template, example, demonstrations, chat_template)
    if template.chat:
        context = tuple(Span(part.text, part.kind == TEMPLATE) for part in found)
    else:
        context = (Span("".join(part.text for part in found)),)
    shown = tuple(d.id for d in demonstrations)
    return Prompt(example.id, context, example.output, shown, template.chat)


@dataclass(frozen=True)
class Part:
    """A piece of a prompt as it is sent: ``kind`` says what it is, ``row`` which row's it is.

    ``role`` is whose turn of a chat it is; None outside of turns.
    """

    kind: str
    text: str
    row: str | None = None
    role: str | None = None


TEMPLATE = "template"  # what a chat template adds
EDGE = "\u2003\u2002"  # spaces that no template writes by itself
OLD = re.compile(r"ADAPTBENCH\d{3}SLOT")


def parts(
    template: PromptTemplate,
    example: Example,
    demonstrations: Sequence[Example] = (),
    chat_template: ChatTemplate | None = None,
) -> list[Part]:
    """The pieces that :func:`render` joins, in order, none of them empty.

    ``kind`` is ``system``, ``demonstration``, ``history``, ``query``, or ``template``; in a chat
    prompt a demonstration is two pieces, the user's turn and the assistant's.
    """
    turns = _turns(template, example, demonstrations)
    if not template.chat:
        return [part for _, part in turns if part.text]
    return _chat(template, turns, chat_template)


def messages(
    template: PromptTemplate, example: Example, demonstrations: Sequence[Example] = ()
) -> list[dict[str, str]]:
    """The turns of a chat prompt as a chat template takes them."""
    return [
        {"role": role, "content": part.text}
        for role, part in _turns(template, example, demonstrations)
    ]


def _turns(
    template: PromptTemplate, example: Example, demonstrations: Sequence[Example]
) -> list[tuple[str, Part]]:
    exchanges = [
        ("demonstration", row.id, exchange)
        for row in demonstrations
        for exchange in (*_exchanges(row), (row.instruction, row.output))
    ]
    exchanges += [("history", example.id, exchange) for exchange in _exchanges(example)]
    system = "".join(text for role, text in example.history if role == "system")
    first = "\n\n".join(text for text in (system, template.preamble) if text)
    if not template.chat:  # where there is no preamble, the line between stays
        first = f"{system}\n\n{template.preamble}" if system else template.preamble
    turns = [("system", Part("system", first))]
    for number, (kind, row, (user, assistant)) in enumerate(exchanges, start=1):
        text = fill(template.demonstration, instruction=user, output=assistant, number=number)
        turns.append(("user", Part(kind, text, row)))
        if template.chat:
            turns.append(("assistant", Part(kind, assistant, row)))
    query = fill(template.query, instruction=example.instruction, number=len(exchanges) + 1)
    turns.append(("user", Part("query", query, example.id)))
    if not first:
        del turns[0]
    return turns


def _exchanges(example: Example) -> list[tuple[str, str]]:
    texts = [text for role, text in example.history if role != "system"]
    return list(zip(texts[::2], texts[1::2], strict=True))


def _chat(
    template: PromptTemplate,
    turns: Sequence[tuple[str, Part]],
    chat_template: ChatTemplate | None,
) -> list[Part]:
    if chat_template is None:
        raise PromptError(
            f"--prompt={template.name}: the model's tokenizer has no chat template; "
            f"use another prompt"
        )
    # The template sees markers, so that no data reaches its engine and special tokens spelled in
    # data are not confused with the template's own. The spaces around them show what it trims.
    markers = [f"ADAPTBENCH{index:03d}TURN" for index in range(len(turns))]
    rest = chat_template(
        [
            {"role": role, "content": f"{EDGE}{marker}{EDGE}"}
            for (role, _), marker in zip(turns, markers, strict=True)
        ]
    )
    if OLD.search(rest):  # as stored before templates that trim were told
        markers = [marker.replace("TURN", "SLOT") for marker in markers]
    for (role, _), marker in zip(turns, markers, strict=True):
        if rest.count(marker) != 1:
            raise PromptError(
                f"--prompt={template.name}: the model's chat template does not show the {role} "
                f"message exactly once; use another prompt"
            )
    return _in_place(rest, dict(zip(markers, turns, strict=True)))


def _in_place(rest: str, turns: Mapping[str, tuple[str, Part]]) -> list[Part]:
    """The pieces of what a template made of markers, in the template's order.

    What it trims of a marker's spaces, it trims of the turn's text.
    """
    found: list[Part] = []
    for marker in sorted(turns, key=rest.index):
        role, part = turns[marker]
        before, _, after = rest.partition(marker)
        kept, rest = before.removesuffix(EDGE), after.removeprefix(EDGE)
        text = part.text
        if "SLOT" not in marker:
            text = text.lstrip() if kept == before else text
            text = text.rstrip() if rest == after else text
        found += [Part(TEMPLATE, kept), replace(part, text=text, role=role)]
    found.append(Part(TEMPLATE, rest))
    return [part for part in found if part.text]


def skeleton(messages: Sequence[Mapping[str, str]]) -> str:
    """What a chat template's answer to markers depends on besides the template."""
    return ",".join(message["role"] for message in messages)


def remembering(chat_template: ChatTemplate | None, known: dict[str, str]) -> ChatTemplate | None:
    """The same chat template, its answers kept in ``known`` by :func:`skeleton`."""
    if chat_template is None:
        return None

    def ask(messages: list[dict[str, str]]) -> str:
        name = skeleton(messages)
        if name not in known:
            known[name] = chat_template(messages)
        return known[name]

    return ask
