"""Baselines: snapshots in files that are committed and reviewed.

A baseline is JSON with one short line for each fact of a cell and one line for its rows, and a
checksum over all of it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.core import digest
from harness.errors import StoreError
from harness.files import write_atomically
from harness.naming import counted
from harness.results.snapshot import DECIMALS, Difference, Rows, Snapshot, Values, differences

SCHEMA_VERSION = 2
KIND = "adaptbench baseline"
HEADLINES = 3  # aggregates of each cell that are written for who reads the file; never read back


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
        machine = {key: value for key, value in rows.facts.items() if _of_environment(key)}
        cells[name] = {
            "key": rows.key,
            "facts": {key: value for key, value in rows.facts.items() if key not in machine},
            "environment": _known(places, "environment", machine),
            "group": rows.group,
            "noise": rows.noise,
        }
        for metric, values in rows.metrics.items():
            counts = values.denominators
            shown = list(values.aggregates.items())[:HEADLINES]
            cells[name] |= {f"{metric}.{key}": round(value, 4) for key, value in shown}
            if values.sums is not None:
                cells[name][f"{metric}.sums"] = [list(map(_short, row)) for row in values.sums]
            elif counts is None:
                cells[name][f"{metric}.values"] = list(values.values)
            else:  # what is divided, which takes fewer digits
                cells[name] |= {
                    f"{metric}.denominators": _known(tokens, "rows", list(counts)),
                    f"{metric}.totals": [round(float(x), DECIMALS) for x in values.totals],
                }
    body = {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "adaptbench": snapshot.adaptbench,
        "metrics": {name: dict(words) for name, words in snapshot.definitions.items()},
        "task": snapshot.task,
        "rows": dict(snapshot.rows),
        "denominators": tokens,
        "environments": places,
        "cells": cells,
    }
    return {**body, "checksum": digest(body)}


def _of_environment(fact: str) -> bool:
    return fact.endswith(" version") or fact.startswith("machine: ")


def _short(value: float) -> int | float:
    """The number, without a decimal point where it is whole."""
    return int(value) if value.is_integer() else value


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
    except IsADirectoryError:
        raise StoreError(f"{path}: is a folder; name the baseline's file") from None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}: damaged or cut off ({error}); restore it, or {again}") from None
    if not isinstance(body, dict) or body.get("kind") != KIND:
        raise StoreError(f"{path}: is no baseline of adaptbench; name the right file")
    version = body.get("schema_version")
    if version not in _DECODERS:
        raise StoreError(
            f"{path}: baseline schema {version}, this adaptbench reads up to {SCHEMA_VERSION}; "
            f"update adaptbench, or {again}"
        )
    checksum = body.pop("checksum", None)
    if checksum != digest(body):
        raise StoreError(
            f"{path}: its checksum does not match, so it was damaged, or edited by hand; restore "
            f"it, or {again}"
        )
    try:
        return _checked(_DECODERS[version](str(path), body))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{path}: damaged ({type(error).__name__}: {error}); restore it, or {again}"
        ) from None


def _decode(where: str, body: Mapping[str, Any]) -> Snapshot:
    definitions = body["metrics"]
    cells = {
        name: Rows(
            key=cell["key"],
            metrics={
                metric: _values(metric, cell, body["denominators"])
                for metric in definitions
                if any(f"{metric}.{kind}" in cell for kind in ("values", "totals", "sums"))
            },
            facts={**cell["facts"], **body["environments"][cell["environment"]]},
            group=cell["group"],
            noise=cell["noise"],
        )
        for name, cell in body["cells"].items()
    }
    rows = dict(body["rows"])
    return Snapshot(where, body["task"], rows, cells, {}, definitions, body["adaptbench"])


def _values(metric: str, cell: Mapping[str, Any], tables: Mapping[str, Any]) -> Values:
    found = {
        key.removeprefix(f"{metric}."): value
        for key, value in cell.items()
        if key.startswith(f"{metric}.")
    }
    if "sums" in found:
        sums = tuple(tuple(map(float, row)) for row in found.pop("sums"))
        return Values((), None, found, sums)
    if "totals" not in found:
        return Values(tuple(found.pop("values")), None, found)
    totals, counts = found.pop("totals"), tuple(tables[found.pop("denominators")])
    values = tuple(total / n for total, n in zip(totals, counts, strict=True))
    return Values(values, counts, found)


def _decode_first(where: str, body: Mapping[str, Any]) -> Snapshot:
    """A baseline of schema 1, which held log-likelihoods and their tokens: perplexity's values."""
    cells = {}
    for name, cell in body["cells"].items():
        counts = tuple(body["tokens"][cell["tokens"]])
        values = tuple(nll / n for nll, n in zip(cell["nll"], counts, strict=True))
        seen = {key: cell[key] for key in cell if isinstance(cell[key], float) and key != "noise"}
        cells[name] = Rows(
            key=cell["key"],
            metrics={"perplexity": Values(values, counts, seen)},
            facts={**cell["facts"], **body["environments"][cell["environment"]]},
            group=_group_of(name),
            noise=cell["noise"],
        )
    rows, definitions = dict(body["rows"]), {"perplexity": body["metric"]}
    return Snapshot(where, body["task"], rows, cells, {}, definitions, body["adaptbench"])


def _group_of(cell: str) -> str:
    """Schema 1 kept no group: a cell's id ended with its seed."""
    stem, _, last = cell.rpartition("-")
    return stem if last[:1] == "s" and last[1:].isdigit() else ""


_DECODERS = {1: _decode_first, SCHEMA_VERSION: _decode}


def _checked(snapshot: Snapshot) -> Snapshot:
    """The snapshot, if every cell has a finite value for each row.

    Raises:
        ValueError: it has not.
    """
    if not snapshot.rows or not snapshot.cells or not snapshot.definitions:
        raise ValueError("it has no rows, no cells or no metric")
    for name, cell in snapshot.cells.items():
        if not cell.metrics:
            raise ValueError(f"cell {name} has no values")
        for values in cell.metrics.values():
            rows = values.values if values.sums is None else values.sums
            if {len(rows), len(values.denominators or rows)} != {len(snapshot.rows)}:
                raise ValueError(f"cell {name} does not have a number for each row")
            if values.nonfinite or not all(n > 0 for n in values.denominators or ()):
                raise ValueError(f"cell {name} has a number that is not finite")
    return snapshot


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
        lines = [f"{path}: {counted(len(snapshot.cells), 'cell')}, the first baseline"]
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
        elif _same(before, rows):
            same += 1
        else:
            lines.append(f"{name}: {_change(before, rows)}")
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
    return f"changed {entry.what}: {values} ({counted(entry.cells, 'cell')})"


def _same(before: Rows, now: Rows) -> bool:
    """Whether the metrics that both have say the same of every row, to how a baseline rounds."""
    shared = [name for name in now.metrics if name in before.metrics]
    return len(shared) == len(now.metrics) and all(
        now.metrics[name].denominators == before.metrics[name].denominators
        and np.array_equal(now.metrics[name].tested.round(7), before.metrics[name].tested.round(7))
        for name in shared
    )


def _change(before: Rows, now: Rows) -> str:
    """What the aggregates were and are, as far as both are known."""
    parts = []
    for metric, values in now.metrics.items():
        known = before.metrics[metric].aggregates if metric in before.metrics else {}
        for name, value in list(values.aggregates.items())[:2]:
            word = name.replace("_", " ")
            if name in known:
                share = 100 * (value / known[name] - 1) if known[name] else math.nan
                parts.append(f"{word} {known[name]:.2f} → {value:.2f} ({share:+.2f} %)")
            else:
                parts.append(f"{word} {value:.2f}, new")
    return ", ".join(parts)
