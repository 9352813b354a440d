"""The contest of writers: who takes part, and that all of them write the same text."""

from __future__ import annotations

import pytest

from harness.conformance.tiny_models import FAMILIES, make
from harness.core import DecodingSpec
from harness.generation.engine import write
from harness.models.loading import LoadedModel, load
from harness.speed.peers import in_batches
from harness.speed.table import written_table
from harness.speed.writing import ALONE, OURS, PEER, STATIC, WRITERS, Written, writers
from tests.builders.scoring import QUIET, encode, spec


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load(spec(), make(FAMILIES["llama"], tmp_path_factory.mktemp("speed") / "m"), None)


def test_zero_shot_and_one_few_shot_take_part() -> None:
    assert writers((1, 5, 10)) == [(k, writer) for k in (0, 5) for writer in WRITERS]
    assert {k for k, _ in writers((3,))} == {0, 3}
    assert {k for k, _ in writers((10,))} == {0, 10}


def test_transformers_writes_our_text_alone_and_in_padded_batches(loaded: LoadedModel) -> None:
    rows = encode(loaded.encoder, 6)
    assert len({len(row.context) for row in rows}) > 1  # so that something is padded
    found, _ = write(loaded, rows, DecodingSpec(max_new_tokens=8), 0, QUIET)
    ours = [answer.text for answer in found]
    assert in_batches(loaded, rows, 8, 1) == ours
    assert in_batches(loaded, rows, 8, 4) == ours
    assert any(ours)


def written(writer: str, seconds: float, same: int, batch: int | None = None) -> Written:
    return Written(5, writer, 60, 1200, seconds, same, 2_500_000_000, batch)


def test_the_table_compares_with_ours_and_says_whose_text_differs() -> None:
    lines = written_table(
        [
            written(ALONE, 80.0, 60),
            written(OURS, 10.0, 60),
            written(STATIC, 30.0, 58, 16),
            written(PEER, 40.0, 59, 8),
        ]
    ).splitlines()[2:]
    assert [line.split()[-4:] for line in lines] == [
        ["8.0", "60", "of", "60"],
        ["–", "60", "of", "60"],
        ["3.0", "58", "of", "60"],
        ["4.0", "59", "of", "60"],
    ]
    assert "120.0" in lines[1]
    assert "static-batch (batch 16)" in lines[2]


def test_without_ours_nothing_is_compared() -> None:
    (line,) = written_table([written(ALONE, 80.0, 60)]).splitlines()[2:]
    assert line.split()[-4] == "–"
