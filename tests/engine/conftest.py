"""One cluster for all tests of the engine: it takes seconds to start."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from tests.builders.clusters import Nodes


@pytest.fixture(scope="session")
def nodes(request: pytest.FixtureRequest) -> Iterator[Nodes]:
    if importlib.util.find_spec("ray") is None:  # its import reads what the cluster sets
        pytest.skip("--engine=ray needs Ray: pip install 'adaptbench[ray]'")
    cluster = Nodes()
    yield cluster
    cluster.stop()
