"""Fixtures: tiny models made on the spot, small tasks, and pytest run inside pytest."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import SLOW_FIRST
from tests.builders import ROOT
from tests.builders.commands import Outcome, Run
from tests.builders.models import make_llama
from tests.builders.processes import ForkServer
from tests.builders.remote import CREDENTIALS, Bucket, start_s3
from tests.builders.tasks import Files, row, write_rows


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "real: uses the real small model (fetched once through pip)")
    config.addinivalue_line("markers", "gpu: needs a CUDA device; `make gpu` runs them")
    config.pluginmanager.register(Freezer())


class Freezer:
    """Keeps what libraries have made out of the sight of the garbage collector.

    A model that is let go is collected at once, and a collection looks at every object there is: of
    torch and its like a million, which takes a quarter of a second.
    """

    def __init__(self) -> None:
        self.modules = 0

    def pytest_runtest_setup(self) -> None:
        if len(sys.modules) > self.modules + 300:  # a library was imported since
            gc.collect()
            gc.freeze()
            self.modules = len(sys.modules)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slow files first, so that no worker is left alone with one at the end."""

    def rank(item: pytest.Item) -> int:
        file = item.path.relative_to(ROOT).as_posix()
        found = (i for i, name in enumerate(SLOW_FIRST) if file.startswith(name))
        return next(found, len(SLOW_FIRST))

    items.sort(key=rank)  # keeps the order within a rank


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers with random weights, a BOS, an EOS and a chat template."""
    return make_llama(tmp_path_factory.mktemp("tiny") / "tiny-llama")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Five test rows and twelve training rows, both directions."""
    turn = ("classical", "modern")
    test = [row(i, 6 + i, "test", turn[i % 2]) for i in range(5)]
    train = [row(i, 5 + i % 4, "train", turn[i % 2]) for i in range(12)]
    return Files(
        write_rows(tmp_path / "data" / "test.json", test),
        write_rows(tmp_path / "data" / "train.json", train),
    )


@pytest.fixture(scope="session")
def processes() -> Iterator[ForkServer]:
    """Runs ``python -m`` in processes of their own, the usual ones without a cold start."""
    server = ForkServer()
    yield server
    server.stop()


@pytest.fixture
def suites(files: Files, tiny_model: Path, tmp_path: Path, processes: ForkServer) -> Run:
    """Run ``pytest suites/`` on the tiny model and the small task in a process of its own.

    The process has torch and its like already; ``cold=True`` starts one that has nothing.
    """

    def run(
        *flags: str,
        defaults: bool = True,
        env: dict[str, str] | None = None,
        only: Path = ROOT / "suites",
        cold: bool = False,
    ) -> Outcome:
        given = {flag.partition("=")[0] for flag in flags}
        own = {
            "--model": tiny_model,
            "--data": files.test,
            "--train-data": files.train,
            "--results-dir": tmp_path / "results",
        }
        arguments = [str(only), "-p", "no:cacheprovider"]
        if defaults:
            arguments += [f"{name}={value}" for name, value in own.items() if name not in given]
        return processes.run("pytest", *arguments, *flags, env=env, cold=cold)

    return run


@pytest.fixture
def clean_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache directory of the test's own."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("ADAPTBENCH_CACHE", str(cache))
    yield cache


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server on this machine; its tests are skipped where there is none."""
    stop, address = start_s3()
    yield address
    stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket of the test's own, and the environment that leads there."""
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": s3_server}.items():
        monkeypatch.setenv(name, value)
    yield Bucket.made()
