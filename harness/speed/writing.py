"""How fast answers are written: ours, transformers row by row and in its best batch, lm-eval.

One process, one model object, the same token ids and end tokens, greedy, the same limit. Whoever
writes another text than ours is marked: a speed at another text is no comparison.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.core import DecodingSpec
from harness.errors import ConformanceError, NotApplicableError
from harness.models.encoding import Encoded
from harness.models.fingerprint import version
from harness.speed.contest import Contest
from harness.speed.peers import BATCHES, Writer, by_lm_eval, in_batches

NEW_TOKENS = 48
ALONE, OURS, STATIC, PEER = "one-by-one", "ours", "static-batch", "lm-eval"
WRITERS = (ALONE, OURS, STATIC, PEER)
TRIAL_ROWS = 16  # on which the best batch size is found


@dataclass(frozen=True)
class Written:
    """What one contender needed for the answers of one cell; ``tokens`` are those of the texts."""

    k: int
    writer: str
    rows: int
    tokens: int
    seconds: float
    same: int
    peak_memory_bytes: int
    batch: int | None

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "tokens_per_second": self.tokens / self.seconds,
            "rows_per_second": self.rows / self.seconds,
            "same_text": self.same,
            "peak_memory_bytes": self.peak_memory_bytes,
            "batch_size": self.batch,
        }


def writers(ks: Sequence[int]) -> list[tuple[int, str]]:
    """Every (k, contender): zero-shot, and the largest k that is asked for up to 5."""
    few = max((k for k in ks if k <= 5), default=min(ks))
    return [(k, writer) for k in (0, few) for writer in WRITERS]


class WritingTrial:
    """One contender at one k.

    Args:
        contest: where model and rows come from.
        k: demonstrations.
        writer: one of :data:`WRITERS`.
        results: of all contenders, for the table.
        texts: what the others have written.
    """

    rounds = 1

    def __init__(
        self,
        contest: Contest,
        k: int,
        writer: str,
        results: dict[tuple[int, str], Written],
        texts: dict[tuple[int, str], list[str]],
    ) -> None:
        self.contest, self.k, self.writer = contest, k, writer
        self.results, self.texts = results, texts

    @property
    def group(self) -> str:
        return f"answers, k={self.k}"

    def prepare(self) -> None:
        """Load the model, find the best batch size, and warm up.

        Raises:
            NotApplicableError: lm-eval is not installed.
        """
        if self.writer == PEER and version("lm-eval") == "none":
            raise NotApplicableError('lm-eval is not installed: pip install -e ".[peers]"')
        self.contest.bench.store.prepare()
        self.contest.loaded()
        if self.writer in (ALONE, OURS):
            self._write(self._rows[:2])
        else:
            assert self.batch

    def reset(self) -> None:
        """Give back what earlier contenders left, and count memory anew."""
        from harness.models.memory import free, reset_peak

        free()
        reset_peak(self.contest.cases[0].device)

    def run(self) -> None:
        """Write every row's answer; this is timed."""
        self.texts[self.k, self.writer] = self._write(self._rows)

    def facts(self, seconds: float) -> dict[str, Any]:
        """Note the result for the table; return it for pytest-benchmark's ``extra_info``."""
        from harness.models.memory import peak_memory

        texts = self.texts[self.k, self.writer]
        right = self.texts.get((self.k, ALONE), texts)
        tokenizer = self.contest.loaded().encoder.tokenizer
        found = Written(
            k=self.k,
            writer=self.writer,
            rows=len(texts),
            tokens=sum(len(tokenizer(t, add_special_tokens=False).input_ids) for t in texts),
            seconds=seconds,
            same=sum(a == b for a, b in zip(texts, right, strict=True)),
            peak_memory_bytes=peak_memory(self.contest.cases[0].device),
            batch=None if self.writer in (ALONE, OURS) else self.batch,
        )
        self.results[self.k, self.writer] = found
        return found.facts

    def check(self) -> None:
        """Compare our texts with those of transformers row by row, if they were written.

        In half precision texts may differ, and the table says how many do.

        Raises:
            ConformanceError: a row has another text.
        """
        right = self.texts.get((self.k, ALONE))
        if self.writer != OURS or right is None or self.contest.cases[0].dtype != "float32":
            return
        for row, ours, theirs in zip(self._rows, self.texts[self.k, OURS], right, strict=True):
            if ours != theirs:
                raise ConformanceError(
                    f"answers, k={self.k}: row {row.prompt.id!r}: {ours!r:.80}, by transformers "
                    f"alone {theirs!r:.80}"
                )

    @cached_property
    def batch(self) -> int:
        """The batch size that writes rows of middling length fastest."""
        ordered = sorted(self._rows, key=len)
        self._peer(self.contest.loaded(), ordered[:1], 2, 1)  # its imports take seconds
        rates = {}
        for size in BATCHES:
            count = min(len(ordered), max(TRIAL_ROWS, size))
            start = (len(ordered) - count) // 2
            began = time.perf_counter()
            some = ordered[start : start + count]
            self._peer(self.contest.loaded(), some, NEW_TOKENS, size)
            rates[size] = count / (time.perf_counter() - began)
        return max(rates, key=lambda size: rates[size])

    @property
    def _peer(self) -> Writer:
        return by_lm_eval if self.writer == PEER else in_batches

    @property
    def _rows(self) -> list[Encoded]:
        return self.contest.rows(self.k)

    def _write(self, rows: Sequence[Encoded]) -> list[str]:
        loaded = self.contest.loaded()
        if self.writer == OURS:
            from harness.generation.engine import write

            answers, _ = write(
                loaded, rows, DecodingSpec(max_new_tokens=NEW_TOKENS), 0, lambda done: None
            )
            return [answer.text for answer in answers]
        batch = 1 if self.writer == ALONE else self.batch
        return self._peer(loaded, rows, NEW_TOKENS, batch)
