"""The token layout that scoring and training share.

``[prefix] + tokens(context) + tokens(answer) + [EOS]``: context and answer are tokenized
separately and without special tokens; the prefix is BOS, or EOS where the tokenizer has no BOS,
exactly once. Scored, and trained on: every answer token and the EOS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core import Prompt
from harness.errors import ModelError, PromptError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Some chat templates print today's date, and a score must not depend on the day. They ask either
# for a variable or for a function; a function cannot be handed in, but a macro hides it.
CHAT_DATE = "01 Jan 2025"
FIXED_NOW = "{%- macro strftime_now(format) -%}" + CHAT_DATE + "{%- endmacro %}{{ '' }}"
ChatTemplate = Callable[[list[dict[str, str]]], str]


@dataclass(frozen=True)
class Encoded:
    """One row as token ids: ``context`` starts with the prefix, ``answer`` ends with the EOS."""

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

    Raises:
        ModelError: the tokenizer has no EOS token.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, model_name: str, max_length: int | None
    ) -> None:
        self.tokenizer = tokenizer
        self.model_name = model_name
        self.max_length = max_length
        if tokenizer.eos_token_id is None:
            raise ModelError(f"--model={model_name}: its tokenizer has no EOS token to score")
        self.eos: int = tokenizer.eos_token_id
        has_bos = tokenizer.bos_token_id is not None
        self.prefix: int = tokenizer.bos_token_id if has_bos else self.eos
        self.prefix_kind = "BOS" if has_bos else "EOS"
        self.warnings: list[str] = []  # lines that a reader of the numbers has to know

    def encode(self, prompt: Prompt, limited: bool = True) -> Encoded:
        """Return the token ids of one row. Nothing is ever cut.

        Raises:
            PromptError: the row is longer than the model can read, unless it is not to be
                ``limited``.
        """
        context: list[int] = []
        for span in prompt.context:
            context += self._tokens(span.text, special=span.special)
        # A chat template may write the BOS itself; the prefix stands exactly once.
        if not (prompt.context[0].special and context[:1] == [self.prefix]):
            context.insert(0, self.prefix)
        answer = [*self._tokens(prompt.answer), self.eos]
        encoded = Encoded(prompt, tuple(context), tuple(answer))
        if limited and self.max_length is not None and len(encoded) > self.max_length:
            raise PromptError(
                f"row {prompt.id!r}: {len(encoded)} tokens ({len(context)} before the answer, "
                f"{len(prompt.demo_ids)} demonstrations, {len(answer)} of the answer) do not fit "
                f"{self.model_name}'s {self.max_length}; use a smaller --k or shorter rows "
                f"(rows are never cut)"
            )
        return encoded

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
        try:
            template = self.tokenizer.get_chat_template()
            if "strftime_now" in template:
                template = FIXED_NOW + template
            text = self.tokenizer.apply_chat_template(
                messages,
                chat_template=template,
                tokenize=False,
                add_generation_prompt=True,
                date_string=CHAT_DATE,
            )
        except Exception as error:  # templates raise whatever their authors wrote
            raise PromptError(
                f"{self.model_name}'s chat template refuses this prompt: "
                f"{' '.join(str(error).split())[:200]}"
            ) from None
        return str(text)
