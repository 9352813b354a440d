"""Models under test in the conformance suite: a tiny one of every family, or the user's own."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness.conformance.tiny_models import FAMILIES, make
from harness.core import ModelSpec, Prompt, Span
from harness.errors import NotApplicableError
from harness.models.encoding import Encoded
from harness.models.loading import LoadedModel
from harness.models.pool import ModelPool
from harness.run.progress import silent
from harness.scoring.batches import Budget
from harness.scoring.fast import fast
from harness.scoring.score import score

if TYPE_CHECKING:
    from harness.run.bench import Bench
    from harness.run.case import Case

OWN = ("model", "quant", "dtype", "device", "adapter")  # a flag that says which model is tested
SHARED = "前提共用之文，諸行皆始於此。天地玄黃，宇宙洪荒；日月盈昃，辰宿列張。\n"
SMALL = Budget(tokens=200, keys=1 << 12, logits=1 << 26, softmax=1 << 12)  # several batches


class ModelUnderTest:
    """A model under test: where its files are, and rows that suit it.

    Args:
        name: what the test is called by.
        source: returns the model as it is scored, its base's folder, and an adapter's or None.
        sharing: how its rows must share a prefix; None for a user's model, where any way is right.
        pool: what keeps the model; by default one of its own.
    """

    def __init__(
        self,
        name: str,
        source: Callable[[], tuple[ModelSpec, Path, Path | None]],
        sharing: str | None = None,
        pool: ModelPool | None = None,
    ) -> None:
        self.name = name
        self.sharing = sharing
        self._source = source
        self._pool = pool or ModelPool()

    @cached_property
    def files(self) -> tuple[ModelSpec, Path, Path | None]:
        return self._source()

    @property
    def loaded(self) -> LoadedModel:
        return self._pool.get(*self.files)

    def close(self) -> None:
        """Let go of the model."""
        self._pool.clear()

    def rows(self, count: int = 7, shared: str = SHARED, seed: int = 0) -> list[Encoded]:
        """Rows that begin alike and have different lengths."""
        rng = random.Random(seed)  # noqa: S311 (made-up text)
        return [
            self.encode(
                f"r{index}",
                shared + "".join(rng.choice("天地玄黃宇宙洪荒") for _ in range(rng.randint(1, 12))),
                "".join(rng.choice("日月盈昃辰宿列張") for _ in range(rng.randint(1, 9))),
            )
            for index in range(count)
        ]

    def encode(self, name: str, context: str, answer: str) -> Encoded:
        return self.loaded.encoder.encode(Prompt(name, (Span(context),), answer))

    def nlls(self, rows: Sequence[Encoded], share: bool = True) -> list[float]:
        """NLLs as a run on several cores computes them, but in small batches."""
        with _several_threads():
            if self.files[0].quantization == "int8":
                return [one.nll for one in score(self.loaded, rows, "fast", silent)[0]]
            return fast(self.loaded, rows, silent, SMALL, share).nlls


@contextmanager
def _several_threads() -> Iterator[None]:
    """While active, torch has at least two threads: one would hide what two do to each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(max(2, before))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def tiny(name: str, folder: Path) -> ModelUnderTest:
    """A tiny random model of the family ``name``, written to ``folder``."""
    family = FAMILIES[name]

    def source() -> tuple[ModelSpec, Path, Path | None]:
        if not (folder / "config.json").exists():
            try:
                make(family, folder)
            except LookupError as error:
                raise NotApplicableError(str(error)) from None
        return ModelSpec(name, name, quantization=family.quantization), folder, None

    return ModelUnderTest(name, source, family.sharing)


def models_under_test(bench: Bench) -> dict[str, Callable[[Path], ModelUnderTest]]:
    """What conformance is tested on: the models that flags ask for, or one of each family.

    Returns:
        A name → what makes the model; a tiny one is written into the folder that it is given.
    """
    if any(map(bench.plan.options.given, OWN)):
        return {name: partial(_users, bench, name, case) for name, case in _cases(bench).items()}
    return {name: partial(tiny, name) for name in FAMILIES}


def _cases(bench: Bench) -> dict[str, Case]:
    """One case of each of the user's models, without training where there is such a case."""
    found: dict[str, Case] = {}
    plain = [case for case in bench.plan.cases if case.training is None]
    for case in plain or bench.plan.cases:
        quantized = f"-{case.quantization}" if case.quantization != "none" else ""
        found.setdefault(f"{case.model_name}{quantized}", case)
    return found


def _users(bench: Bench, name: str, case: Case, folder: Path) -> ModelUnderTest:
    return ModelUnderTest(
        name,
        lambda: (bench.spec(case), bench.folder(case), case.adapter),
        pool=bench.pool,
    )
