"""Measurements on disk: one file per cell, complete or not there, checked when read.

A file is named ``<cell id>-<first 16 digits of the key>.json``. It is found by the key alone: a
cell that was renamed but computes the same number is the same cell.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from harness.core import Cell, DecodingSpec, JudgeSpec, ModelSpec, digest
from harness.errors import StoreError
from harness.files import sweep, write_atomically
from harness.records import Measurement
from harness.results.json_records import (
    JsonObject,
    answer_from_json,
    answer_to_json,
    likelihood_from_json,
    likelihood_to_json,
    preference_from_json,
    provenance_from_json,
    rating_from_json,
    scoring_from_json,
    scoring_to_json,
    training_from_json,
    training_to_json,
    writing_from_json,
)
from harness.results.remote import Nowhere

T = TypeVar("T")
SCHEMA_VERSION = 5
SHORT = 16
TICK = 2 * 10**9  # nanoseconds: no file system counts time in larger steps


class DamagedFileWarning(UserWarning):
    """A stored file was unreadable and has been set aside."""


class Store:
    """The cells of one results directory.

    Args:
        folder: the results directory; cells live in ``cells/``, what was set aside in
            ``damaged/``.
        remote: where else it lies, if machines share it.
    """

    def __init__(self, folder: Path, remote: Nowhere | None = None) -> None:
        self.folder = folder
        self.remote = remote or Nowhere()
        self.cells = folder / "cells"
        self.adapters = folder / "adapters"
        self._names: dict[str, str] = {}  # short key → the name of its file
        self._listed: int | None = None  # when the folder had these names
        self._read: dict[Path, tuple[tuple[int, int, int], Measurement]] = {}

    def prepare(self) -> None:
        """Make the directory and remove what killed processes left in it.

        Raises:
            StoreError: it cannot be written.
        """
        try:
            for folder in (self.cells, self.adapters):
                folder.mkdir(parents=True, exist_ok=True)
                sweep(folder)
            sweep(self.folder)
        except OSError as error:
            raise StoreError(
                f"--results-dir={self.folder}: cannot be written: {error.strerror}"
            ) from None
        self.remote.prepare()

    def path(self, cell: Cell) -> Path:
        """Where the cell is stored, or would be."""
        short = cell.key[:SHORT]
        # File systems allow 255 bytes a name; the key is what tells cells apart.
        usual = self.cells / f"{cell.id[:150]}-{short}.json"
        name = self._known().get(short)
        return usual if name is None else self.cells / name

    def _known(self) -> dict[str, str]:
        """Short key → file name, listed anew whenever the folder may have changed."""
        try:
            changed = self.cells.stat().st_mtime_ns
        except OSError:
            return {}
        if self._listed != changed:
            found = sorted(self.cells.glob(f"*-{'?' * SHORT}.json"), reverse=True)
            self._names = {path.stem[-SHORT:]: path.name for path in found}
            # Within a clock tick of a change there may be another that does not show.
            self._listed = changed if _settled(changed) else None
        return self._names

    def get(self, cell: Cell) -> Measurement | None:
        """Return the stored measurement of ``cell``, or None.

        A file that cannot be trusted is reported with a warning, moved to ``damaged/`` and
        treated as absent. What is absent here is asked for elsewhere.
        """
        path = self.path(cell)
        try:
            return self._unchanged(path, cell)
        except FileNotFoundError:
            pass
        except DamagedFileError as error:
            self._set_aside(path, str(error))
        found = self.remote.fetch(self.path(cell), lambda text: _decode(cell, text))
        return None if found is None else read_measurement(found, cell)

    def _unchanged(self, path: Path, cell: Cell) -> Measurement:
        """What the file says, read once as long as nobody changes it.

        Raises:
            FileNotFoundError, StoreError, DamagedFileError: as :func:`read_measurement`.
        """
        try:
            now = path.stat()
        except OSError:
            return read_measurement(path, cell)
        state = now.st_mtime_ns, now.st_size, now.st_ino
        if path in self._read and self._read[path][0] == state:
            known = self._read[path][1]
            return known if known.cell == cell else replace(known, cell=cell)
        found = read_measurement(path, cell)
        if _settled(now.st_mtime_ns):
            self._read[path] = state, found
        return found

    def put(self, measurement: Measurement) -> Path:
        """Write a measurement atomically and return its file.

        Raises:
            StoreError: it cannot be written.
        """
        path = self.path(measurement.cell)
        write_atomically(path, _encode(measurement))
        self.remote.send(path)
        return path

    def read(self, name: str, decode: Callable[[str], T]) -> T | None:
        """What a small file that is named by its key says, such as ``exams/KEY.json``.

        Args:
            name: within the results directory.
            decode: raises ValueError, KeyError or TypeError where a text is not what it should be.

        Returns:
            None where there is none, here or elsewhere, or it is damaged.
        """
        path = self.folder / name
        try:
            return decode(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError):
            found = self.remote.fetch(path, decode)
        return None if found is None else decode(found.read_text(encoding="utf-8"))

    def write(self, name: str, text: str) -> None:
        """Write a small file that :meth:`read` finds.

        Raises:
            StoreError: it cannot be written.
        """
        write_atomically(self.folder / name, text)
        self.remote.send(self.folder / name)

    def _set_aside(self, path: Path, reason: str) -> None:
        target = self.folder / "damaged" / path.name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        except OSError as error:
            raise StoreError(f"{path}: damaged ({reason}), and cannot be moved: {error}") from None
        warnings.warn(
            DamagedFileWarning(
                f"{path.name} is damaged ({reason}); it was moved to {target.parent} and the cell "
                f"is computed again"
            ),
            stacklevel=3,
        )


def _settled(changed: int) -> bool:
    """Whether a change after this one, in nanoseconds, would show in its time."""
    return time.time_ns() - changed > TICK


class DamagedFileError(Exception):
    """A stored file is not what was written; the text says how one can tell."""


def read_measurement(path: Path, cell: Cell | None = None) -> Measurement:
    """Read one stored file, changing nothing.

    Args:
        path: the file.
        cell: what it should hold, under the names it has in this run; by default, what it says.

    Raises:
        FileNotFoundError: it is not there.
        StoreError: it cannot be read.
        DamagedFileError: it is not what was written.
    """
    try:
        return _decode(cell, path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedFileError(str(error) or type(error).__name__) from None


def _encode(measurement: Measurement) -> str:
    training = measurement.training
    body: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "key": measurement.cell.key,
        "cell": asdict(measurement.cell),
        "scores": [likelihood_to_json(seen) for seen in measurement.likelihoods],
        "answers": [answer_to_json(seen) for seen in measurement.answers],
        "ratings": [asdict(seen) for seen in measurement.ratings],
        "preferences": [asdict(seen) for seen in measurement.preferences],
        "seconds": measurement.seconds,
        "peak_memory_bytes": measurement.peak_memory_bytes,
        "training": None if training is None else training_to_json(training),
        "scoring": scoring_to_json(measurement.scoring),
        "writing": None if measurement.writing is None else asdict(measurement.writing),
        "skeletons": measurement.skeletons,
        "warnings": measurement.warnings,
        "provenance": asdict(measurement.provenance),
    }
    body = json.loads(json.dumps(body))  # tuples become lists, as they will be read
    body["checksum"] = digest(body)
    return json.dumps(body, ensure_ascii=False, indent=1) + "\n"


def _decode(cell: Cell | None, text: str) -> Measurement:
    body = json.loads(text)
    if not isinstance(body, dict):
        raise TypeError("not a JSON object")
    checksum = body.pop("checksum", None)
    if checksum != digest(body):
        raise ValueError("its checksum does not match")
    if body["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"schema version {body['schema_version']}, expected {SCHEMA_VERSION}")
    cell = cell or cell_from_json(body["cell"])
    if body["key"] != cell.key:
        raise ValueError("it holds another cell")
    training = body["training"]
    kinds = ("scores", "answers", "ratings")
    _share([row for kind in kinds for row in body[kind]])
    return Measurement(
        cell=cell,
        observations=(
            *map(likelihood_from_json, body["scores"]),
            *map(answer_from_json, body["answers"]),
            *map(rating_from_json, body["ratings"]),
            *map(preference_from_json, body.get("preferences", ())),  # which older files lack
        ),
        seconds=body["seconds"],
        provenance=provenance_from_json(body["provenance"]),
        training=None if training is None else training_from_json(training),
        peak_memory_bytes=body["peak_memory_bytes"],
        scoring=scoring_from_json(body["scoring"]),
        writing=writing_from_json(body["writing"]),
        skeletons=body["skeletons"],
        warnings=tuple(body.get("warnings", ())),  # which older files lack
    )


def _share(rows: Sequence[JsonObject]) -> None:
    """Keep ids once, and once the demonstrations that many rows were shown."""
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    for row in rows:
        row["id"] = sys.intern(row["id"])
        shown = tuple(row["demo_ids"])
        row["demo_ids"] = known.get(shown) or known.setdefault(shown, tuple(map(sys.intern, shown)))


def cell_from_json(body: Mapping[str, Any]) -> Cell:
    """A cell from the JSON of its fields.

    Raises:
        TypeError, KeyError, ValueError: they are not a cell's.
    """
    return Cell(
        **{
            **body,
            "model": ModelSpec(**body["model"]),
            "decoding": _decoding(body["decoding"]),
            "judge": _judge(body["judge"]),
            "libraries": tuple((str(name), str(version)) for name, version in body["libraries"]),
        }
    )


def _decoding(body: Mapping[str, Any] | None) -> DecodingSpec | None:
    return None if body is None else DecodingSpec(**{**body, "stop": tuple(body["stop"])})


def _judge(body: Mapping[str, Any] | None) -> JudgeSpec | None:
    if body is None:
        return None
    limits = tuple(body.get("limits", (0.0, 1.0)))  # which older files lack
    return JudgeSpec(**{**body, "model": ModelSpec(**body["model"]), "limits": limits})
