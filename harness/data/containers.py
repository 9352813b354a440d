"""What a file is, by its first bytes: text, or a table in Parquet; gzip around either.

Text is UTF-8, with or without a byte order mark, or UTF-16 or UTF-32 with one. Everything else
that can be recognized is refused by its name.
"""

from __future__ import annotations

import codecs
import gzip
import io
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import DataError, suggest

_GZIP, _ZIP, _PARQUET = b"\x1f\x8b", b"PK\x03\x04", b"PAR1"
_MARKS = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8 with byte order mark"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
_SAVE = "save its rows as JSON lines, CSV or Parquet"
_UNPACK = "unpack it first; gzip is read as it is"
_REFUSED = (
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file", "save the sheet as CSV UTF-8"),
    (b"BZh", "compressed with bzip2", _UNPACK),
    (b"\xfd7zXZ\x00", "compressed with xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"PARE", "encrypted Parquet", _SAVE),
    (b"ARROW1", "an Arrow (Feather) file", _SAVE),
    (b"\xff\xff\xff\xff", "an Arrow stream, as datasets caches it", _SAVE),
    (b"ORC", "an ORC file", _SAVE),
    (b"Obj\x01", "an Avro file", _SAVE),
    (b"\x89HDF", "an HDF5 file", _SAVE),
    (b"\x93NUMPY", "a NumPy array", _SAVE),
    (b"SQLite format 3\0", "a SQLite database", _SAVE),
    (b"%PDF", "a PDF", _SAVE),
    (b"GGUF", "a model (GGUF)", "name it with --model"),
    *(
        (b"\x80" + bytes([version]), "pickled Python objects", f"never loaded; {_SAVE}")
        for version in (2, 3, 4, 5)
    ),
)
_MEMBERS = (  # in a zip archive
    ("xl/workbook", "an Excel workbook", "save the sheet as CSV UTF-8"),
    ("word/", "a Word document", _SAVE),
    ("content.xml", "an OpenDocument file", "save the sheet as CSV in UTF-8"),
    (".npy", "NumPy arrays", _SAVE),
    ("data.pkl", "pickled PyTorch objects", f"never loaded; {_SAVE}"),
)
_PAGES = ("<!doctype", "<html", "<?xml")
_LFS = "version https://git-lfs.github.com"


@dataclass(frozen=True)
class Content:
    """What stands in a file.

    Attributes:
        words: what the file is, as far as its bytes say: ("gzip", "UTF-16").
        suffix: of the name, in small letters, without that of gzip.
        text: None where it is Parquet.
        raw: the bytes, unpacked.
    """

    words: tuple[str, ...]
    suffix: str
    text: str | None
    raw: bytes


def open_file(path: Path) -> Content:
    """Return what stands in a file.

    Raises:
        DataError: it cannot be read, or is not text or Parquet; one line says what it is.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        beside = path.parent.iterdir() if path.parent.is_dir() else ()
        near = suggest(path.name, (one.name for one in beside if one.is_file()))
        raise DataError(f"{path}: no such file{near}") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder; name a file of rows in it") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    return _content(path, raw, path.name.lower())


def _content(path: Path, raw: bytes, name: str) -> Content:
    if raw.startswith(_GZIP):
        inner = _content(path, _gunzip(path, raw), name.removesuffix(".gz"))
        return replace(inner, words=("gzip", *inner.words))
    if raw.startswith(_PARQUET):
        return Content((), Path(name).suffix, None, raw)
    _check_named(path, raw)
    text, words = _decoded(path, raw)
    start = text[:200].lstrip().lower()
    if not start:
        raise DataError(f"{path}: the file is empty; expected rows")
    if start.startswith(_PAGES):
        raise DataError(f"{path}: this is a web page or XML, not rows; was the download refused?")
    if start.startswith(_LFS):
        raise DataError(
            f"{path}: this is a pointer of git-lfs, not the file; fetch it with git lfs pull"
        )
    return Content(words, Path(name).suffix, text, raw)


def _gunzip(path: Path, raw: bytes) -> bytes:
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip: {error}") from None


def _check_named(path: Path, raw: bytes) -> None:
    """Refuse what is neither text nor Parquet, by its name."""
    what, todo = "", ""
    if raw.startswith(_ZIP):
        what, todo = _in_zip(raw)
    for magic, known, advice in _REFUSED:
        if raw.startswith(magic):
            what, todo = known, advice
            break
    if raw[257:262] == b"ustar":
        what, todo = "a tar archive", _UNPACK
    if what:
        raise DataError(f"{path}: this is {what}, which is not read; {todo}")


def _in_zip(raw: bytes) -> tuple[str, str]:
    try:
        members = zipfile.ZipFile(io.BytesIO(raw)).namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return "a damaged zip archive", _UNPACK
    for part, what, todo in _MEMBERS:
        if any(part in member for member in members):
            return what, todo
    held = ", ".join(members[:3]) + (", …" if len(members) > 3 else "")
    return f"a zip archive (of {held:.120})", _UNPACK


def _decoded(path: Path, raw: bytes) -> tuple[str, tuple[str, ...]]:
    for mark, codec, word in _MARKS:
        if raw.startswith(mark):
            try:
                return raw.decode(codec), (word,)
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}: starts with the byte order mark of {word.partition(' ')[0]}, but "
                    f"byte {error.start + 1} does not belong there; save it as UTF-8"
                ) from None
    if b"\0" in raw[:4]:
        raise DataError(
            f"{path}: not UTF-8; it looks like UTF-16 without a byte order mark: save it as UTF-8"
        )
    try:
        return raw.decode("utf-8"), ()
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}, line {line}: not UTF-8 (byte 0x{raw[error.start]:02x}){_other(raw)}"
        ) from None


def _other(raw: bytes) -> str:
    """Which encodings of Chinese the bytes may be; it takes a person to say which."""
    names = []
    for name in ("GB18030", "Big5"):
        try:
            raw.decode(name)
        except UnicodeDecodeError:
            continue
        names.append(name)
    if not names:
        return ""
    return f"; it may be {' or '.join(names)}: iconv -f {names[0]} -t UTF-8 makes it UTF-8"
