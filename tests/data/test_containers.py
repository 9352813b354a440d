"""Containers: what a file is, is told by its bytes; what is not read is called by its name."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy
import pandas
import pytest

from harness.core import Example
from harness.data.rows import inspect_rows, load_rows
from harness.errors import DataError

ROW = '{"id": "a", "instruction": "問", "output": "答"}'
EXPECTED = Example("a", "問", "答")
TSV = "id\tinstruction\toutput\na\t問\t答\n"

READ = {
    "one line of JSON named .json": ("a.json", ROW.encode(), "JSON lines"),
    "an array named .jsonl": ("a.jsonl", f"[\n{ROW}\n]".encode(), "JSON array"),
    "objects over several lines": ("a.json", b'{"id": "a",\n"instruction": "\xe5\x95\x8f",\n"output": "\xe7\xad\x94"}', "JSON lines"),
    "JSON lines named .csv": ("a.csv", ROW.encode(), "JSON lines"),
    "UTF-8 with mark": ("a.csv", b"\xef\xbb\xbf" + TSV.replace("\t", ",").encode(), "CSV (comma), UTF-8 with byte order mark"),
    "JSON with mark": ("a.json", f"\ufeff[{ROW}]".encode(), "JSON array, UTF-8 with byte order mark"),
    "joined files with marks": ("a.jsonl", f"\ufeff\r\n\ufeff{ROW}\r\n".encode(), "JSON lines, UTF-8 with byte order mark"),
    # Excel's "Unicode text" is UTF-16 with tabs.
    "UTF-16 with tabs": ("a.csv", TSV.encode("utf-16"), "CSV (tab), UTF-16"),
    "UTF-32": ("a.txt", TSV.encode("utf-32"), "CSV (tab), UTF-32"),
    "semicolons": ("a.csv", TSV.replace("\t", ";").encode(), "CSV (semicolon)"),
    "Excel's sep": ("a.csv", ("sep=;\r\n" + TSV.replace("\t", ";") + ";;\r\n").encode(), "CSV (semicolon)"),
    "tabs": ("a.tsv", TSV.encode(), "CSV (tab)"),
    "gzip": ("a.json.gz", gzip.compress(f"[{ROW}]".encode()), "JSON array, gzip"),
    "gzip without a suffix": ("a", gzip.compress(TSV.encode()), "CSV (tab), gzip"),
    "carriage returns alone": ("a.jsonl", f"{ROW}\r\r".encode(), "JSON lines"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "raw", "container"), READ.values(), ids=READ.keys())
def test_the_same_row_in_every_container(
    tmp_path: Path, name: str, raw: bytes, container: str
) -> None:
    (tmp_path / name).write_bytes(raw)
    found = inspect_rows(tmp_path / name)
    assert (found.examples, found.container) == ((EXPECTED,), container)
    assert found.warnings == ()


def zipped(member: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(member, "x")
    return stream.getvalue()


REFUSED = {
    "xlsx": (zipped("xl/workbook.xml"), "this is an Excel workbook, which is not read; save the sheet as CSV UTF-8"),
    "zip": (zipped("rows.json"), "this is a zip archive (of rows.json), which is not read; unpack"),
    "npz": (zipped("a.npy"), "this is NumPy arrays"),
    "pickle": (pickle.dumps([1]), "this is pickled Python objects, which is not read; never loaded"),
    "bzip2": (b"BZh9" + b"\0" * 20, "this is compressed with bzip2, which is not read; unpack it"),
    "xls": (b"\xd0\xcf\x11\xe0" + b"\0" * 20, "this is an old Excel or Word file"),
    "arrow": (b"ARROW1\0\0", "this is an Arrow (Feather) file"),
    "sqlite": (b"SQLite format 3\0", "this is a SQLite database"),
    "a web page": (b"<!DOCTYPE html><html>", "this is a web page or XML, not rows"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a pointer of git-lfs, not the file"),
    "damaged gzip": (gzip.compress(ROW.encode() * 9)[:-9], "damaged gzip"),
    "zip in gzip": (gzip.compress(zipped("a.txt")), "this is a zip archive"),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_read_is_called_by_its_name(tmp_path: Path, raw: bytes, says: str) -> None:
    file = tmp_path / "rows.json"
    file.write_bytes(raw)
    with pytest.raises(DataError) as caught:
        load_rows(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


class TestParquet:
    """pandas reads it; the table stands in for the engine, which is not a dependency."""

    @pytest.fixture
    def table(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[[pandas.DataFrame], Path]:
        def write(frame: pandas.DataFrame) -> Path:
            monkeypatch.setattr(pandas, "read_parquet", lambda source: frame)
            file = tmp_path / "rows.parquet"
            file.write_bytes(b"PAR1 and more")
            return file

        return write

    def test_missing_cells_are_absent(self, table: Callable[[pandas.DataFrame], Path]) -> None:
        frame = pandas.DataFrame(
            {
                "instruction": ["問", "問"],
                "input": [numpy.nan, "文"],
                "output": ["答", None],
                "score": [1.5, numpy.nan],
            },
            index=pandas.Index(["a", "b"], name="id"),
        )
        found = inspect_rows(table(frame))
        assert found.examples == (Example("a", "問", "答", score=1.5),)
        assert [fault.line for fault in found.faults] == [
            "row 2 (id 'b'), field 'output': absent (null)"
        ]

    def test_arrays_of_turns_are_lists(self, table: Callable[[pandas.DataFrame], Path]) -> None:
        turns = numpy.array(
            [
                {"role": "user", "content": "問", "name": None},
                {"role": "assistant", "content": "答"},
            ]
        )
        frame = pandas.DataFrame({"id": numpy.array([7]), "messages": [turns]})
        assert load_rows(table(frame)) == [Example("7", "問", "答")]

    def test_a_written_file(self, tmp_path: Path) -> None:
        pytest.importorskip("pyarrow")
        rows = [
            {
                "id": "a",
                "messages": [
                    {"role": "user", "content": "問"},
                    {"role": "assistant", "content": "答"},
                ],
            }
        ]
        pandas.DataFrame(rows).to_parquet(tmp_path / "a.parquet")
        assert load_rows(tmp_path / "a.parquet") == [EXPECTED]

    def test_without_an_engine_one_line_says_what_to_do(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        monkeypatch.setitem(sys.modules, "fastparquet", None)
        (tmp_path / "a.parquet").write_bytes(b"PAR1")
        with pytest.raises(DataError, match="this is Parquet, which needs pyarrow: pip install py"):
            load_rows(tmp_path / "a.parquet")


def test_a_mark_inside_a_text_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps([{"instruction": "\ufeff問", "output": "答"}]), encoding="utf-8")
    (line,) = inspect_rows(file).warnings
    assert "1 of 1 rows have a byte order mark (U+FEFF) in their text" in line
