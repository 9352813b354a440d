"""Adapters as bytes, who may take part, and how long a job is thought to take."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from harness.config.options import parse_options
from harness.core import Adaptation
from harness.engine.identity import identity, refusal
from harness.engine.parcels import pack, unpack
from harness.errors import OptionError, StoreError
from harness.models.sources import Source
from harness.results.adapter_files import ADAPTER, RECORD, is_complete
from harness.run.bench import Bench
from harness.run.costs import cell_flops, parameters, training_flops
from harness.run.outstanding import missing
from harness.run.plan import Plan, make_plan
from tests.builders.tasks import Files


def adapter(folder: Path, weights: bytes = b"weights") -> Path:
    folder.mkdir(parents=True)
    (folder / ADAPTER).write_bytes(weights)
    record = {"sha256": hashlib.sha256(weights).hexdigest()}
    (folder / RECORD).write_text(json.dumps(record))
    (folder / "more").mkdir()
    (folder / "more" / "file.txt").write_text("文")
    return folder


def test_an_adapter_arrives_as_it_left(tmp_path: Path) -> None:
    parcel = pack(adapter(tmp_path / "from"))
    unpack(parcel, tmp_path / "to" / "key")
    assert is_complete(tmp_path / "to" / "key")
    assert (tmp_path / "to" / "key" / "more" / "file.txt").read_text() == "文"
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["key"]
    unpack(b"", tmp_path / "to" / "key")  # which is there already, and is not looked at
    assert pack(tmp_path / "from") == pack(tmp_path / "from")


def tampered(parcel: bytes) -> bytes:
    return parcel.replace(b"weights", b"weighty")


def outside(parcel: bytes) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../out"), io.BytesIO())
    return content.getvalue()


@pytest.mark.parametrize("change", [tampered, outside, lambda parcel: parcel[:600], lambda _: b""])
def test_what_is_not_what_was_trained_is_not_put_there(change: object, tmp_path: Path) -> None:
    parcel = pack(adapter(tmp_path / "from"))
    with pytest.raises(StoreError, match="the adapter that arrived"):
        unpack(change(parcel), tmp_path / "to" / "key")  # type: ignore[operator]
    assert list((tmp_path / "to").iterdir()) == []
    assert not (tmp_path / "out").exists()


def test_a_node_with_other_code_or_libraries_is_refused_in_one_line() -> None:
    mine = identity()
    assert refusal("n7", mine, mine) is None
    other = dataclasses.replace(mine, code="0" * 64)
    assert "node n7 has other code of adaptbench (000000000000, this" in str(
        refusal("n7", other, mine)
    )
    versions = tuple((name, "9" if name == "peft" else value) for name, value in mine.versions)
    line = refusal("n7", dataclasses.replace(other, versions=versions), mine)
    assert line is not None
    assert line.startswith("--engine=ray: node n7 has peft 9, and this machine ")
    assert "\n" not in line


def plan_of(files: Files, model: Path, **flags: str) -> Plan:
    given = {"model": str(model), "data": str(files.test), "train_data": str(files.train), **flags}
    return make_plan(parse_options(given))


def test_longer_prompts_and_training_take_longer(files: Files, tiny_model: Path) -> None:
    plan = plan_of(files, tiny_model, strategy="zeroshot,fewshot,qlora", k="1,3", seeds="0")
    zero, one, three, trained = plan.cases
    flops = [cell_flops(case, plan) for case in (zero, one, three)]
    assert flops == sorted(flops)
    assert len(set(flops)) == 3
    assert cell_flops(trained, plan) == flops[0]
    # Three times the reading of all rows, in one epoch.
    training = trained.training
    assert training is not None
    pool = dataclasses.replace(plan.task, examples=training.examples)
    reading = cell_flops(zero, dataclasses.replace(plan, task=pool))
    assert training_flops(trained) == pytest.approx(3 * reading)
    steps = dataclasses.replace(training.settings, max_steps=3, per_device_train_batch_size=2)
    short = dataclasses.replace(
        trained, adaptation=Adaptation(training=dataclasses.replace(training, settings=steps))
    )
    assert training_flops(short) == pytest.approx(training_flops(trained) * 6 / 12)


def test_answers_take_longer_than_likelihoods(files: Files, tiny_model: Path) -> None:
    plan = plan_of(files, tiny_model, strategy="zeroshot", metrics="perplexity,chrf")
    read, write = plan.cases
    assert read.decoding is None
    assert cell_flops(write, plan) > cell_flops(read, plan)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (Source("hub", "Qwen/Qwen3-4B-Instruct"), 4e9),
        (Source("hub", "HuggingFaceTB/SmolLM2-360M"), 3.6e8),
        (Source("embedded", "smollm2-135m"), 1.35e8),
        (Source("hub", "someone/unnamed"), 1e9),
    ],
)
def test_parameters_by_name(source: Source, expected: float) -> None:
    assert parameters(source) == expected


def test_parameters_by_files(tiny_model: Path) -> None:
    size = sum(file.stat().st_size for file in tiny_model.glob("*.safetensors"))
    assert parameters(Source("folder", str(tiny_model))) == size / 2


@pytest.mark.parametrize("flag", ["engine_address", "slots"])
def test_flags_of_an_engine_need_one(flag: str) -> None:
    with pytest.raises(OptionError, match="is about --engine=ray"):
        parse_options({flag: "2"})
    assert parse_options({flag: "2", "engine": "ray"}).engine == "ray"


def test_a_gpu_of_the_cluster_is_enough(
    files: Files, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.models.fingerprint.cuda_device_count", lambda: 0)
    plan = plan_of(files, tiny_model, strategy="zeroshot", device="cuda", engine="ray")
    assert [case.device for case in plan.cases] == ["cuda"]
    with pytest.raises(OptionError, match="no usable CUDA device"):
        plan_of(files, tiny_model, strategy="zeroshot", device="cuda")


def test_what_models_have_to_observe_for_ratings_and_choices(
    files: Files, tiny_model: Path, tmp_path: Path
) -> None:
    flags = {"strategy": "zeroshot", "metrics": "perplexity,chrf,judge", "judge": str(tiny_model)}
    plan = plan_of(files, tiny_model, **flags, results_dir=str(tmp_path))
    bench = Bench(plan)
    wanted = [case for _, case, _ in missing(bench, plan.cases)]
    assert {case.observes for case in plan.cases} == {"likelihood", "answer", "rating"}
    assert {case.observes for case in wanted} == {"likelihood", "answer"}

    chosen = {"decode": "greedy,beam", "choose_decoding": "3", "metrics": "chrf"}
    plan = plan_of(
        files, tiny_model, strategy="zeroshot", results_dir=str(tmp_path), engine="ray", **chosen
    )
    bench = Bench(plan)
    found = list(missing(bench, plan.cases))
    assert [case.decoding_name for _, case, _ in found] == ["greedy", "beam"]
    assert {place for place, _, _ in found} == {bench.aside}
    assert {cell.n for _, _, cell in found} == {3}
