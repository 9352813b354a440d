"""From what ``--model`` says to bytes: an embedded model, a folder, a GGUF file or a hub id."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from harness.errors import ModelError, OptionError, one_line, suggest
from harness.files import sha256
from harness.models.checkpoint import (
    check_checkpoint,
    model_files,
    stored_double_quant,
    stored_quantization,
)
from harness.models.embedded import EMBEDDED, fetch
from harness.models.fingerprint import folder_digest
from harness.models.gguf import GgufFile, check_gguf

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
HUB_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")


@dataclass(frozen=True)
class Source:
    """Where a model comes from. ``kind`` is ``embedded``, ``folder``, ``gguf`` or ``hub``.

    Or ``given``: a file of answers, which stand in for a model that is not here.
    """

    kind: str
    reference: str
    revision: str | None = None

    @property
    def name(self) -> str:
        """A short name for tables and ids."""
        if self.kind in ("gguf", "given"):
            return Path(self.reference).stem
        return Path(self.reference).resolve().name if self.kind == "folder" else self.reference

    @property
    def stored_quantization(self) -> str:
        """How a folder's weights are stored: ``none``, ``nf4``, ``fp4`` or ``fp8``.

        ``none`` of other kinds: nothing is asked of a hub before it has to be.
        """
        if self.kind != "folder":
            return "none"
        return stored_quantization(f"--model={self.reference}", Path(self.reference))

    @property
    def stored_double_quant(self) -> bool:
        """Whether the scales of weights stored in 4 bits are quantized too."""
        return stored_double_quant(f"--model={self.reference}", Path(self.reference))

    @property
    def digest(self) -> str:
        """Stands for the model's bytes.

        Raises:
            ModelError: the folder cannot be read, or the hub cannot be asked.
        """
        if self.kind == "embedded":
            return EMBEDDED[self.reference].digest
        if self.kind == "folder":
            return folder_digest(Path(self.reference))
        if self.kind == "gguf":
            return GgufFile(Path(self.reference)).digest
        if self.kind == "given":
            return sha256(Path(self.reference))
        # A commit of a hub repository never changes its bytes.
        return f"hub-{self.reference}-{_commit(self.reference, self.revision)}"

    def folder(self, terminal: IO[str] | None = None) -> Path:
        """Return the folder with the model's files, fetching them first where needed.

        Raises:
            ModelError: one line saying why they cannot be had.
        """
        if self.kind == "embedded":
            return fetch(EMBEDDED[self.reference], terminal)
        if self.kind == "folder":
            return Path(self.reference)
        if self.kind == "gguf":
            return GgufFile(Path(self.reference)).fetch(terminal)
        # The commit that the digest names, even if the branch has moved on since.
        commit = _commit(self.reference, self.revision)
        folder = _snapshot(self.reference, commit, HUB_FILES)
        where = f"--model={self.reference}"
        if not any(folder.glob("*.safetensors")):
            raise ModelError(
                f"{where}: no *.safetensors in {folder}; either the download is "
                f"incomplete (connect, and start again), or the repository has pickled weights "
                f"or GGUF files only, which are not loaded from a hub"
            )
        check_checkpoint(where, folder)
        return folder


def parse_source(text: str) -> Source:
    """Understand one entry of ``--model`` without touching the network.

    Raises:
        OptionError: a folder or a file that is not there, or a malformed id.
        ModelError: what is there cannot be scored.
    """
    path = Path(text).expanduser()
    if path.is_dir():
        _check_folder(text, path)
        return Source("folder", str(path))
    if path.suffix.lower() == ".gguf" and path.is_file():
        check_gguf(path)
        return Source("gguf", str(path))
    if path.suffix.lower() == ".gguf":
        raise OptionError(f"--model={text}: no such file")
    if path.is_file():
        raise OptionError(
            f"--model={text}: is a file, and no GGUF file; name the folder of a model saved with "
            f"save_pretrained"
        )
    name, _, revision = text.partition("@")
    if name in EMBEDDED:
        if revision:
            raise OptionError(f"--model={text}: the embedded model has no revisions; use {name}")
        return Source("embedded", name)
    if Path(name).expanduser().is_dir():
        raise OptionError(f"--model={text}: a local folder has no revisions; use {name}")
    looks_local = text.startswith((".", "/", "~")) or text.count("/") > 1
    if looks_local or not _HUB_ID.match(name) or text.endswith("@"):
        raise OptionError(
            f"--model={text}: no such folder, and not a hub id (owner/name, optionally "
            f"@revision){suggest(name, EMBEDDED)}"
        )
    if "/" not in name and suggest(name, EMBEDDED):
        raise OptionError(f"--model={text}: no such model{suggest(name, EMBEDDED)}")
    return Source("hub", name, revision or None)


def _check_folder(text: str, path: Path) -> None:
    if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
        raise OptionError(
            f"--model={text}: this is an adapter; name its base with --model and "
            f"the adapter with --adapter"
        )
    gguf = sorted(path.glob("*.gguf"))
    if gguf and not model_files(path):
        raise OptionError(
            f"--model={text}: the folder has GGUF files only; name one: --model={gguf[0]}"
        )
    if not (path / "config.json").is_file():
        raise OptionError(
            f"--model={text}: the folder has no config.json; expected a model "
            f"saved with save_pretrained"
        )
    check_checkpoint(f"--model={text}", path)


@cache
def _commit(repository: str, revision: str | None) -> str:
    return _snapshot(repository, revision, ("config.json",)).name


def _snapshot(repository: str, revision: str | None, files: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = f"--model={repository}" + (f"@{revision}" if revision else "")
    try:
        folder = snapshot_download(repository, revision=revision, allow_patterns=list(files))
    except GatedRepoError:
        raise ModelError(
            f"{where}: the hub asks for permission; accept the model's terms there and log in "
            f"(hf auth login)"
        ) from None
    except RevisionNotFoundError:
        raise ModelError(f"{where}: the hub has no such revision") from None
    except RepositoryNotFoundError:
        raise ModelError(f"{where}: the hub has no such repository, or it is private") from None
    except Exception as error:  # the hub client lets its HTTP library's errors through
        raise ModelError(
            f"{where}: not in the local cache, and the hub cannot be reached "
            f"({one_line(error, 120)}); connect, or name a local folder"
        ) from None
    return Path(folder)
