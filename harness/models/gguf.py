"""A GGUF file as a model: expanded once into float32 safetensors, and kept in the user's cache.

Its weights are those of the file, decoded: a quantized GGUF is scored as what its codes stand
for. What transformers' own reader cannot map onto a model is refused, not left out.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness.errors import ModelError
from harness.files import CACHE_VARIABLE, cache_dir, sweep, temporary
from harness.models.embedded import CONVERSION, convert_apart, finish, is_complete, locked, say
from harness.models.fingerprint import file_digest
from harness.naming import slug

MAGIC = b"GGUF"


@dataclass(frozen=True)
class GgufFile:
    """A GGUF file and where its expansion lies."""

    path: Path

    @property
    def digest(self) -> str:
        """Stands for the model's bytes: the file's hash and how it is expanded.

        Raises:
            ModelError: the file cannot be read.
        """
        return f"gguf-{file_digest(self.path)}-conversion-{CONVERSION}"

    @property
    def folder(self) -> Path:
        sha = file_digest(self.path)
        return cache_dir() / "models" / f"{slug(self.path.stem)[:60]}-{sha[:12]}-{CONVERSION}"

    def fetch(self, terminal: IO[str] | None = None) -> Path:
        """Return the folder of its expansion, making it if it is not there.

        Raises:
            ModelError: the file cannot be converted, or the cache not be written.
        """
        folder = self.folder
        if is_complete(folder):
            return folder
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with locked(folder, terminal):
                if not is_complete(folder):  # else another process was faster
                    self._convert(folder, terminal)
        except OSError as error:
            raise ModelError(
                f"--model={self.path}: cannot be expanded in {folder.parent}: "
                f"{error.strerror or error}; {CACHE_VARIABLE} names another cache directory"
            ) from None
        return folder

    def _convert(self, folder: Path, terminal: IO[str] | None) -> None:
        sweep(folder.parent)
        draft = temporary(folder)
        shutil.rmtree(draft, ignore_errors=True)  # of an earlier process with our number
        draft.mkdir()
        try:
            say(terminal, f"Converting {self.path.name} (once)")
            convert_apart(self.path.resolve(), draft, terminal)
            finish(self.path.stem, self.digest, draft, folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def check_gguf(path: Path) -> None:
    """See that a file is GGUF, and whole in itself rather than one of several parts.

    Raises:
        ModelError: it is not.
    """
    where = f"--model={path}"
    try:
        with path.open("rb") as file:
            head = file.read(32)
    except OSError as error:
        raise ModelError(f"{where}: cannot be read: {error.strerror}") from None
    if head.startswith(b"version https://git-lfs"):
        raise ModelError(
            f"{where}: is a git-lfs pointer, not the file; install git-lfs and run git lfs pull"
        )
    if not head.startswith(MAGIC):
        raise ModelError(f"{where}: is no GGUF file (it begins with {head[:4]!r})")
    if "-of-" in path.stem and path.stem.rpartition("-of-")[2].isdigit():
        raise ModelError(
            f"{where}: is one part of several; put them together with llama.cpp's "
            f"llama-gguf-split --merge, and name the result"
        )
