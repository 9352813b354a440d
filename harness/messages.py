"""Words for readers, made in English, that can be said in another language afterwards.

A :class:`Message` is its English text, and a string like any other to whoever wants no more. It
also keeps the template and the values that it was made from. Whoever writes a report looks the
template up in a catalogue and fills in the values again, so that one report can be written in
several languages, and nothing that makes sentences has to know in which (as oslo.i18n does it).

    say("{label} wins {share} of rows", label="qlora", share="61 %")

Templates are the keys of ``templates/languages/*.po``. Texts from outside are values, never
templates: what a row says is not translated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class Message(str):
    """English words that know how they were made.

    Attributes:
        template: the words with ``{name}`` in the place of each value.
        values: what stands there; messages among them are translated too.
        plural: the template where ``number`` is not 1; empty where number plays no part.
        number: the one that decides.
        parts: of a list, what stands in it; its template is what divides them.
    """

    template: str
    values: Mapping[str, Any]
    plural: str = ""
    number: int = 1
    parts: tuple[str, ...] | None = None

    def __new__(
        cls, text: str, template: str = "", values: Mapping[str, Any] | None = None, **more: Any
    ) -> Message:
        made = super().__new__(cls, text)
        made.__dict__.update(template=template or text, values=values or {}, **more)
        return made


def say(template: str, **values: Any) -> Message:
    """Make a message.

    Args:
        template: English, with the names of the values in braces. Where there are no values,
            braces are braces.
        values: what is put in, by name.
    """
    return Message(template.format(**values) if values else template, template, values)


def say_number(count: int, one: str, many: str, **values: Any) -> Message:
    """Make a message whose words depend on a number, which they call ``{count}``.

    Args:
        count: the number.
        one: the template for 1.
        many: the template for any other number.
        values: what else is put in, by name.
    """
    values = {"count": count, **values}
    text = (one if count == 1 else many).format(**values)
    return Message(text, one, values, plural=many, number=count)


def listed(parts: Iterable[str], between: str = ", ") -> Message:
    """Make a message of a list.

    Args:
        parts: what stands in it.
        between: what divides them, ``", "`` or another template of the catalogues.
    """
    parts = tuple(parts)
    return Message(between.join(parts), between, parts=parts)


def capitalized(text: str) -> Message:
    """The text with a capital at its beginning, in English: it may stand elsewhere in others."""
    known = text.__dict__ if isinstance(text, Message) else {"template": str(text)}
    return Message(text[:1].upper() + text[1:], **known)
