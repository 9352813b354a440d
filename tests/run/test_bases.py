"""How often a run loads a model, and that its numbers do not depend on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.config.options import parse_options
from harness.core import ModelSpec
from harness.models import loading, pool
from harness.models.pool import ModelPool
from harness.records import Measurement
from harness.results.adapter_files import ADAPTER
from harness.run.bench import Bench
from harness.run.counting import Counter
from harness.run.plan import make_plan
from harness.training import joint
from tests.builders.models import make_llama
from tests.builders.tasks import Files


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The quantizations of the bases that are loaded from files."""
    seen: list[str] = []
    real = loading.load_base

    def spied(spec: ModelSpec, folder: Path) -> Any:
        seen.append(spec.quantization)
        return real(spec, folder)

    for module in (loading, pool):
        monkeypatch.setattr(module, "load_base", spied)
    return seen


def bench_of(place: Path, files: Files, model: Path, *settings: str, **flags: str) -> Bench:
    given: dict[str, Any] = {
        "model": str(model),
        "data": str(files.test),
        "train_data": str(files.train),
        "results_dir": str(place),
        "strategy": "zeroshot,qlora",
        "seeds": "0,1",
        "quant": "nf4",
        "set": ["qlora.max_steps=3", "qlora.lora_dropout=0.1", *settings],
    }
    return Bench(make_plan(parse_options(given | flags)))


def measure(bench: Bench) -> tuple[list[Measurement], dict[str, bytes]]:
    """What a run measures, and the bytes of the adapters that it trains."""
    found = [bench.measure(case).measurement for case in bench.plan.cases]
    bench.close()
    weights = {
        path.parent.name: path.read_bytes() for path in bench.store.adapters.glob(f"*/{ADAPTER}")
    }
    return found, weights


def loads_in_the_forecast(bench: Bench) -> list[str]:
    jobs = [job for _, job in Counter(bench).jobs(bench.plan.cases, lambda *_: False)]
    return [way.quantization for job in jobs for way, times in job.loads for _ in range(times)]


@pytest.mark.parametrize("n", ["1", "2"], ids=["one by one", "together"])
def test_a_run_loads_its_base_once(
    files: Files, tmp_path: Path, loads: list[str], monkeypatch: pytest.MonkeyPatch, n: str
) -> None:
    """Zero-shot, two training runs and their scores: as with a load for each, to the bit."""
    model = make_llama(tmp_path / "m", hidden_size=64, intermediate_size=128)
    together = f"qlora.together={n}"
    bench = bench_of(tmp_path / "once", files, model, together)
    assert loads_in_the_forecast(bench) == ["nf4"]
    once, its_weights = measure(bench)
    assert loads == ["nf4"]
    loads.clear()
    made = ModelPool.__init__
    monkeypatch.setattr(ModelPool, "__init__", lambda pool, *, reuse=False: made(pool))
    often, weights = measure(bench_of(tmp_path / "often", files, model, together))
    assert len(loads) == (5 if n == "1" else 4)
    assert [one.likelihoods for one in once] == [one.likelihoods for one in often]
    assert len({one.likelihoods for one in once}) == 3
    assert its_weights == weights
    assert len(weights) == 2


def test_another_base_is_loaded_and_the_first_let_go(
    files: Files, tmp_path: Path, loads: list[str]
) -> None:
    model = make_llama(tmp_path / "m", hidden_size=64, intermediate_size=128)
    flags = {"quant": "none,nf4", "score_as": "trained,merged", "seeds": "0"}
    bench = bench_of(tmp_path / "results", files, model, **flags)
    # Merging changes a base: it is the last that is done with it, and what follows loads its own.
    assert loads_in_the_forecast(bench) == ["none", "nf4", "none", "nf4"]
    measure(bench)
    assert loads == ["none", "nf4", "none", "nf4"]


def test_a_base_whose_layers_were_altered_for_training_is_not_used_again(
    files: Files, tmp_path: Path, loads: list[str]
) -> None:
    model = make_llama(tmp_path / "m", hidden_size=64, intermediate_size=128)
    flags = {"quant": "none", "strategy": "qlora"}
    settings = "qlora.gradient_checkpointing=true", "qlora.lora_dropout=0"
    bench = bench_of(tmp_path / "results", files, model, *settings, **flags)
    foreseen = loads_in_the_forecast(bench)
    measure(bench)
    # To train and to score seed 0, which leaves the second for seed 1 to be trained on; to score.
    assert loads == ["none"] * 3
    assert foreseen == loads


def test_adapters_of_one_batch_share_its_calls(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_llama(tmp_path / "m", hidden_size=64, intermediate_size=128)
    flags = {"quant": "none", "strategy": "qlora", "seeds": "0,1,2"}
    tokens: list[int] = []
    plain = joint.losses_of

    def watched(model: Any, together: Any, counts: Any) -> Any:
        tokens.append(together.ids.numel())
        return plain(model, together, counts)

    monkeypatch.setattr(joint, "losses_of", watched)
    bench = bench_of(tmp_path / "results", files, model, "qlora.together=3", **flags)
    jobs = [job for _, job in Counter(bench).jobs(bench.plan.cases, lambda *_: False)]
    calls = sum(c.calls for job in jobs for way, c in job.work if way.kind == "train")
    measure(bench)
    assert calls == pytest.approx(6)  # three steps of two batches, not of six
    assert len(tokens) == 6
