"""Files that are either complete or not there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import socket
from pathlib import Path

from harness.errors import StoreError

CACHE_VARIABLE = "ADAPTBENCH_CACHE"
KEPT = 500  # files of a kind in the user's cache
_ORPHAN = re.compile(r"^\.(?P<name>.+)\.(?P<host>[^.]*)\.(?P<pid>\d+)\.tmp$")


def cache_dir() -> Path:
    """``$ADAPTBENCH_CACHE``, or ``adaptbench`` in ``$XDG_CACHE_HOME`` or ~/.cache."""
    own = os.environ.get(CACHE_VARIABLE)
    if own:
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "adaptbench"


def temporary(path: Path) -> Path:
    """A sibling of ``path`` to write into first; its name says which process it belongs to."""
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())
    return path.with_name(f".{path.name}.{host}.{os.getpid()}.tmp")


def write_atomically(path: Path, text: str) -> None:
    """Write ``text`` (UTF-8) so that a reader sees the old file or the new one, never a part.

    Raises:
        StoreError: the file cannot be written; nothing half-written stays.
    """
    draft = temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # where a file stands in place of a folder
            draft.unlink(missing_ok=True)
        raise StoreError(f"{path}: cannot be written: {error.strerror or error}") from None
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def kept(kind: str, name: str) -> str | None:
    """A text that :func:`keep` wrote into the user's cache, unless it is gone or damaged."""
    try:
        checksum, _, text = (cache_dir() / kind / name).read_bytes().decode("utf-8").partition("\n")
    except (OSError, ValueError):
        return None
    return text if checksum == hashlib.sha256(text.encode("utf-8")).hexdigest() else None


def keep(kind: str, name: str, text: str) -> None:
    """Keep in the user's cache what can be made again; where that cannot be written, nothing.

    Args:
        kind: a folder; of its files the :data:`KEPT` newest stay.
        name: a digest of everything that determines the text.
        text: what to keep.
    """
    folder = cache_dir() / kind
    with contextlib.suppress(OSError, StoreError):
        checksum = hashlib.sha256(text.encode("utf-8")).hexdigest()
        write_atomically(folder / name, f"{checksum}\n{text}")
        sweep(folder)
        for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)[:-KEPT]:
            path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes, read in blocks."""
    value = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            value.update(block)
    return value.hexdigest()


def publish_folder(draft: Path, path: Path) -> None:
    """Move a finished folder into place in one step, its files on disk first."""
    for file in draft.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
    if path.exists():  # incomplete or damaged, or the caller would have used it
        shutil.rmtree(path)
    draft.replace(path)


def sweep(folder: Path) -> None:
    """Remove temporary files and folders left by processes of this machine that are gone."""
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())
    for path in folder.glob(".*.tmp"):
        match = _ORPHAN.match(path.name)
        if match is None or match["host"] != host or _alive(int(match["pid"])):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
