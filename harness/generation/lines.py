"""An answer that is being written, and what the answers of one call have in common."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.core import DecodingSpec
from harness.generation.stops import Stops
from harness.models.encoding import Encoded
from harness.models.loading import LoadedModel
from harness.records import LIMIT, STOP_STRING, STOP_TOKEN, Answer


@dataclass
class Task:
    """What the batches of one call have in common, and what is counted over them."""

    loaded: LoadedModel
    decoding: DecodingSpec
    stops: Stops
    seed: int
    near: float = 0.0
    recomputed: int = 0


@dataclass
class Line:
    """An answer that is being written."""

    row: Encoded
    draw: int
    room: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    ended: str = ""
    stop: str = ""

    def add(self, token: int, logprob: float, stops: Stops) -> None:
        """Write a token, and note whether it ends the answer."""
        self.logprobs.append(logprob)
        if token in stops.ends and token not in stops.spelled:
            self.ended, self.stop = STOP_TOKEN, stops.tokenizer.convert_ids_to_tokens(token)
            return
        self.tokens.append(token)
        found = stops.find(self.tokens)
        if found is not None:
            self.ended, self.stop = STOP_STRING, found
        elif len(self.tokens) >= self.room:
            self.ended = LIMIT

    def answer(self, stops: Stops, score: float | None = None) -> Answer:
        """What has been written."""
        tokens = tuple(self.tokens)
        text = stops.cut(tokens) if self.ended == STOP_STRING else stops.text(tokens)
        before = len(self.row.context)
        return Answer(
            self.row.prompt.id, tokens, text, self.ended, self.stop, tuple(self.logprobs),
            before, self.row.prompt.demo_ids, self.draw, score,
        )  # fmt: skip
