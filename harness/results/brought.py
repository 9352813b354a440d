"""Runs that lie elsewhere, brought to this machine to be read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import parse
from harness.errors import OptionError, StoreError
from harness.files import temporary, write_atomically
from harness.places import Location
from harness.results import adapter_files
from harness.results.adapter_files import FILES, DamagedAdapterError
from harness.results.manifest import FILE, read_manifest
from harness.results.objects import Objects
from harness.results.reading import check
from harness.results.remote import Remote, check_sum

AT_ONCE = 16  # files that are asked for at the same time


def brought(where: str | os.PathLike[str]) -> Path:
    """The folder of a results directory, with the run that lies at its URL if it is one.

    Of the run: its manifest and the cells that it names. What is here already is not asked for.

    Raises:
        OptionError: it is neither a path nor a URL of a known kind.
        StoreError: nothing can be had from there, or there is no run.
    """
    found = located(where)
    return found if isinstance(found, Path) else _pull(found)


def located(where: str | os.PathLike[str]) -> Path | Location:
    """A path, or where it is elsewhere.

    Raises:
        OptionError: it is neither a path nor a URL of a known kind.
    """
    if isinstance(where, Path):
        return where
    try:
        return parse.location(os.fspath(where))
    except ValueError as error:
        raise OptionError(f"{where}: expected {error}") from None


def _pull(where: Location) -> Path:
    remote = Remote(where.url, where.folder)
    again = "run pytest suites/ with this --results-dir to write it"
    said = remote.objects.read(FILE)
    place = remote.objects.place(FILE)
    if said is None:
        raise StoreError(f"{place}: not found, so this is no results directory; {again}")
    try:
        text = said.decode("utf-8")
        check_sum(text)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{place}: damaged ({error}); {again}") from None
    write_atomically(where.folder / FILE, text)
    files = [str(entry.file) for entry in read_manifest(where.folder).entries if entry.file]
    cells = [where.folder / name for name in files if name.startswith("cells/")]
    missing = [path for path in cells if path.parent.name == "cells" and not path.exists()]
    _at_once(lambda path: remote.fetch(path, check_sum), missing)
    return where.folder


def handed_on(where: str | os.PathLike[str]) -> str | None:
    """Hand on reports that were written anew, if the results directory lies elsewhere.

    Returns:
        The URL.

    Raises:
        StoreError: it cannot be written.
    """
    found = located(where)
    if isinstance(found, Path):
        return None
    Remote(found.url, found.folder).publish()
    return found.url


def check_there(where: Location) -> tuple[list[str], list[str]]:
    """Verify every file at a URL, reading all of them.

    Returns:
        Lines saying what was looked at, and one line for each thing that is wrong.

    Raises:
        StoreError: there is nothing to look at, or it cannot be read.
    """
    objects = Objects(where.url)
    where.folder.mkdir(parents=True, exist_ok=True)
    copy = temporary(where.folder / "check")
    shutil.rmtree(copy, ignore_errors=True)
    names = objects.names()
    small = [name for name in names if name == FILE or name.startswith("cells/")]
    adapters = [name.split("/")[1] for name in names if name.endswith(f"/{FILES}")]
    wrong = []
    try:
        copy.mkdir()
        _at_once(lambda name: objects.download(name, copy / name), small)
        for name in adapters:
            try:
                adapter_files.fetch(objects, copy / "adapters" / name)
            except DamagedAdapterError as error:
                place = objects.place(f"adapters/{name}")
                wrong.append(f"{place}: {error}; it is trained again when needed")
        seen, found = check(copy)
    except StoreError as error:
        raise StoreError(str(error).replace(str(copy), where.url)) from None
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    here, there = str(copy), where.url
    lines = [[line.replace(here, there) for line in lines] for lines in (seen, found + wrong)]
    return lines[0], lines[1]


def _at_once(ask: Callable[..., object], of: list[Path] | list[str]) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(ask, of):
            pass
