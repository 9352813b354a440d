"""Baselines: snapshots in files that are committed and reviewed.

A baseline is JSON with one short line for each fact of a cell and one line for its rows, and a
checksum over all of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.core import digest
from harness.errors import StoreError
from harness.files import write_atomically
from harness.gate.verdict import Difference
from harness.metrics.perplexity import Summary, summarize
from harness.records import Likelihood
from harness.results.snapshot import Rows, Snapshot, differences

SCHEMA_VERSION = 1
KIND = "adaptbench baseline"
# For who reads the file; never read back.
HEADLINE = ("mean_perplexity", "geometric_mean_perplexity", "bits_per_byte")


def write_baseline(path: Path, snapshot: Snapshot) -> None:
    """Write a baseline, whole or not at all.

    Raises:
        StoreError: a cell is missing or has a row that is not finite, or the file cannot be
            written; the old one is then as it was.
    """
    if snapshot.missing:
        name, reason = next(iter(snapshot.missing.items()))
        raise StoreError(f"{path}: not written, because cell {name} was not measured: {reason}")
    if not snapshot.cells:
        raise StoreError(f"{path}: not written, because no cell was measured")
    ids = list(snapshot.rows)
    for name, rows in snapshot.cells.items():
        if rows.nonfinite:
            raise StoreError(
                f"{path}: not written, because row {ids[rows.nonfinite[0]]!r} of cell {name} is "
                f"not finite"
            )
    write_atomically(path, _dump(_encode(snapshot)))


def _encode(snapshot: Snapshot) -> dict[str, Any]:
    places: dict[str, dict[str, Any]] = {}  # what many cells share is written once
    tokens: dict[str, list[int]] = {}
    cells: dict[str, Any] = {}
    for name, rows in snapshot.cells.items():
        counts = list(rows.tokens)
        machine = {key: value for key, value in rows.facts.items() if _of_environment(key)}
        cells[name] = {
            "key": rows.key,
            **{metric: round(_summary(snapshot, rows).metric(metric), 4) for metric in HEADLINE},
            "facts": {key: value for key, value in rows.facts.items() if key not in machine},
            "environment": _known(places, "environment", machine),
            "tokens": _known(tokens, "tokenizer", counts),
            "noise": rows.noise,
            "nll": list(rows.nll),
        }
    body = {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "adaptbench": snapshot.adaptbench,
        "metric": dict(snapshot.metric),
        "task": snapshot.task,
        "rows": dict(snapshot.rows),
        "bytes": list(snapshot.bytes),
        "tokens": tokens,
        "environments": places,
        "cells": cells,
    }
    return {**body, "checksum": digest(body)}


def _summary(snapshot: Snapshot, rows: Rows) -> Summary:
    columns = zip(snapshot.rows, rows.nll, rows.tokens, snapshot.bytes, strict=True)
    return summarize([Likelihood(name, nll, n, 0, size, 0) for name, nll, n, size in columns])


def _of_environment(fact: str) -> bool:
    return fact.endswith(" version") or fact.startswith("machine: ")


def _known(table: dict[str, Any], kind: str, value: Any) -> str:
    """The name of ``value`` in the table, where it is put if it is new."""
    for name, other in table.items():
        if other == value:
            return name
    name = f"{kind} {len(table) + 1}"
    table[name] = value
    return name


def _dump(body: Mapping[str, Any], depth: int = 0) -> str:
    """JSON that diffs well: mappings on lines of their own, lists of numbers on one."""
    lines = [
        f"{' ' * (depth + 1)}{json.dumps(name, ensure_ascii=False)}: "
        + (
            _dump(value, depth + 1)
            if isinstance(value, Mapping) and value and depth < 2
            else json.dumps(value, ensure_ascii=False, allow_nan=False)
        )
        for name, value in body.items()
    ]
    text = "{\n" + ",\n".join(lines) + f"\n{' ' * depth}}}"
    return text + "\n" if depth == 0 else text


def read_baseline(path: Path) -> Snapshot:
    """Read a baseline.

    Raises:
        StoreError: it is not there, damaged, edited by hand, or of another version.
    """
    again = "write it with --update-baseline"
    try:
        body = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except FileNotFoundError:
        raise StoreError(f"{path}: there is no baseline yet; {again}") from None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}: damaged or cut off ({error}); restore it, or {again}") from None
    if not isinstance(body, dict) or body.get("kind") != KIND:
        raise StoreError(f"{path}: is no baseline of adaptbench; name the right file")
    version = body.get("schema_version")
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"{path}: baseline schema {version}, this adaptbench reads {SCHEMA_VERSION}; {again}"
        )
    checksum = body.pop("checksum", None)
    if checksum != digest(body):
        raise StoreError(
            f"{path}: its checksum does not match, so it was damaged, or edited by hand; restore "
            f"it, or {again}"
        )
    try:
        return _decode(str(path), body)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{path}: damaged ({type(error).__name__}: {error}); restore it, or {again}"
        ) from None


def _decode(where: str, body: Mapping[str, Any]) -> Snapshot:
    cells = {
        name: Rows(
            key=cell["key"],
            tokens=tuple(body["tokens"][cell["tokens"]]),
            nll=tuple(cell["nll"]),
            facts={**cell["facts"], **body["environments"][cell["environment"]]},
            noise=cell["noise"],
        )
        for name, cell in body["cells"].items()
    }
    rows, sizes = dict(body["rows"]), tuple(body["bytes"])
    if not rows or not cells:
        raise ValueError("it has no rows or no cells")
    for name, cell in cells.items():
        if not len(rows) == len(sizes) == len(cell.nll) == len(cell.tokens):
            raise ValueError(f"cell {name} does not have a number for each row")
        if not all(n > 0 for n in cell.tokens) or cell.nonfinite:
            raise ValueError(f"cell {name} has a number that is not finite")
    return Snapshot(where, body["task"], rows, sizes, cells, {}, body["metric"], body["adaptbench"])


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not a number")


def update_baseline(path: Path, snapshot: Snapshot) -> list[str]:
    """Write a new baseline and say in lines what is not as it was.

    Raises:
        StoreError: as :func:`write_baseline`, or the file is something else.
    """
    path = path.resolve()  # what a link points to
    old: Snapshot | None = None
    lines: list[str] = []
    if check_replaceable(path):
        try:
            old = read_baseline(path)
        except StoreError as error:
            lines = [f"replaced one that could not be read: {error}"]
    else:
        lines = [f"{path}: {len(snapshot.cells)} cells, the first baseline"]
    write_baseline(path, snapshot)
    if old is None:
        return lines
    if old.rows != snapshot.rows:
        lines.append(f"the test rows are others: {len(old.rows)} before, {len(snapshot.rows)} now")
    lines += [f"dropped {name}" for name in old.cells if name not in snapshot.cells]
    same = 0
    for name, rows in snapshot.cells.items():
        before = old.cells.get(name)
        if before is None:
            lines.append(f"added {name}")
        elif (before.nll, before.tokens) == (rows.nll, rows.tokens):
            same += 1
        else:
            lines.append(f"{name}: {_change(_summary(old, before), _summary(snapshot, rows))}")
    lines.append(f"{same} of {len(snapshot.cells)} cells as they were")
    return [*lines, *map(_difference, differences(snapshot, old))]


def check_replaceable(path: Path) -> bool:
    """See, before anything is computed, that a baseline could be written here.

    Returns:
        Whether there is one, damaged or not.

    Raises:
        StoreError: there is something else, or no folder to write into.
    """
    start: str | None = None
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            start = file.read(200)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StoreError(f"{path}: cannot be a baseline: {error.strerror or error}") from None
    if start and KIND not in start:
        raise StoreError(
            f"{path}: is no baseline of adaptbench, and is not replaced by one; name another file"
        )
    folder = next(parent for parent in path.resolve().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise StoreError(f"{path}: cannot be written: {folder} is not a writable folder")
    return start is not None


def _difference(entry: Difference) -> str:
    values = "others" if entry.before is None else f"{entry.before} → {entry.after}"
    return f"changed {entry.what}: {values} ({entry.cells} cells)"


def _change(before: Summary, now: Summary) -> str:
    return ", ".join(
        f"{word} {before.metric(name):.2f} → {now.metric(name):.2f} "
        f"({100 * (now.metric(name) / before.metric(name) - 1):+.2f} %)"
        for word, name in (
            ("mean perplexity", "mean_perplexity"),
            ("geometric mean", "geometric_mean_perplexity"),
        )
    )
