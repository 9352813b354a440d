"""Which adapters are trained in one batch: the one that is needed now, and others of the same run.

An adapter that another process or machine has, or is training, is left to it: nobody waits for
somebody who may be waiting for them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from harness.core import ModelSpec, TrainingSpec
from harness.errors import DivergenceError
from harness.results.adapter_files import is_complete
from harness.results.remote import Nowhere


class DamagedAdapterWarning(UserWarning):
    """A stored adapter is not what was trained, and is trained again."""


@dataclass(frozen=True)
class Wanted:
    """An adapter that a run needs: where it belongs, and what it is trained on."""

    folder: Path
    training: TrainingSpec


@dataclass
class Siblings:
    """What a run knows of the adapters that it needs beside one.

    Attributes:
        wanted: those that may be trained in one batch with it.
        failed: those whose loss was not finite, and what each would have raised alone.
        apart: what cannot be trained in one batch, a base and a kind of adapter, and why.
    """

    wanted: Sequence[Wanted] = ()
    failed: dict[Path, DivergenceError] = field(default_factory=dict)
    apart: dict[tuple[ModelSpec, Hashable], str] = field(default_factory=dict)


class _TakenError(Exception):
    """Another machine trains an adapter."""


class _EndedError(Exception):
    """An adapter's training run ended without one."""


def gather(
    first: Wanted,
    siblings: Sequence[Wanted],
    limit: int,
    remote: Nowhere,
    train: Callable[[Sequence[Wanted]], None],
) -> None:
    """Call ``train`` once, with an adapter and as many of its siblings as nobody has or trains.

    Args:
        first: the adapter, which is ours to train.
        siblings: what may be trained with it.
        limit: as many in all.
        remote: where other machines' adapters are.
        train: puts them into their folders, but for those that end early.
    """

    def add(group: list[Wanted], rest: Sequence[Wanted]) -> None:
        for number, one in enumerate(rest if len(group) < limit else (), start=1):
            if joined(group, one, rest[number:]):
                return  # with this one, the rest were asked too
        train(group)

    def joined(group: list[Wanted], one: Wanted, rest: Sequence[Wanted]) -> bool:
        ours = False

        def with_it() -> None:
            nonlocal ours
            ours = True
            add([*group, one], rest)
            if not is_complete(one.folder):
                raise _EndedError  # there is nothing to hand on

        with _free(one.folder) as free:
            if free:
                with suppress(_TakenError, _EndedError):
                    remote.once(one.folder, with_it, _taken)
        return ours

    add([first], siblings)


def _taken(holder: str) -> None:
    raise _TakenError(holder)


@contextmanager
def _free(folder: Path) -> Iterator[bool]:
    """Hold the lock of an adapter, unless another process has it; whether it is to be trained."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        whole = is_complete(folder)
        if not whole:
            warn_if_damaged(folder)
        yield not whole
    finally:
        lock.release()


def warn_if_damaged(folder: Path) -> None:
    """Say so where an adapter's folder is there, and not what was trained."""
    if folder.exists():
        warnings.warn(
            DamagedAdapterWarning(f"adapter {folder.name} is damaged; it is trained again"),
            stacklevel=3,
        )
