"""Baselines: what is written is read, and whatever is not right is refused in one line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.core import digest
from harness.errors import StoreError
from harness.gate.decision import judge
from harness.metrics.base import Reading
from harness.metrics.perplexity import Perplexity
from harness.results.baseline import read_baseline, update_baseline, write_baseline
from harness.results.snapshot import Snapshot, rounded
from tests.builders.snapshots import LOGS, TOKENS, N, but, rows, run


@pytest.fixture
def snapshot() -> Snapshot:
    machine = {"torch version": "2.13", "machine: cores": 2}
    return run({"a": rows(LOGS, **machine), "b-s0": rows(LOGS + 0.1, "k2", **machine)})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results" / "baseline.json"


def bare(snapshot: Snapshot) -> Snapshot:
    """Without what is not read back: where it stands, and what was computed from the rows."""
    cells = {
        name: replace(
            cell,
            metrics={key: replace(one, aggregates={}) for key, one in cell.metrics.items()},
        )
        for name, cell in snapshot.cells.items()
    }
    return replace(snapshot, where="", cells=cells)


def test_what_is_written_is_read(path: Path, snapshot: Snapshot) -> None:
    write_baseline(path, snapshot)
    found = read_baseline(path)
    assert bare(found) == bare(snapshot)
    # The first aggregates are written for who reads the file, with four digits.
    for name, cell in snapshot.cells.items():
        known = cell.metrics["perplexity"].aggregates["mean_perplexity"]
        read = found.cells[name].metrics["perplexity"].aggregates["mean_perplexity"]
        assert read == pytest.approx(known, abs=1e-4)


def test_it_is_made_for_reviewing(path: Path, snapshot: Snapshot) -> None:
    write_baseline(path, snapshot)
    before = path.read_text("utf-8").splitlines()
    # exp of the mean of the logarithms, by numpy
    mean = round(float(np.exp(LOGS).mean()), 4)
    assert any(f'"perplexity.mean_perplexity": {mean}' in line for line in before)
    cell = replace(rows(LOGS + 0.5), facts=snapshot.cells["a"].facts)
    write_baseline(path, replace(snapshot, cells={**snapshot.cells, "a": cell}))
    after = path.read_text("utf-8").splitlines()
    assert len(before) == len(after)
    # one cell's three metrics and rows, and the checksum
    assert sum(x != y for x, y in zip(before, after, strict=True)) == 5
    (numbers, *_) = (line for line in before if ".totals" in line)
    assert len(numbers) < 13 * len(LOGS)  # a dozen characters a row


DAMAGE: dict[str, tuple[Callable[[str], str], str]] = {
    "cut off": (lambda text: text[: len(text) // 2], "damaged or cut off"),
    "empty": (lambda text: "", "damaged or cut off"),
    "a digit changed": (lambda text: text.replace("[20, ", "[21, ", 1), "checksum"),
    "a cell's name changed": (lambda text: text.replace('"b-s0"', '"b-s1"'), "checksum"),
    "a NaN": (
        lambda text: text.replace('.totals": [', '.totals": [NaN, ', 1),
        "NaN is not a number",
    ),
    "older": (
        lambda text: text.replace('"schema_version": 2', '"schema_version": 0'),
        "baseline schema 0, this adaptbench reads up to 2",
    ),
    "newer": (
        lambda text: text.replace('"schema_version": 2', '"schema_version": 3'),
        "baseline schema 3, this adaptbench reads up to 2; update adaptbench, or write it with",
    ),
    "nested too deeply": (lambda text: "[" * 100_000, "damaged or cut off"),
}


@pytest.mark.parametrize(("damage", "says"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_one_line_that_says_what_to_do(
    path: Path, snapshot: Snapshot, damage: Callable[[str], str], says: str
) -> None:
    write_baseline(path, snapshot)
    text = path.read_text("utf-8")
    damaged = damage(text)
    assert damaged != text
    path.write_text(damaged, "utf-8")
    with pytest.raises(StoreError, match=says) as caught:
        read_baseline(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "--update-baseline" in message
    assert "\n" not in message


@pytest.mark.parametrize("text", ["[]", '{"schema_version": 1}', '"text"'])
def test_something_else_is_no_baseline_and_is_never_replaced(
    path: Path, snapshot: Snapshot, text: str
) -> None:
    path.parent.mkdir()
    path.write_text(text, "utf-8")
    with pytest.raises(StoreError, match="is no baseline of adaptbench; name the right file"):
        read_baseline(path)
    with pytest.raises(StoreError, match="is no baseline of adaptbench, and is not replaced"):
        update_baseline(path, snapshot)
    assert path.read_text("utf-8") == text


@pytest.mark.parametrize("where", ["folder", "file/below", "x" * 300])
def test_where_no_baseline_can_be_written(tmp_path: Path, snapshot: Snapshot, where: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(StoreError, match="cannot be"):
        update_baseline(tmp_path / where, snapshot)


def test_a_link_stays_a_link(tmp_path: Path, snapshot: Snapshot) -> None:
    link, target = tmp_path / "link.json", tmp_path / "target.json"
    link.symlink_to(target)
    update_baseline(link, snapshot)
    assert link.is_symlink()
    assert bare(read_baseline(target)) == bare(snapshot)


@pytest.mark.parametrize("field", ["cells", "rows", "metrics"])
def test_nothing_is_no_baseline(path: Path, snapshot: Snapshot, field: str) -> None:
    write_baseline(path, snapshot)
    body = json.loads(path.read_text("utf-8"))
    del body["checksum"]
    body[field] = {}
    path.write_text(json.dumps({**body, "checksum": digest(body)}), "utf-8")
    with pytest.raises(StoreError, match="it has no rows, no cells or no metric"):
        read_baseline(path)


@pytest.mark.parametrize("field", ["rows", "denominators", "cells", "environments"])
def test_a_right_checksum_over_wrong_fields_is_damage_too(
    path: Path, snapshot: Snapshot, field: str
) -> None:
    write_baseline(path, snapshot)
    body = json.loads(path.read_text("utf-8"))
    del body["checksum"], body[field]
    path.write_text(json.dumps({**body, "checksum": digest(body)}), "utf-8")
    with pytest.raises(StoreError, match=f"damaged .*{field}"):
        read_baseline(path)


def test_fewer_numbers_than_rows_are_damage(path: Path, snapshot: Snapshot) -> None:
    write_baseline(path, snapshot)
    body = json.loads(path.read_text("utf-8"))
    del body["checksum"]
    body["denominators"] = {name: some[:-1] for name, some in body["denominators"].items()}
    for cell in body["cells"].values():
        cell["perplexity.totals"].pop()
    path.write_text(json.dumps({**body, "checksum": digest(body)}), "utf-8")
    with pytest.raises(StoreError, match="cell a does not have a number for each row"):
        read_baseline(path)


def test_there_is_none(path: Path) -> None:
    with pytest.raises(StoreError, match="there is no baseline yet; write it with --update-"):
        read_baseline(path)


def test_an_incomplete_or_broken_run_is_not_written_and_the_old_one_stays(
    path: Path, snapshot: Snapshot
) -> None:
    write_baseline(path, snapshot)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not written, because cell c was not measured: no disk"):
        update_baseline(path, replace(snapshot, missing={"c": "no disk"}))
    totals = snapshot.cells["a"].metrics["perplexity"].totals
    bad = but(snapshot.cells["a"], nll=(math.nan, *totals[1:]))
    with pytest.raises(StoreError, match="row 'row-000' of cell a is not finite"):
        update_baseline(path, replace(snapshot, cells={"a": bad}))
    with pytest.raises(StoreError, match="no cell was measured"):
        update_baseline(path, replace(snapshot, cells={}))
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_an_update_says_what_changed(path: Path, snapshot: Snapshot) -> None:
    assert update_baseline(path, snapshot) == [f"{path}: 2 cells, the first baseline"]
    worse = replace(rows(LOGS + math.log(1.1)), facts=snapshot.cells["a"].facts)
    new = replace(snapshot, cells={"a": worse, "c": snapshot.cells["b-s0"]})
    lines = update_baseline(path, new)
    assert lines[0] == "dropped b-s0"
    # every row's perplexity, and so both means, by a tenth
    assert lines[1].startswith("a: mean perplexity ")
    assert lines[1].count("(+10.00 %)") == 2
    assert lines[2:] == ["added c", "0 of 2 cells as they were"]
    assert update_baseline(path, new) == ["2 of 2 cells as they were"]
    facts = {"model": "m", "prompt": "p2"}
    other = replace(new, cells={n: replace(c, facts=facts) for n, c in new.cells.items()})
    assert "changed prompt: p1 → p2 (2 cells)" in update_baseline(path, other)


def test_a_damaged_one_is_replaced_and_that_is_said(path: Path, snapshot: Snapshot) -> None:
    write_baseline(path, snapshot)
    path.write_text(path.read_text("utf-8")[:500], "utf-8")
    (line,) = update_baseline(path, snapshot)
    assert line.startswith("replaced one that could not be read: ")
    assert bare(read_baseline(path)) == bare(snapshot)


def test_a_baseline_of_schema_1_says_what_it_said(path: Path, snapshot: Snapshot) -> None:
    """It held NLLs and scored tokens, and the seed in a cell's id only."""
    nll = {name: np.round(logs * np.array(TOKENS), 6).tolist() for name, logs in
           (("a", LOGS), ("b-s0", LOGS + 0.1))}  # fmt: skip
    cell = {"key": "k", "mean_perplexity": 1.5, "environment": "e", "tokens": "t", "noise": None}
    body = {
        "kind": "adaptbench baseline",
        "schema_version": 1,
        "adaptbench": snapshot.adaptbench,
        "metric": dict(Perplexity.definition),
        "task": snapshot.task,
        "rows": dict(snapshot.rows),
        "bytes": [3] * N,
        "tokens": {"t": list(TOKENS)},
        "environments": {"e": {"torch version": "2.13"}},
        "cells": {
            name: {**cell, "facts": {"model": "m"}, "nll": values} for name, values in nll.items()
        },
    }
    path.parent.mkdir()
    path.write_text(json.dumps({**body, "checksum": digest(body)}), "utf-8")
    found = read_baseline(path)
    for name in nll:
        old, new = found.cells[name].metrics, snapshot.cells[name].metrics
        assert old["perplexity"].values == new["perplexity"].values
        assert old["perplexity"].denominators == new["perplexity"].denominators
    assert [cell.group for cell in found.cells.values()] == ["", "b"]
    gate = judge(snapshot, found, 0.01, False, [Perplexity()])
    assert [verdict.status for verdict in gate.verdicts] == ["OK", "OK"]
    assert [verdict.p for verdict in gate.verdicts] == [1.0, 1.0]


def test_a_rows_total_is_what_is_rounded() -> None:
    """A value over many tokens keeps its NLL to six decimals, not itself."""
    nll, tokens = 100.1234564, 300
    reading = Reading(np.array([nll / tokens]), (tokens,), {"mean_perplexity": 1.4})
    assert rounded(reading).values == (100.123456 / tokens,)
