"""A trained adapter as bytes, so that it can travel without a shared disk."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

from harness.errors import StoreError
from harness.files import publish_folder, temporary
from harness.results.adapter_files import is_complete


def pack(folder: Path) -> bytes:
    """The files of a complete adapter, its record with the SHA-256 of its weights among them."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.add(path, path.relative_to(folder).as_posix(), recursive=False)
    return content.getvalue()


def unpack(parcel: bytes, folder: Path) -> None:
    """Put an adapter into ``folder``, whole or not at all, unless one is there already.

    Raises:
        StoreError: it is not what was trained, or cannot be written.
    """
    if is_complete(folder):
        return
    draft = temporary(folder)
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        with tarfile.open(fileobj=io.BytesIO(parcel)) as archive:
            for member in archive:
                _write(archive, member, draft)
        if not is_complete(draft):
            raise StoreError(f"{folder}: the adapter that arrived is not what was trained")
        publish_folder(draft, folder)
    except tarfile.TarError as error:
        raise StoreError(f"{folder}: the adapter that arrived is damaged: {error}") from None
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, draft: Path) -> None:
    """Write one file; nothing else is packed, and nothing outside of the folder is written."""
    path = Path(member.name)
    file = archive.extractfile(member) if member.isreg() else None
    if file is None or path.is_absolute() or ".." in path.parts:
        raise StoreError(f"{draft}: the adapter that arrived holds {member.name!r}")
    (draft / path).parent.mkdir(parents=True, exist_ok=True)
    (draft / path).write_bytes(file.read())
