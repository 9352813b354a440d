"""How fast rows are scored, by whom, and how near that is to what the machine can do.

Everything is timed in one process on the same model object and the same token ids: loading and
tokenizing are left out, and what differs is how the rows are computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.errors import ConformanceError, NotApplicableError
from harness.models.fingerprint import version
from harness.run.case import Case
from harness.run.plan import make_plan
from harness.run.progress import silent
from harness.scoring.batches import unique_tokens

if TYPE_CHECKING:
    from harness.config.options import Options
    from harness.models.encoding import Encoded
    from harness.models.loading import LoadedModel
    from harness.run.bench import Bench

KS = (1, 5, 10)
OURS, REFERENCE, PEER, PEER_KERNELS = "fast", "reference", "lm-eval", "lm-eval-same-kernels"
CONTENDERS = (REFERENCE, OURS, PEER, PEER_KERNELS)


@dataclass(frozen=True)
class Result:
    """What one contender needed for all rows of one cell.

    ``flops`` counts products of linear layers and of attention, multiplication and addition as
    two; ``tokens`` counts each token once that has the same tokens before it.
    """

    k: int
    contender: str
    rows: int
    seconds: float
    tokens: int
    flops: float
    gemm_share: float
    peak_memory_bytes: int
    batch: int | None = None

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "rows_per_second": self.rows / self.seconds,
            "unique_tokens_per_second": self.tokens / self.seconds,
            "peak_memory_bytes": self.peak_memory_bytes,
            "flops": self.flops,
            "gemm_share": self.gemm_share,
            "batch_size": self.batch,
        }


def entrants(options: Options) -> list[tuple[int, str]]:
    """Every (k, contender), zero-shot first."""
    ks = (0, *(options.k if options.given("k") else KS))
    return [(k, contender) for k in ks for contender in CONTENDERS]


def entrant_id(k: int, contender: str) -> str:
    """What a contender at one k is called."""
    return f"k{k:02d}-{contender}"


class Contest:
    """The speed suite's state: contenders × k on one model and one set of rows.

    Args:
        bench: where model and rows come from; its first model, prompt, selection and seed count.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.results: dict[tuple[int, str], Result] = {}
        self.nlls: dict[tuple[int, str], list[float]] = {}
        self._rows: dict[int, list[Encoded]] = {}
        self.batches: dict[tuple[int, str], int] = {}

    @cached_property
    def cases(self) -> dict[int, Case]:
        """The case of every k."""
        given = self.bench.plan.options
        options = replace(
            given,
            strategy=("zeroshot", "fewshot"),
            k=given.k if given.given("k") else KS,
            model=given.model[:1],
            quant=given.quant and given.quant[:1],
            prompt=given.prompt[:1],
            select=given.select[:1],
            draw=given.draw[:1],
            seeds=given.seeds[:1],
        )
        return {len(case.adaptation.demonstrations): case for case in make_plan(options).cases}

    def rows(self, k: int) -> list[Encoded]:
        """All rows at k, encoded once."""
        if k not in self._rows:
            self._rows[k] = self.bench.rows(self.cases[k])
        return self._rows[k]

    def loaded(self) -> LoadedModel:
        """The model, loaded once."""
        case = self.cases[0]
        return self.bench.pool.get(self.bench.spec(case), self.bench.folder(case), case.adapter)

    @cached_property
    def gemm(self) -> float:
        """Rate of a large matrix product with the fast scorer's kernels, in FLOP/s."""
        from harness.speed.operations import gemm_rate

        model = self.loaded().model
        return gemm_rate(model.device, model.dtype)

    def peer_batch(self, k: int, contender: str) -> int:
        """The peer's best batch size at k."""
        from harness.speed.lm_eval import best_batch

        if (k, contender) not in self.batches:
            self.batches[k, contender] = best_batch(self.loaded(), self.rows(k))
        return self.batches[k, contender]

    def worst(self, k: int, contender: str) -> float | None:
        """Largest relative difference of a row's NLL from the reference's; None without one."""
        right = self.nlls.get((k, REFERENCE))
        if contender == REFERENCE or right is None:
            return None
        found = self.nlls[k, contender]
        return max(abs(a - b) / max(1.0, abs(b)) for a, b in zip(found, right, strict=True))


class Trial:
    """One contender at one k."""

    def __init__(self, contest: Contest, k: int, contender: str) -> None:
        self.contest = contest
        self.k = k
        self.contender = contender

    @property
    def id(self) -> str:
        return entrant_id(self.k, self.contender)

    @property
    def group(self) -> str:
        return f"k={self.k}"

    @property
    def rounds(self) -> int:
        # The others take minutes, and a figure that is 5 % off says the same of them.
        return 3 if self.contender == OURS else 1

    def prepare(self) -> None:
        """Load the model, find the peer's batch size, and warm up.

        Raises:
            NotApplicableError: the peer is not installed, or would be the same contender again.
        """
        if self.contender in (PEER, PEER_KERNELS) and version("lm-eval") == "none":
            raise NotApplicableError('lm-eval is not installed: pip install -e ".[peers]"')
        self.contest.bench.store.prepare()  # better now than after minutes of timing
        self.contest.loaded()
        if self.contender == PEER_KERNELS and not self._kernels_differ:
            raise NotApplicableError("the fast scorer uses torch's default kernels here")
        with self._kernels():
            self._score(self.contest.rows(self.k)[:2])

    def reset(self) -> None:
        """Give back what earlier contenders left, and count memory anew; before each round."""
        from harness.models.memory import free, reset_peak

        free()
        reset_peak(self.contest.cases[0].device)

    def run(self) -> None:
        """Score all rows, counting operations and peak memory; this is timed."""
        from harness.models.memory import peak_memory

        device = self.contest.cases[0].device
        with self._kernels(), self._meter.counting():
            nlls = self._score(self.contest.rows(self.k))
        self._runs.append((self._meter.flops / (len(self._runs) + 1), peak_memory(device)))
        self.contest.nlls[self.k, self.contender] = nlls

    def facts(self, seconds: float) -> dict[str, Any]:
        """Note the result for the table; return it for pytest-benchmark's ``extra_info``."""
        flops, memory = self._runs[-1]
        batches = self.contest.batches
        result = Result(
            k=self.k,
            contender=self.contender,
            rows=len(self.contest.rows(self.k)),
            seconds=seconds,
            tokens=unique_tokens(self.contest.rows(self.k)),
            flops=flops,
            gemm_share=flops / seconds / self.contest.gemm,
            peak_memory_bytes=memory,
            batch=batches.get((self.k, self.contender)),
        )
        self.contest.results[self.k, self.contender] = result
        return result.facts

    def check(self) -> None:
        """Compare our own with the reference, if it ran; how far a peer is off stands in the table.

        Raises:
            ConformanceError: a row's NLL is another one.
        """
        from harness.scoring.sharing import allowed

        if self.contender in (PEER, PEER_KERNELS):
            return
        dtype = self.contest.cases[0].dtype
        right = self.contest.nlls.get((self.k, REFERENCE), [])
        found = self.contest.nlls[self.k, self.contender]
        for row, a, b in zip(self.contest.rows(self.k), found, right, strict=False):
            limit = allowed(dtype, b, len(row.answer))
            if not abs(a - b) <= limit:
                raise ConformanceError(
                    f"{self.id}: row {row.prompt.id!r} has an NLL of {a:.6f}, by the reference "
                    f"{b:.6f}; a difference of {limit:.1g} is allowed"
                )

    @cached_property
    def _meter(self) -> Any:
        from harness.speed.operations import FlopMeter

        return FlopMeter(self.contest.loaded().model)

    @cached_property
    def _runs(self) -> list[tuple[float, int]]:
        return []

    @property
    def _kernels_differ(self) -> bool:
        from harness.models.kernels import TORCH, use_exact_kernels

        return self.contest.cases[0].device == "cpu" and use_exact_kernels() != TORCH

    def _kernels(self) -> AbstractContextManager[None]:
        from harness.models.kernels import default_kernels

        if self.contender == PEER and self._kernels_differ:
            return default_kernels()
        return nullcontext()

    def _score(self, rows: Sequence[Encoded]) -> list[float]:
        from harness.scoring.score import SCORERS, scorer_for
        from harness.speed.lm_eval import lm_eval

        loaded = self.contest.loaded()
        if self.contender in SCORERS:
            return scorer_for(loaded.spec, self.contender)(loaded, rows, silent).nlls
        return lm_eval(loaded, rows, self.contest.peer_batch(self.k, self.contender))
