"""Several runs on the same rows as one: their cells side by side in one report."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.errors import GateError, OptionError
from harness.results.manifest import FILE, Entry, Manifest, read_manifest, write_manifest


def merge(folders: Sequence[Path], into: Path) -> None:
    """Write the manifest of several runs into a folder of its own; their cells stay where they are.

    A cell that two runs share stands there once. Where different cells, or different prompts, have
    one name, those of the later run are called after its folder.

    Args:
        folders: results directories.
        into: where the common report belongs; none of ``folders``.

    Raises:
        StoreError: a run cannot be read, or the manifest not be written.
        GateError: they are not about the same rows.
        OptionError: ``into`` is one of the runs.
    """
    if into.resolve() in {folder.resolve() for folder in folders}:
        raise OptionError(f"--into={into}: is one of the runs; name a folder of its own")
    merged: Manifest | None = None
    for folder in folders:
        run = _moved(read_manifest(folder), folder, into)
        merged = run if merged is None else _joined(merged, run, folder)
    assert merged is not None
    write_manifest(into, replace(merged, runs=tuple(map(str, folders)), engine=None, so_far=False))


def _moved(manifest: Manifest, folder: Path, into: Path) -> Manifest:
    """The same manifest, its files named from another folder."""
    entries = (
        entry
        if entry.file is None
        else replace(
            entry,
            file=Path(os.path.relpath((folder / entry.file).resolve(), into.resolve())).as_posix(),
        )
        for entry in manifest.entries
    )
    return replace(manifest, entries=tuple(entries))


def _joined(one: Manifest, other: Manifest, folder: Path) -> Manifest:
    if one.task.rows != other.task.rows or one.metrics != other.metrics:
        raise GateError(
            f"{folder / FILE}: its test rows or its metrics are not those of the runs before it; "
            f"one report takes runs on the same rows"
        )
    name = folder.resolve().name
    known = {prompt.name: prompt for prompt in one.prompts}
    renamed = {
        prompt.name: f"{prompt.name}@{name}"
        for prompt in other.prompts
        if known.get(prompt.name, prompt) != prompt
    }
    prompts = [
        replace(prompt, name=renamed.get(prompt.name, prompt.name)) for prompt in other.prompts
    ]
    entries = {entry.id: entry for entry in one.entries}
    for entry in other.entries:
        entry = replace(entry, prompt=renamed.get(entry.prompt, entry.prompt))
        there = entries.get(entry.id)
        if there is not None and _same(there, entry):
            continue
        if there is not None:
            entry = replace(entry, id=f"{entry.id}@{name}", model=f"{entry.model}@{name}")
        entries[entry.id] = entry
    return replace(
        one,
        prompts=tuple({p.name: p for p in (*one.prompts, *prompts)}.values()),
        shown=_union(one.shown, other.shown),
        scored_pool=_union(one.scored_pool, other.scored_pool),
        trial=one.trial or other.trial,
        exams=tuple({repr(exam): exam for exam in (*one.exams, *other.exams)}.values()),
        entries=tuple(entries.values()),
    )


def _same(one: Entry, other: Entry) -> bool:
    if one.cell is None or other.cell is None:
        return one.cell is other.cell
    return one.cell.key == other.cell.key and one.prompt == other.prompt


def _union(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return {**other, **one}
