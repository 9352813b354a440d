"""Results directories without data, model or torch: read, check, report, compare."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from harness.errors import StoreError
from harness.metrics.base import Metric
from harness.metrics.find import find_metric
from harness.metrics.perplexity import nonfinite_rows
from harness.naming import counted
from harness.records import Measurement
from harness.results.adapter_files import is_complete
from harness.results.baseline import read_baseline
from harness.results.manifest import FILE, Entry, Manifest, read_manifest
from harness.results.snapshot import Rows, Snapshot, take
from harness.results.store import DamagedFileError, read_measurement


def read_run(folder: Path) -> tuple[Manifest, dict[str, Measurement]]:
    """Read a run's manifest and its cells.

    A cell whose file is gone or damaged is missing from what is returned, with the reason.

    Raises:
        StoreError: there is no run, a file cannot be read, or all of its cells' files are gone or
            damaged: a report of none would replace one that says something.
    """
    manifest = read_manifest(folder)
    entries, measured, lost = [], {}, []
    for entry in manifest.entries:
        if entry.cell is not None:
            try:
                measured[entry.id] = read_measurement(folder / str(entry.file), entry.cell)
            except FileNotFoundError:
                entry = _lost(entry, "its file is gone")
            except DamagedFileError as error:
                entry = _lost(entry, f"its file is damaged: {error}")
            else:
                ids = dict.fromkeys(one.id for one in measured[entry.id].observations)
                if list(ids) != list(manifest.task.rows):
                    del measured[entry.id]
                    entry = _lost(entry, "its rows are not the run's")
            if entry.cell is None:
                lost.append(entry.reason)
        entries.append(entry)
    if lost and not measured:
        raise StoreError(
            f"{folder}: of {counted(len(lost), 'stored cell')} none can be read ({lost[0]}); put "
            f"the files back, or measure again"
        )
    return replace(manifest, entries=tuple(entries)), measured


def _lost(entry: Entry, why: str) -> Entry:
    return replace(entry, cell=None, file=None, cached=False, reason=f"{entry.file}: {why}")


def snapshot(where: Path) -> Snapshot:
    """The values of each row of a results directory or a baseline file.

    Raises:
        StoreError: it cannot be read.
        MetricError: one of its metrics is not there.
    """
    if _is_folder(where):
        manifest, measured = read_run(where)
        return take(str(where), manifest, measured, metrics_of(manifest, where))
    return read_baseline(where)


def metrics_of(manifest: Manifest, where: Path) -> list[Metric]:
    """The metrics that a run asked for, the headline first.

    Raises:
        MetricError: one is not there.
    """
    return [
        find_metric(name, f"{where / FILE}: metric {name!r}", definition)
        for name, definition in manifest.metrics.items()
    ]


def _is_folder(where: Path) -> bool:
    try:
        found = where.stat()
    except FileNotFoundError:
        raise StoreError(
            f"{where}: not found; expected a results directory or a baseline file"
        ) from None
    except OSError as error:
        raise StoreError(f"{where}: cannot be read: {error.strerror or error}") from None
    return stat.S_ISDIR(found.st_mode)


def check(where: Path) -> tuple[list[str], list[str]]:
    """Verify every file of a results directory, or a baseline.

    Returns:
        Lines saying what was looked at, and one line for each thing that is wrong.

    Raises:
        StoreError: there is nothing to look at.
    """
    if not _is_folder(where):
        found = read_baseline(where)
        known = counted(len(found.cells), "cell"), counted(len(found.rows), "row")
        return [f"{where}: a baseline of {', '.join(known)}"], []
    wrong = []
    cells = sorted((where / "cells").glob("*.json"))
    for path in cells:
        try:
            wrong += _doubts(path, read_measurement(path))
        except (DamagedFileError, StoreError) as error:
            wrong.append(f"{path}: {error}; move it away and the cell is computed again")
    adapters = [path for path in sorted((where / "adapters").glob("*")) if _is_adapter(path)]
    wrong += [
        f"{path}: its weights are not those that were trained; it is trained again when needed"
        for path in adapters
        if not is_complete(path)
    ]
    seen = [f"{where}: {counted(len(cells), 'cell')}, {counted(len(adapters), 'adapter')}"]
    if (where / FILE).exists():
        manifest = read_manifest(where)
        gone = [
            entry for entry in manifest.entries if entry.file and not (where / entry.file).exists()
        ]
        wrong += [
            f"{where / str(entry.file)}: gone; {entry.id} has to be measured again"
            for entry in gone
        ]
        seen.append(f"{where / FILE}: {len(manifest.entries)} cases")
    elif not cells:
        raise StoreError(f"{where}: neither {FILE} nor cells: this is no results directory")
    return seen, wrong


def _is_adapter(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".") and path.suffix != ".work"


def _doubts(path: Path, measurement: Measurement) -> list[str]:
    cell, found = measurement.cell, []
    if cell.key[:16] not in path.name:
        found.append(f"{path}: its name is not its cell's, which has the key {cell.key[:16]}")
    rows = list(dict.fromkeys(one.id for one in measurement.observations))
    if len(rows) != cell.n:
        found.append(f"{path}: {len(rows)} rows, expected {cell.n}")
    rows = nonfinite_rows(measurement.observations)
    if rows:
        found.append(f"{path}: {len(rows)} rows are not finite, the first is {rows[0]!r}")
    return found


def matched(after: Snapshot, before: Snapshot) -> dict[str, tuple[Rows, Rows]]:
    """Cells of two runs that belong together: of one id, or else of one id but for the model.

    Returns:
        A name → (after, before). Where the models' names differ, the name shows both.
    """
    found = {
        name: (rows, before.cells[name])
        for name, rows in after.cells.items()
        if name in before.cells
    }
    left, right = (_without_model(side.cells, found) for side in (after, before))
    for rest, ours in left.items():
        theirs = right.get(rest)
        if len(ours) == 1 and theirs is not None and len(theirs) == 1:
            old, new = before.cells[theirs[0]], after.cells[ours[0]]
            found[f"{old.facts['model']} → {new.facts['model']}{rest}"] = new, old
    return found


def _without_model(cells: Mapping[str, Rows], known: Mapping[str, object]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for name, rows in cells.items():
        if name not in known:
            names.setdefault(name.removeprefix(str(rows.facts["model"])), []).append(name)
    return names
