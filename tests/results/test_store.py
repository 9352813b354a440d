"""The store: keys that hold all that matters, files that are whole or not there."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness.core import DecodingSpec, ModelSpec
from harness.errors import StoreError
from harness.files import sweep, write_atomically
from harness.records import (
    COPIED,
    IN_PLACE,
    Agreement,
    Answer,
    Evaluation,
    Likelihood,
    Precision,
    Scoring,
    Writing,
)
from harness.results.store import DamagedFileWarning, Store, read_measurement
from tests.builders import ROOT
from tests.builders.cells import CELL, MEASUREMENT


def test_a_measurement_survives_bit_for_bit(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(MEASUREMENT)
    assert store.get(CELL) == MEASUREMENT


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nonfinite_numbers_survive(tmp_path: Path, value: float) -> None:
    store = Store(tmp_path)
    path = store.put(
        dataclasses.replace(MEASUREMENT, observations=(Likelihood("a", value, 1, 1, 1, 1),))
    )
    found = store.get(CELL)
    assert found is not None
    assert repr(found.observations[0].nll) == repr(value)
    json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)


def test_the_file_says_what_it_holds(tmp_path: Path) -> None:
    path = Store(tmp_path).put(MEASUREMENT)
    body = json.loads(path.read_text(encoding="utf-8"))
    assert path.name == f"{CELL.id}-{CELL.key[:16]}.json"
    assert body["schema_version"] == 5
    assert body["scores"][0] == {
        "id": "a",
        "nll": 1.1,
        "n_tokens": 3,
        "n_chars": 2,
        "n_bytes": 6,
        "n_context": 10,
        "demo_ids": ["x", "y"],
        "surprisal": "",
    }

    assert body["scoring"] == {
        "prefix": "in place",
        "prefix_tokens": 17,
        "refused": {"copied": "why not"},
        "batches": 3,
        "halved": 1,
        "repeat": {"times": 2, "batched": True, "row": 0.1, "geometric": 0.05},
        "rounding": {"rows": 2, "worst": 0.25, "mean": 0.125, "perplexity": -0.5},
    }
    assert body["training"]["adapter"] == "sha-train"
    assert body["training"]["evaluations"][1] == {
        "step": 2,
        "loss": 1.0,
        "mean_perplexity": 3.0,
        "holdout_loss": 1.25,
        "holdout_perplexity": None,
    }
    assert (body["answers"], body["writing"]) == ([], None)


def test_the_file_has_only_what_was_measured(tmp_path: Path) -> None:
    """As files of this schema always had it: fields that are not measured are not there."""
    assert MEASUREMENT.training is not None
    curve = (Evaluation(0, 2.0, None), Evaluation(2, 1.0, 3.0))
    plain = dataclasses.replace(
        MEASUREMENT,
        training=dataclasses.replace(MEASUREMENT.training, holdout_ids=(), evaluations=curve),
        scoring=Scoring(batches=2, precision=Precision(unknown="no room")),
    )
    store = Store(tmp_path)
    body = json.loads(store.put(plain).read_text(encoding="utf-8"))
    assert body["training"]["evaluations"] == [
        {"step": 0, "loss": 2.0, "mean_perplexity": None},
        {"step": 2, "loss": 1.0, "mean_perplexity": 3.0},
    ]
    assert body["scoring"] == {
        "prefix": "none",
        "prefix_tokens": 0,
        "refused": {},
        "batches": 2,
        "halved": 0,
        "rounding": {"unknown": "no room"},
    }
    assert store.get(CELL) == plain


CHANGES: dict[str, dict[str, Any]] = {
    "seed": {"seed": 1},
    "data": {"task_digest": "other"},
    "prompt": {"prompt_digest": "other"},
    "demonstrations": {"demonstrations_digest": "other"},
    "training": {"training_digest": "other"},
    "decoding": {"decoding": DecodingSpec("greedy")},
    "scorer": {"scorer": "reference"},
    "library version": {"libraries": (("torch", "2.14.0"), ("adaptbench", "sha-code"))},
    "scoring code": {"libraries": (("torch", "2.13.0"), ("adaptbench", "other"))},
    "model bytes": {"model": ModelSpec("m", "other")},
    "quantization": {"model": ModelSpec("m", "sha-model", quantization="nf4")},
    "dtype": {"model": ModelSpec("m", "sha-model", dtype="bfloat16")},
    "device": {"model": ModelSpec("m", "sha-model", device="cuda")},
    "adapter bytes": {"model": ModelSpec("m", "sha-model", adapter="a", adapter_digest="sha")},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES.keys())
def test_what_determines_the_number_changes_the_key(changes: dict[str, Any]) -> None:
    assert dataclasses.replace(CELL, **changes).key != CELL.key


NAMES: dict[str, dict[str, Any]] = {
    "label": {"label": "renamed", "id": "renamed"},
    "model name": {"model": ModelSpec("another path to the same bytes", "sha-model")},
    "task name": {"task": "renamed"},
    "prompt name": {"prompt": "renamed"},
}


@pytest.mark.parametrize("changes", NAMES.values(), ids=NAMES.keys())
def test_names_do_not_change_the_key(tmp_path: Path, changes: dict[str, Any]) -> None:
    renamed = dataclasses.replace(CELL, **changes)
    assert renamed.key == CELL.key
    store = Store(tmp_path)
    store.put(MEASUREMENT)
    found = store.get(renamed)
    assert found is not None
    assert found.cell == renamed


DAMAGE = {
    "cut short": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "a digit changed": lambda text: text.replace('"nll": 1.1', '"nll": 1.2'),
    "no checksum": lambda text: json.dumps({**json.loads(text), "checksum": None}),
    "not an object": lambda text: "[]",
    "not text": lambda text: "\udcff",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_reported_set_aside_and_not_used(tmp_path: Path, damage: Any) -> None:
    store = Store(tmp_path)
    path = store.put(MEASUREMENT)
    text = damage(path.read_text(encoding="utf-8"))
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.warns(DamagedFileWarning, match=rf"{path.name} is damaged .* computed again"):
        assert store.get(CELL) is None
    assert not path.exists()
    assert (tmp_path / "damaged" / path.name).exists()
    store.put(MEASUREMENT)
    assert store.get(CELL) == MEASUREMENT


def test_a_file_of_another_cell_is_not_believed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    other = dataclasses.replace(CELL, seed=1)
    store.put(MEASUREMENT).rename(store.cells / f"x-{other.key[:16]}.json")
    with pytest.warns(DamagedFileWarning, match="it holds another cell"):
        assert store.get(other) is None


WRITER = """
import sys, pathlib
from harness.files import write_atomically
path = pathlib.Path(sys.argv[1])
print("ready", flush=True)
while True:
    for letter in "ab":
        write_atomically(path, letter * 3_000_000)
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "cell.json"
    for attempt in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.05 + 0.017 * attempt)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if path.exists():
            text = path.read_text(encoding="utf-8")
            assert len(text) == 3_000_000
            assert len(set(text)) == 1
    sweep(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["cell.json"]


def test_sweep_leaves_living_processes_and_other_files_alone(tmp_path: Path) -> None:
    from harness.files import temporary

    own = temporary(tmp_path / "cell.json")
    own.write_text("mine", encoding="utf-8")
    (tmp_path / ".other.tmp").write_text("whose?", encoding="utf-8")
    dead = Path(str(own).replace(f".{os.getpid()}.", ".999999999."))
    dead.mkdir()
    sweep(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([".other.tmp", own.name])


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\udcff")
    assert path.read_text(encoding="utf-8") == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_unwritable_directory(tmp_path: Path) -> None:
    blocker = tmp_path / "results"
    blocker.write_text("a file", encoding="utf-8")
    with pytest.raises(StoreError, match=r"--results-dir=.*results: cannot be written"):
        Store(blocker).prepare()


def test_warnings_of_a_model_are_kept(tmp_path: Path) -> None:
    Store(tmp_path).put(dataclasses.replace(MEASUREMENT, warnings=("model m: says so",)))
    found = Store(tmp_path).get(CELL)
    assert found is not None
    assert found.warnings == ("model m: says so",)


def test_answers_come_back_to_the_digit(tmp_path: Path) -> None:
    written = (
        Answer(
            "a", (5, 0, 7), "天\n 地", "stop string", "\n\n", (-0.1, -1e-17, -3.25), 9, ("x",), 0
        ),
        Answer("a", (), "", "stop token", "</s>", (-0.1 - 0.2,), 9, ("x",), 1, -0.125),
        Answer("b", (1,), "\ufffd", "limit", "", (-2.0,), 8),
    )
    decoding = DecodingSpec("mine", do_sample=True, stop=("\n\n", "。"), num_return_sequences=2)
    cell = dataclasses.replace(CELL, decoding=decoding, scorer=None)
    how = Writing(COPIED, 3, {IN_PLACE: "why"}, True, 2, 1, 0, 4, Agreement(2, 1, 0))
    measurement = dataclasses.replace(MEASUREMENT, cell=cell, observations=written, writing=how)
    store = Store(tmp_path)
    body = json.loads(store.put(measurement).read_text(encoding="utf-8"))
    assert body["answers"][0]["logprobs"] == "-0.1 -1e-17 -3.25"
    assert store.get(cell) == measurement
    assert read_measurement(store.path(cell)) == measurement
