"""Languages of reports: gettext catalogues, and messages said in one of them.

A language is an object that is handed to whatever writes a report; none is in force anywhere. What
a catalogue lacks is said in English.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from harness.messages import Message
from harness.places import LANGUAGES

_NAMED = re.compile(r"\{(\w+)\}")  # in what Python says
_PERCENT = re.compile(r"%\((\w+)\)s")  # in what templates say, where %% is a percent sign
_WIDE = re.compile("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]")  # with its punctuation
_HAN = re.compile("[\u3400-\u9fff\uf900-\ufaff]")
_LATIN = re.compile("[A-Za-z0-9]")
_MARKS = r"(?:<[^<>]*>|\*\*)*"  # of HTML and Markdown
_END, _START = re.compile(rf"{_MARKS}\Z"), re.compile(rf"\A{_MARKS}")

Values = Mapping[str, Any]
Filters = Mapping[str, Callable[..., Any]]
Forms = tuple[str, ...]  # of a template, by gettext's number of the plural


@dataclass(frozen=True)
class Language:
    """One language.

    Attributes:
        tag: of BCP 47, such as ``zh-TW``.
        texts: English template → how this language says it.
        plural: number → which of the forms.
    """

    tag: str = "en"
    texts: Mapping[str, Forms] = field(default_factory=dict, repr=False)
    plural: Callable[[int], int] = field(default=lambda number: int(number != 1), repr=False)

    def of(self, value: Any) -> Any:
        """A message in this language; anything else as it is."""
        if not self.texts or not isinstance(value, Message):
            return value
        if value.parts is not None:
            between = self._text(value.template, "", 1)
            return between.join(str(self.of(part)) for part in value.parts)
        template = self._text(value.template, value.plural, value.number)
        if value.values:
            try:
                text = self._filled(template, _NAMED, lambda name: self._value(value.values[name]))
            except KeyError:  # a translator's slip is no reason to fail
                return str(value)
        else:
            text = template
        return text

    def _filled(self, template: str, names: re.Pattern[str], value: Callable[[str], str]) -> str:
        return _filled(template, names, value, spaced=bool(self.texts))

    def _value(self, value: Any) -> str:
        return str(self.of(value))

    def _text(self, template: str, plural: str, count: int) -> str:
        forms = self.texts.get(template)
        if forms is None:
            return plural if plural and count != 1 else template
        return forms[min(self.plural(count), len(forms) - 1)] if plural else forms[0]

    def stored(self, line: str) -> Any:
        """A line that was kept in English, if the catalogue has its template; else as it is."""
        if not self.texts or isinstance(line, Message):
            return self.of(line)
        for pattern, template in self._patterns:
            found = pattern.fullmatch(line)
            if found:
                return self.of(Message(line, template, found.groupdict()))
        return line

    @cached_property
    def _patterns(self) -> list[tuple[re.Pattern[str], str]]:
        from harness.report.stored import STORED

        return [(_pattern(template), template) for template in STORED]

    def template(
        self, one: str, many: str, count: int, markup: Callable[[Any], Any], values: Values
    ) -> str:
        """What a template of Jinja's says, with its values escaped by ``markup``."""

        def value(name: str) -> str:
            return str(markup(self.of(values[name])))

        try:
            return self._filled(self._text(one, many, count), _PERCENT, value)
        except KeyError:
            return self._filled(many if many and count != 1 else one, _PERCENT, value)


ENGLISH = Language()


def translate(environment: Any, language: Language, markup: Callable[[Any], Any]) -> None:
    """Let Jinja's templates say things in a language: ``{% trans %}`` markup, and ``_`` text.

    Args:
        environment: Jinja's.
        language: which.
        markup: escapes a value that is put into markup.
    """
    from markupsafe import Markup

    def gettext(text: str, **values: Any) -> Any:
        return Markup(language.template(text, "", 1, markup, values))  # noqa: S704  # ours

    def ngettext(one: str, many: str, count: int, **values: Any) -> Any:
        values = {"num": count, **values}
        return Markup(language.template(one, many, count, markup, values))  # noqa: S704

    def text(words: str, **values: Any) -> str:
        return language.template(words, "", 1, str, values)

    environment.add_extension("jinja2.ext.i18n")
    environment.newstyle_gettext = True  # so that values come with the words
    environment.globals.update(_=text, gettext=gettext, ngettext=ngettext)
    environment.filters["stored"] = language.stored


def translated(filters: Filters, language: Language) -> Filters:
    """Filters that are given words of a language, and give such."""
    if not language.texts:
        return filters

    def made(apply: Callable[..., Any]) -> Callable[..., Any]:
        return lambda value, *more, **named: language.of(apply(language.of(value), *more, **named))

    return {name: made(apply) for name, apply in filters.items()}


def _filled(
    template: str, names: re.Pattern[str], value: Callable[[str], str], spaced: bool
) -> str:
    """Put values in; ``spaced`` is whether Chinese and Latin are set apart from each other."""
    literal, *rest = names.split(template)
    text = _plain(literal, names)
    for name, literal in zip(rest[::2], rest[1::2], strict=True):
        put, after = value(name), _plain(literal, names)
        if spaced:
            text = _joined(text.removesuffix(" "), put, text.endswith(" "))
            text = _joined(text, after.removeprefix(" "), after.startswith(" "))
        else:
            text += put + after
    return text


def _joined(text: str, piece: str, space: bool) -> str:
    """Two texts in a row: with a space between Chinese and Latin, and none within Chinese.

    Args:
        text: what there is.
        piece: what comes next.
        space: whether a space was meant to stand between them.
    """
    end, start = _END.search(text), _START.match(piece)
    assert end is not None
    assert start is not None
    last, first = text[: end.start()][-1:], piece[start.end() :][:1]
    if space:
        # Beside marks it stays: Markdown may need it to see them.
        within = _WIDE.match(last) and _WIDE.match(first) and not (end[0] or start[0])
        return text + piece if within else f"{text} {piece}"
    pairs = ((_HAN, _LATIN), (_LATIN, _HAN))
    if not any(one.match(last) and other.match(first) for one, other in pairs):
        return text + piece
    if end[0]:  # marks that open here: the space belongs outside of them
        return f"{text[: end.start()]} {end[0]}{piece}"
    return f"{text}{start[0]} {piece[start.end() :]}"


def _plain(literal: str, names: re.Pattern[str]) -> str:
    return literal.replace("%%", "%") if names is _PERCENT else literal


def _pattern(template: str) -> re.Pattern[str]:
    """What a template's lines look like; a name that stands twice is the same text twice."""
    literal, *rest = _NAMED.split(template)
    text, known = re.escape(literal), set[str]()
    for name, literal in zip(rest[::2], rest[1::2], strict=True):
        text += f"(?P={name})" if name in known else f"(?P<{name}>.+?)"
        text += re.escape(literal)
        known.add(name)
    return re.compile(text, re.DOTALL)


@lru_cache
def language(tag: str) -> Language:
    """The language of a tag that :func:`harness.places.languages` has."""
    if tag == ENGLISH.tag:
        return ENGLISH
    return read_catalogue(LANGUAGES / f"{tag}.po", tag)


def read_catalogue(path: Path, tag: str) -> Language:
    """A language from a .po file; entries that are empty or fuzzy are left out.

    Args:
        path: the file.
        tag: of BCP 47.
    """
    from babel.messages.pofile import read_po

    with path.open("rb") as file:
        catalogue = read_po(file, locale=tag.replace("-", "_"))
    found: dict[str, Forms] = {}
    for message in catalogue:
        name, said = message.id, message.string
        name = name if isinstance(name, str) else name[0]
        forms = (said,) if isinstance(said, str) else tuple(map(str, said or ()))
        if name and forms and all(forms) and not message.fuzzy:
            found[name] = forms
    from gettext import c2py

    return Language(tag, found, c2py(catalogue.plural_expr))


def suffixed(name: str, tag: str) -> str:
    """The name of a report's file in a language: English has the plain one."""
    stem, dot, rest = name.rpartition(".")
    return name if tag == ENGLISH.tag else f"{stem}.{tag}{dot}{rest}"


def written(tags: Iterable[str]) -> Sequence[Language]:
    """The languages of these tags, each once."""
    return [language(tag) for tag in dict.fromkeys(tags)]
