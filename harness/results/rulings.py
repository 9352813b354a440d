"""What judges said, question by question: a log that a killed run goes on from.

One file for each judge and what it is asked by, ``rulings/<judge>.jsonl``, a line for each verdict.
A line is added as soon as its verdict is known, in one write, so that several processes may add to
one file and a killed one spoils its last line at most. Each line carries a checksum; one that does
not fit is left out, and its question is asked again. An answer without a verdict is not kept.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from harness.core import digest
from harness.errors import StoreError
from harness.records import Ruling
from harness.results.json_records import ruling_from_json

FOLDER = "rulings"
SHORT = 12  # hexadecimal digits of a line's checksum


class Rulings:
    """The verdicts of one judge.

    Args:
        folder: the results directory.
        judge: what tells this judge, its settings and its rubric from others.
    """

    def __init__(self, folder: Path, judge: str) -> None:
        self.path = folder / FOLDER / f"{judge}.jsonl"
        self._known: dict[str, Ruling] = {}
        self._read_bytes = 0

    def get(self, question: str) -> Ruling | None:
        """What was said to a question of this digest; None if it was not asked yet."""
        if question not in self._known:
            self._read_on()  # what another process may have added
        return self._known.get(question)

    def add(self, question: str, ruling: Ruling) -> None:
        """Keep a verdict.

        Raises:
            StoreError: it cannot be written.
        """
        body = json.loads(json.dumps({"question": question, "ruling": asdict(ruling)}))
        body["checksum"] = digest(body)[:SHORT]
        line = json.dumps(body, ensure_ascii=True) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # A line that a killed process left without its end would swallow this one.
            start = b"" if self._ended() else b"\n"
            with self.path.open("ab", buffering=0) as file:
                file.write(start + line.encode())
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be written: {error.strerror}") from None
        self._known[question] = ruling

    def _ended(self) -> bool:
        try:
            with self.path.open("rb") as file:
                file.seek(-1, os.SEEK_END)
                return file.read(1) == b"\n"
        except OSError:  # there is no file yet, or nothing in it
            return True

    def _read_on(self) -> None:
        """Read the whole lines that were added since the last time."""
        try:
            if self.path.stat().st_size <= self._read_bytes:
                return
            with self.path.open("rb") as file:
                file.seek(self._read_bytes)
                text = file.read()
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be read: {error.strerror}") from None
        # A last line without an end is being written, or its writer was killed.
        self._read_bytes += text.rfind(b"\n") + 1
        for line in text.splitlines():
            try:
                body = json.loads(line)
                if body.pop("checksum") == digest(body)[:SHORT]:
                    self._known[body["question"]] = ruling_from_json(body["ruling"])
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # what a killed process left
