"""What the main job costs, counted: tokens through the model, loads, files, processes.

Counts are the same on a busy machine, so that each limit is exact. That a cached run imports no
torch is asserted where it runs in a process of its own (``tests/integration/test_run.py``).
"""

from __future__ import annotations

import itertools
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from harness.config.options import parse_options
from harness.run.plan import Case, Plan, make_plan
from harness.scoring.batches import BUDGETS
from harness.scoring.queue import few_cores
from harness.scoring.sharing import MIN_PREFIX
from harness.session import Session
from tests.builders.tasks import row, write_rows

SEEDS = 2


@dataclass
class Work:
    """What happened since counting began.

    Attributes:
        tokens: that went through the model's layers in eval mode, padding included.
        steps: sizes of the batches that went through them in training.
        loads: of weights.
        tokenizers: that were loaded.
        opened: how often each file of the results directory was opened to be read.
        processes: that were started.
    """

    tokens: int = 0
    steps: list[int] = field(default_factory=list)
    loads: int = 0
    tokenizers: int = 0
    opened: Counter[str] = field(default_factory=Counter)
    processes: int = 0


class Counting:
    """Counts where all ways meet: in transformers' classes and in the interpreter's audit."""

    def __init__(self, patch: pytest.MonkeyPatch, results: Path) -> None:
        import transformers

        self.now = Work()
        self.results = str(results) + os.sep
        self.active = True  # a hook of the audit cannot be taken away
        forward = transformers.LlamaModel.forward

        def counted(model: Any, input_ids: Any = None, *more: Any, **named: Any) -> Any:
            if model.training:
                self.now.steps.append(len(input_ids))
            else:
                self.now.tokens += input_ids.numel()
            return forward(model, input_ids, *more, **named)

        patch.setattr(transformers.LlamaModel, "forward", counted)
        self._count(patch, transformers.LlamaForCausalLM, "loads")
        self._count(patch, transformers.AutoTokenizer, "tokenizers")
        sys.addaudithook(self._audit)

    def _count(self, patch: pytest.MonkeyPatch, where: Any, name: str) -> None:
        real = where.from_pretrained

        def load(*given: Any, **named: Any) -> Any:
            setattr(self.now, name, getattr(self.now, name) + 1)
            return real(*given, **named)

        patch.setattr(where, "from_pretrained", load)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active:
            return
        if event in ("subprocess.Popen", "os.fork", "os.posix_spawn"):
            self.now.processes += 1
        elif event == "open" and isinstance(arguments[0], str | os.PathLike):
            path, reads = str(arguments[0]), not arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if reads and path.startswith(self.results):
                self.now.opened[path.removeprefix(self.results)] += 1


@dataclass
class Job:
    """The main job, measured twice on one store: each cell's work, then all of the second run."""

    model: Path
    plan: Plan
    first: dict[str, Work]
    again: Work
    cells: list[str]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Job]:
    folder = tmp_path_factory.mktemp("job")
    turn = ("classical", "modern")
    test = [row(i, 9 + i, "test", turn[i % 2]) for i in range(6)]
    train = [row(i, 5 + i % 4, "train", turn[i % 2]) for i in range(12)]
    flags = {
        "model": str(tiny_model),
        "data": str(write_rows(folder / "test.json", test)),
        "train_data": str(write_rows(folder / "train.json", train)),
        "strategy": "zeroshot,fewshot,qlora",
        "k": "1,3",
        "seeds": ",".join(map(str, range(SEEDS))),
        "results_dir": str(folder / "results"),
        "set": [
            *("qlora.max_steps=3", "qlora.quantization=none", "qlora.eval_steps=none"),
            *("qlora.per_device_train_batch_size=2", "qlora.gradient_accumulation_steps=1"),
        ],
    }
    # With several threads a model's batches are looked at once more, side by side and alone.
    with pytest.MonkeyPatch.context() as patch, few_cores():
        patch.setenv("ADAPTBENCH_CACHE", str(folder / "cache"))
        plan = make_plan(parse_options(flags))
        counting, first = Counting(patch, folder / "results"), {}
        session = Session(plan)
        session.start()
        for case in plan.cases:
            counting.now = first[case.short] = Work()
            session.measure(case, lambda: 0)
        session.finish()
        session.close()
        # A file that was written just now may be changed without a newer time, so it is read twice.
        for path in (folder / "results").rglob("*.json"):
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 60))
        counting.now = again = Work()
        session = Session(make_plan(parse_options(flags)))
        session.start()
        for case in session.plan.cases:
            session.measure(case, lambda: 0)
        session.finish()
        session.close()
        counting.active = False
        cells = [path.name for path in (folder / "results" / "cells").iterdir()]
        yield Job(tiny_model, plan, first, again, cells)


@cache
def tokenizer(model: Path) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(model / "tokenizer.json"))


def lengths(job: Job, case: Case) -> tuple[list[int], int]:
    """Each row's tokens and how many all rows share at the beginning, from the texts alone."""
    contexts, answers = [], []
    for example, shown in zip(job.plan.task.examples, job.plan.demonstrations(case), strict=True):
        text = "".join(f"{one.instruction}\n{one.output}\n\n" for one in shown)
        text += f"{example.instruction}\n"
        encode = tokenizer(job.model).encode
        contexts.append([-1, *encode(text, add_special_tokens=False).ids])  # -1: the BOS
        answers.append(len(encode(example.output, add_special_tokens=False).ids) + 1)
    alike = itertools.takewhile(lambda ids: len(set(ids)) == 1, zip(*contexts, strict=False))
    shared = min(len(list(alike)), min(map(len, contexts)) - 1)
    return [len(c) + a for c, a in zip(contexts, answers, strict=True)], shared


def padded(rows: list[int]) -> int:
    """The longest first, as many together as the budget has room for at the longest's width.

    A batch is widened until its positions are a multiple of four.
    """
    waiting, tokens = sorted(rows, reverse=True), 0
    while waiting:
        together = max(1, min(len(waiting), BUDGETS["cpu"].tokens // waiting[0]))
        width = next(w for w in itertools.count(waiting[0]) if together * w % 4 == 0)
        tokens += together * width
        waiting = waiting[together:]
    return tokens


def expected(rows: list[int], shared: int, fresh: bool, known: int, sentinel: int) -> int:
    """The tokens of one cell, by what is written of the fast scorer.

    The first row that a model scored is scored again after each cell, and a fresh model also
    answers twice to six tokens, to see that it looks at nothing ahead. The shared tokens go
    through once; where more are shared than this model was checked on, the shortest and the
    longest row go through with them and whole. The rest goes through in batches.
    """
    count = sentinel + (sentinel + 2 * 6 if fresh else 0)
    if shared < MIN_PREFIX:
        return count + padded(rows)
    checks = sum(2 * one - shared for one in (min(rows), max(rows))) if shared > known else 0
    return count + shared + checks + padded([one - shared for one in rows])


def test_each_token_goes_through_the_model_as_often_as_is_needed(job: Job) -> None:
    known, sentinel, model, some_are_shared = 0, 0, "", False
    for case in job.plan.cases:
        # A model in hand is used again; with another adapter it is another model.
        wanted = f"adapter of seed {case.seed}" if case.training else "base"
        fresh, known = wanted != model, known if wanted == model else 0
        model = wanted
        rows, shared = lengths(job, case)
        sentinel = rows[0] if fresh else sentinel
        some_are_shared |= shared >= MIN_PREFIX
        wanted_tokens = expected(rows, shared, fresh, known, sentinel)
        # The base's imprint is taken of six tokens: when it has been loaded, and whenever an adapter
        # has been taken off it, before a training run and after.
        wanted_tokens += 6 * (2 if case.training else fresh)
        assert job.first[case.short].tokens == wanted_tokens, case.short
        known = max(known, shared if shared >= MIN_PREFIX else 0)
    assert some_are_shared


def test_weights_are_loaded_once_for_the_whole_run(job: Job) -> None:
    loads = [job.first[case.short].loads for case in job.plan.cases]
    assert loads == [1] + [0] * (len(loads) - 1)  # adapters are put onto the base in hand


def test_a_training_takes_its_steps_and_no_more(job: Job) -> None:
    for case in job.plan.cases:
        # Steps of two rows, which two cores could share.
        assert job.first[case.short].steps == ([1] * 6 if case.training else [])


def test_no_process_is_started_while_cells_are_measured(job: Job) -> None:
    assert sum(work.processes for work in job.first.values()) == 0


def test_a_cached_run_computes_loads_and_starts_nothing(job: Job) -> None:
    again = job.again
    assert (again.tokens, again.steps, again.loads, again.processes) == (0, [], 0, 0)
    assert again.tokenizers == 0
    assert job.first[job.plan.cases[0].short].tokenizers == 1
    read = {name: times for name, times in again.opened.items() if name.startswith("cells/")}
    assert len(job.cells) == 1 + 2 * SEEDS + SEEDS
    assert read == {f"cells/{name}": 1 for name in job.cells}
