"""What ends an answer: an end token, a stop string in its text, or the limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from harness.core import DecodingSpec
from harness.errors import PromptError
from harness.models.encoding import Encoded
from harness.models.loading import LoadedModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TAIL = 16  # tokens that are decoded besides those in which a stop string could stand
PENDING = "\ufffd"  # what a decoder shows of a character whose bytes are not all there


def room(loaded: LoadedModel, row: Encoded, decoding: DecodingSpec) -> int:
    """How many tokens may be written for a row.

    Raises:
        PromptError: none.
    """
    before, limit = len(row.context), loaded.encoder.max_length
    wanted, named = decoding.max_new_tokens, "max_new_tokens"
    if decoding.max_length is not None:
        wanted, named = decoding.max_length - before, f"max_length = {decoding.max_length}"
    if limit is not None and limit - before < wanted:
        wanted, named = limit - before, f"{loaded.encoder.model_name}'s {limit} tokens"
    if wanted < 1:
        raise PromptError(
            f"row {row.prompt.id!r}: {before} tokens before the answer leave no room for a token "
            f"of it in {named}; use a larger max_length, a smaller --k or shorter rows"
        )
    return wanted


@dataclass(frozen=True)
class Stops:
    """Tells where an answer ends.

    Attributes:
        tokenizer: decodes answers.
        ends: ids of end tokens.
        strings: what ends an answer where its text has it.
    """

    tokenizer: PreTrainedTokenizerBase
    ends: frozenset[int]
    strings: tuple[str, ...] = ()

    @cached_property
    def spelled(self) -> dict[int, str]:
        """Special tokens that a stop string spells: they never show in a text."""
        special = set(self.tokenizer.all_special_tokens)
        return {
            self.tokenizer.convert_tokens_to_ids(string): string
            for string in self.strings
            if string in special
        }

    @cached_property
    def _window(self) -> int:
        """Tokens at an answer's end in which a new stop string stands: none has under a byte."""
        return TAIL + max((len(string.encode()) for string in self.strings), default=0)

    @cached_property
    def _special(self) -> frozenset[int]:
        return frozenset(self.tokenizer.all_special_ids)

    def text(self, tokens: Sequence[int]) -> str:
        """What an answer's tokens spell, without special tokens."""
        return str(
            self.tokenizer.decode(
                list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )

    def find(self, tokens: Sequence[int]) -> str | None:
        """Return the stop string that has just come to stand in the answer, the first of several.

        Only the answer's last tokens are decoded; where a string seems to stand there, all are.
        """
        if not self.strings or not tokens:
            return None
        if tokens[-1] in self.spelled:
            return self.spelled[tokens[-1]]
        shown = [token for token in tokens if token not in self._special]
        last = shown[-self._window :]
        if len(shown) > len(last) and self._cut(self.text(last)) is None:
            return None
        cut = self._cut(self.text(shown))
        return cut[1] if cut else None

    def cut(self, tokens: Sequence[int]) -> str:
        """The answer's text up to its first stop string."""
        text = self.text(tokens)
        found = self._cut(text)
        return text[: found[0]] if found else text

    def _cut(self, text: str) -> tuple[int, str] | None:
        """Where the first stop string stands, and which it is: of two, the longer one."""
        whole = text.rstrip(PENDING)
        places = [(whole.find(string), -len(string), string) for string in self.strings]
        at, _, string = min((one for one in places if one[0] >= 0), default=(-1, 0, ""))
        return (at, string) if at >= 0 else None
