"""The token layout that scoring and training share.

``[prefix] + tokens(context) + tokens(answer) + [end]``: context and answer are tokenized
separately and without special tokens; the prefix is BOS, or EOS where the tokenizer has no BOS,
exactly once, and the end is the EOS. A chat prompt has the prefix that its template writes, if any,
and ends with what the template writes after an answer (:mod:`harness.models.chat`). Scored, and
trained on: every answer token and the end.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from harness.core import Prompt
from harness.errors import ModelError, PromptError
from harness.models.chat import Turns, differences, end_of_answer, rendered, special_spelling

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ChatTemplate = Callable[[list[dict[str, str]]], str]


@dataclass(frozen=True)
class Encoded:
    """One row as token ids: ``context`` starts with the prefix, ``answer`` ends with its end."""

    prompt: Prompt
    context: tuple[int, ...]
    answer: tuple[int, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        return self.context + self.answer

    def __len__(self) -> int:
        return len(self.context) + len(self.answer)


class Encoder:
    """Turns prompts into token ids with one tokenizer, by the layout above.

    Args:
        tokenizer: of the model.
        model_name: for error lines.
        max_length: tokens that the model can read; None for any number.
        ends: ids that the model's configuration calls ends of an answer, the first of which stands
            in for an EOS that the tokenizer does not name.

    Raises:
        ModelError: there is no EOS token.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        model_name: str,
        max_length: int | None,
        ends: Sequence[int] = (),
    ) -> None:
        self.tokenizer = tokenizer
        self.model_name = model_name
        self.max_length = max_length
        self.warnings: list[str] = []  # lines that a reader of the numbers has to know
        self._listed = frozenset(ends)
        self._compared: set[str] = set()
        if tokenizer.eos_token_id is not None:
            self.eos: int = tokenizer.eos_token_id
        elif ends:
            self.eos = ends[0]
            self.warnings.append(
                f"{model_name}: its tokenizer names no EOS; "
                f"{tokenizer.convert_ids_to_tokens(self.eos)!r} (id {self.eos}) of its "
                f"configuration ends answers"
            )
        else:
            raise ModelError(
                f"--model={model_name}: its tokenizer has no EOS token to score, and its "
                f"configuration names none (eos_token_id)"
            )
        has_bos = tokenizer.bos_token_id is not None
        self.prefix: int = tokenizer.bos_token_id if has_bos else self.eos
        self.prefix_kind = "BOS" if has_bos else "EOS"

    @cached_property
    def chat_end(self) -> int:
        """The token that ends an answer in a chat: what the template writes after one."""
        end, line = end_of_answer(self.tokenizer, self.model_name)
        if line:
            self.warnings.append(line)
        return self.eos if end is None else end

    @cached_property
    def ends(self) -> frozenset[int]:
        """Every token that ends an answer: EOS, those of the configuration, the end of a turn."""
        turn = {self.chat_end} if self.chat else set()
        return frozenset({self.eos, *turn}) | self._listed

    @cached_property
    def _special(self) -> re.Pattern[str]:
        return special_spelling(self.tokenizer)

    def encode(self, prompt: Prompt, limited: bool = True) -> Encoded:
        """Return the token ids of one row. Nothing is ever cut.

        Raises:
            PromptError: the row is longer than the model can read, unless it is not to be
                ``limited``.
        """
        if prompt.chat:
            context, end = self._chat_context(prompt), self.chat_end
        else:
            context, end = [self.prefix], self.eos
            for span in prompt.context:
                context += self._tokens(span.text, special=span.special)
        answer = [*self._tokens(prompt.answer), end]
        encoded = Encoded(prompt, tuple(context), tuple(answer))
        if limited and self.max_length is not None and len(encoded) > self.max_length:
            raise PromptError(
                f"row {prompt.id!r}: {len(encoded)} tokens ({len(context)} before the answer, "
                f"{len(prompt.demo_ids)} demonstrations, {len(answer)} of the answer) do not fit "
                f"{self.model_name}'s {self.max_length}; use a smaller --k or shorter rows "
                f"(rows are never cut)"
            )
        return encoded

    def _chat_context(self, prompt: Prompt) -> list[int]:
        """The template's tokens; piece by piece where data spells special ones."""
        data = (span.text for span in prompt.context if not span.special)
        if not any(map(self._special.search, data)):
            return self._tokens(prompt.text, special=True)
        pieces = (self._tokens(span.text, special=span.special) for span in prompt.context)
        return [token for piece in pieces for token in piece]

    def compare(self, turns: Turns, encoded: Encoded) -> None:
        """Compare a row's tokens with what the template makes of its turns; warn where they differ.

        Once for each order of roles. Rows that spell special tokens cannot be compared: to the
        template they are tokens, to us they are text.
        """
        answer = encoded.prompt.answer
        roles = ",".join(turn["role"] for turn in turns)
        texts = [*(turn["content"] for turn in turns), answer]
        if roles in self._compared or any(map(self._special.search, texts)):
            return
        self._compared.add(roles)
        ours = encoded.context, encoded.answer
        self.warnings += differences(self.tokenizer, self.model_name, turns, answer, ours)

    def unwritable(self, rows: Sequence[Encoded]) -> list[str]:
        """A line where answers have characters that the tokenizer cannot write."""
        unknown = self.tokenizer.unk_token_id
        total = sum(len(row.answer) for row in rows)
        counts = [row.answer[:-1].count(unknown) if unknown is not None else 0 for row in rows]
        if any(counts):
            return [
                f"{self.model_name}: {sum(counts)} of {total} answer tokens, in "
                f"{sum(map(bool, counts))} of {len(rows)} rows, are "
                f"{self.tokenizer.unk_token}: its tokenizer cannot write them. Its perplexity and "
                f"bits per byte are not those of the text"
            ]
        lost = [row for row in rows if self._lost(row)]
        if not lost:
            return []
        row = lost[0]
        return [
            f"{self.model_name}: its tokenizer changes the answers of {len(lost)} of {len(rows)} "
            f"rows, {self._lost(row)!r} of row {row.prompt.id!r} for one: its perplexity and bits "
            f"per byte are not those of the text"
        ]

    def _lost(self, row: Encoded) -> str:
        """Characters of an answer that its tokens do not give back, but for space."""
        tokens = list(row.answer[:-1])
        shown = self.tokenizer.decode(tokens, clean_up_tokenization_spaces=False)
        missing = Counter("".join(row.prompt.answer.split())) - Counter("".join(shown.split()))
        return "".join(missing)

    def _tokens(self, text: str, special: bool = False) -> list[int]:
        ids = self.tokenizer(
            text,
            add_special_tokens=False,
            # Text such as <|im_end|> in a row is text, not the EOS.
            split_special_tokens=not special,
            verbose=False,
        ).input_ids
        return list(ids)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where each token of a row's text stands, [start, end); empty if nobody can say."""
        if not self.tokenizer.is_fast:
            return []
        found = self.tokenizer(
            text,
            add_special_tokens=False,
            split_special_tokens=True,
            return_offsets_mapping=True,
            verbose=False,
        ).offset_mapping
        return [(start, end) for start, end in found]

    @property
    def chat(self) -> ChatTemplate | None:
        """The tokenizer's chat template as a function, or None where it has none."""
        return self.chat_template if self.tokenizer.chat_template else None

    def chat_template(self, messages: list[dict[str, str]]) -> str:
        """Render messages with the tokenizer's chat template, up to where the answer begins.

        Raises:
            PromptError: the template refuses the messages (a system turn, say).
        """
        return rendered(self.tokenizer, self.model_name, messages)
