"""From what ``--model`` says to bytes: an embedded model, a local folder or a hub id."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from harness.errors import ModelError, OptionError, one_line, suggest
from harness.models.embedded import EMBEDDED, fetch
from harness.models.fingerprint import folder_digest

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
HUB_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")


@dataclass(frozen=True)
class Source:
    """Where a model comes from. ``kind`` is ``embedded``, ``folder`` or ``hub``."""

    kind: str
    reference: str
    revision: str | None = None

    @property
    def name(self) -> str:
        """A short name for tables and ids."""
        return Path(self.reference).resolve().name if self.kind == "folder" else self.reference

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
        # The commit that the digest names, even if the branch has moved on since.
        commit = _commit(self.reference, self.revision)
        folder = _snapshot(self.reference, commit, HUB_FILES)
        if not any(folder.glob("*.safetensors")):
            raise ModelError(
                f"--model={self.reference}: no *.safetensors in {folder}; either the download is "
                f"incomplete (connect, and start again), or the repository has pickled weights "
                f"only, which are not loaded"
            )
        return folder


def parse_source(text: str) -> Source:
    """Understand one entry of ``--model`` without touching the network.

    Raises:
        OptionError: a folder that is not there or holds no model, or a malformed id.
    """
    path = Path(text).expanduser()
    if path.is_dir():
        _check_folder(text, path)
        return Source("folder", str(path))
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
    if not (path / "config.json").is_file():
        raise OptionError(
            f"--model={text}: the folder has no config.json; expected a model "
            f"saved with save_pretrained"
        )
    if not any(path.glob("*.safetensors")):
        raise OptionError(
            f"--model={text}: the folder has no *.safetensors; pickled weights are "
            f"not loaded, save the model again with save_pretrained"
        )


def check_adapter(path: Path) -> None:
    """Check that ``path`` is the folder of a saved PEFT adapter.

    Raises:
        OptionError: it is not there, or a file is missing or damaged.
    """
    if not path.is_dir():
        raise OptionError(f"--adapter={path}: no such folder")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (path / name).is_file():
            raise OptionError(
                f"--adapter={path}: the folder has no {name}; expected an adapter "
                f"saved with PEFT's save_pretrained"
            )
    try:
        json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
    except ValueError:
        raise OptionError(f"--adapter={path}: adapter_config.json is not valid JSON") from None


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
