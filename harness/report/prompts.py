"""Prompts for the explorer of rows, in the pieces that they were sent in, texts as places.

They are put together by the rules that they were sent by (:mod:`harness.prompts.rendering`), once
for all rows of a run that have something in common: a prompt of many demonstrations stands in each
row of each seed of each model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from harness.core import Example, PromptTemplate
from harness.errors import PromptError
from harness.messages import Message, listed, say
from harness.prompts.rendering import ChatTemplate, Part, fill, parts, skeleton
from harness.records import Measurement
from harness.results.manifest import Manifest

Piece = tuple[str, int, int]  # kind, and label and text as places
Pieces = tuple[Piece, ...]
Kept = tuple[tuple[str, str], ...]  # what the tokenizer's template made of markers
KINDS = {
    "system": say("preamble"),
    "demonstration": say("demonstration"),
    "history": say("earlier turn"),
    "query": say("question"),
    "template": say("chat template"),
}
NO_TEMPLATE = say("What the chat template puts around the turns was not kept.")
PROBE = "\u2003?{number}\u2003"  # a question of which a chat template trims what it trims of any


class Strings:
    """Texts by their places, each kept once."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, bool], int] = {}

    def place(self, text: str) -> int:
        """Where the text stands; it is added if it is new.

        A message is another text than the same words in a row, which are not translated.
        """
        return self._places.setdefault((text, isinstance(text, Message)), len(self._places))

    @property
    def all(self) -> tuple[str, ...]:
        """The texts in order."""
        return tuple(text for text, _ in self._places)


@dataclass(frozen=True)
class _Around:
    """What stands around the question of rows without a history and with equal demonstrations.

    Attributes:
        before: pieces of the prompt.
        after: the same, not yet pieces: a text has its place in the order of reading.
        framed: whether the chat template's words are all known.
        question: from what a row asks to the piece that asks it.
        known: row's id → that piece, or nothing where it is empty; of all that ask alike.
    """

    before: Pieces
    after: Sequence[Part]
    framed: bool
    question: Callable[[str], Part]
    known: dict[str, Pieces]


class Prompts:
    """The prompts of a run.

    Args:
        manifest: the run.
        strings: where texts are kept.
    """

    def __init__(self, manifest: Manifest, strings: Strings) -> None:
        self.rows = manifest.rows
        self.templates = {template.name: template for template in manifest.prompts}
        self.known = manifest.shown
        self.strings = strings
        self._around: dict[tuple[PromptTemplate, tuple[str, ...], Kept], _Around] = {}
        self._known: dict[tuple[PromptTemplate, str], dict[str, Pieces]] = {}

    def of(
        self, measurement: Measurement, template: PromptTemplate | None
    ) -> tuple[list[Pieces], str]:
        """The pieces of each row's prompt, and what is not known of them."""
        if template is None:
            return [], say("The prompt was not kept.")
        # Of several draws, whichever.
        first = {one.id: one.demo_ids for one in reversed(measurement.observations)}
        names = [first[one] for one in dict.fromkeys(one.id for one in measurement.observations)]
        times = Counter(names)
        lost = sorted({name for some in times for name in some} - self.known.keys())
        if lost:
            return [], say("Not kept: the demonstrations {ids}.", ids=", ".join(lost))
        kept = tuple(measurement.skeletons.items()) if template.chat else ()
        found, framed = [], True
        for row, shown in zip(self.rows, names, strict=True):
            if row.history or times[shown] == 1:
                made, whole = self._made(template, row, shown, kept)
                found.append(self._pieces(template, made))
                framed = framed and whole
            else:
                around = self._put_around(template, shown, kept)
                found.append(self._alike(template, row, around))
                framed = framed and around.framed
        return found, "" if framed or not template.chat else NO_TEMPLATE

    def _made(
        self, template: PromptTemplate, row: Example, shown: Sequence[str], kept: Kept
    ) -> tuple[list[Part], bool]:
        """A row's prompt, and whether the chat template's words are known."""
        demonstrations = [self.known[name] for name in shown]
        try:
            chat, whole = _chat_template(dict(kept))
            made = parts(template, row, demonstrations, chat)
        except PromptError:  # what was kept is not of these turns
            chat, whole = _chat_template({})
            made = parts(template, row, demonstrations, chat)
        return made, all(whole)

    def _put_around(self, template: PromptTemplate, shown: tuple[str, ...], kept: Kept) -> _Around:
        name = template, shown, kept
        if name not in self._around:
            probe, nothing = replace(template, query=PROBE), Example("", "", "")
            made, framed = self._made(probe, nothing, shown, kept)
            place = next(i for i, part in enumerate(made) if part.kind == "query")
            asked = made[place]
            self._around[name] = _Around(
                self._pieces(template, made[:place]),
                made[place + 1 :],
                framed,
                partial(_question, template, asked),
                self._known.setdefault((template, asked.text), {}),
            )
        return self._around[name]

    def _alike(self, template: PromptTemplate, row: Example, around: _Around) -> Pieces:
        """The prompt of a row without a history."""
        question = around.known.get(row.id)
        if question is None:
            part = around.question(row.instruction)
            question = self._pieces(template, [part] if part.text else [])
            around.known[row.id] = question
        return (*around.before, *question, *self._pieces(template, around.after))

    def _pieces(self, template: PromptTemplate, made: Iterable[Part]) -> Pieces:
        return tuple(self._piece(part, template.chat) for part in made)

    def _piece(self, part: Part, chat: bool) -> Piece:
        words: list[str] = [KINDS[part.kind]]
        if part.kind == "demonstration":
            words.append(part.row or "")
        if chat and part.role:
            words.append(part.role)
        label = listed(words, " · ")
        return part.kind, self.strings.place(label), self.strings.place(part.text)


def _question(template: PromptTemplate, probed: Part, instruction: str) -> Part:
    """The piece of a question, of which as much is trimmed as of the probe."""
    number = int(probed.text.strip().removeprefix("?"))
    text = fill(template.query, instruction=instruction, number=number)
    text = text if probed.text.startswith(PROBE[0]) else text.lstrip()
    return replace(probed, text=text if probed.text.endswith(PROBE[-1]) else text.rstrip())


def shared(rows: Sequence[Pieces]) -> int:
    """How many pieces all rows begin with."""
    if not rows:
        return 0
    first, last = min(rows), max(rows)  # what these two begin with, all between begin with
    count = min(len(first), len(last))
    return next((i for i in range(count) if first[i] != last[i]), count)


def _chat_template(skeletons: Mapping[str, str]) -> tuple[ChatTemplate, list[bool]]:
    """What the tokenizer's template made of markers; the markers alone where it was not kept."""
    whole: list[bool] = []

    def ask(messages: list[dict[str, str]]) -> str:
        kept = skeletons.get(skeleton(messages))
        whole.append(kept is not None)
        return "".join(message["content"] for message in messages) if kept is None else kept

    return ask, whole
