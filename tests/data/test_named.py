"""Tasks that a plugin makes: checked as files are, and one line for every mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.data.named import load_named_task
from harness.data.task import load_task
from harness.errors import DataError
from tests.builders.tasks import Files

RHYMES = """
import json
from harness.core import Example, TaskSource

def rows(name):
    return [
        Example(row["id"], row["instruction"], row["output"])
        for row in json.loads(open(f"data/{name}.json", encoding="utf-8").read())
    ]

class Rhymes(TaskSource):
    name = "rhymes"

    def test(self):
        return rows("test")

    def train(self):
        return rows("train")
"""


@pytest.fixture
def folder(files: Files, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own ``tasks/`` in a working directory, whose task has the rows of ``files``."""
    here = files.test.parent.parent
    monkeypatch.chdir(here)
    (here / "tasks").mkdir()
    (here / "tasks" / "rhymes.py").write_text(RHYMES)
    return here / "tasks"


def test_a_task_of_a_plugin_has_the_digests_of_the_same_rows_in_files(
    folder: Path, files: Files
) -> None:
    named, read = load_named_task("rhymes"), load_task(files.test, files.train)
    assert (named.digest, named.pool_digest) == (read.digest, read.pool_digest)
    assert (named.name, len(named.examples), len(named.pool)) == ("rhymes", 5, 12)
    assert named.source == "test() of task 'rhymes'"
    assert [row.id for row in load_named_task("rhymes", limit=2).examples] == [
        "test-000",
        "test-001",
    ]


def test_rows_of_the_test_set_are_taken_out_of_the_pool(folder: Path, files: Files) -> None:
    leak = json.loads(files.test.read_text("utf-8"))[4] | {"id": "leak"}
    train = json.loads(files.train.read_text("utf-8"))
    files.train.write_text(json.dumps([leak, *train]), "utf-8")
    task = load_named_task("rhymes", limit=2)  # also of a test row beyond the limit
    assert task.excluded == (("leak", "test-004"),)
    assert (len(task.pool), task.leaks) == (12, ())
    insisting = load_named_task("rhymes", allow_leakage=True)
    assert [row.id for row in insisting.leaks] == ["leak"]
    files.train.write_text(json.dumps([leak]), "utf-8")
    with pytest.raises(DataError, match=r"^train\(\) of task 'rhymes': every row is a test row of"):
        load_named_task("rhymes")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("1 // 0", "task 'rhymes': test() raised ZeroDivisionError"),
        ("[]", "task 'rhymes': test(): no rows; expected at least one"),
        ("None", "task 'rhymes': test() returned NoneType, expected a sequence of Examples"),
        ("'text'", "test() returned str, expected a sequence of Examples"),
        ("[{'id': 'a'}]", "test(), row 1: expected harness.core.Example, found dict"),
        ("(1 // 0 for _ in 'x')", "test() raised ZeroDivisionError"),
        ("[Example('a', 'x', 'y'), Example('a', 'z', 'y')]", "row 2, field 'id': 'a' also stands"),
        ("[Example('a', 'x', ' ')]", "row 1 (id 'a'), field 'output': the answer is empty"),
        ("[Example('a', '', 'y')]", "row 1 (id 'a'), field 'instruction': it is empty"),
        ("[Example('a', None, 'y')]", "field 'instruction': absent (null)"),
        ("[Example('', 'x', 'y')]", "row 1, field 'id': it is empty"),
        ("[Example('a', 'x', chr(0xd800))]", "field 'output': a lone surrogate"),
        ("[Example('a', 'x', 'y', {'direction': 'b'})]", "field 'tags': expected a tuple of pairs"),
        ("[Example('a', 'x', 'y', (('direction',),))]", "field 'tags': expected a tuple of pairs"),
        ("[Example('a', 'x', 'y', (), (('user', 'u'),))]", "expected the assistant's turn"),
        ("[Example('a', 'x', 'y', score=float('inf'))]", "field 'score': expected a finite"),
    ],
)
def test_a_mistake_is_one_line(folder: Path, rows: str, says: str) -> None:
    text = RHYMES.replace('return rows("test")', f"return {rows}")
    (folder / "rhymes.py").write_text(text)
    with pytest.raises(DataError) as caught:
        load_named_task("rhymes")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_that_cannot_be_made_or_does_not_say_its_rows(folder: Path) -> None:
    (folder / "rhymes.py").write_text(RHYMES + "\n    def __init__(self, x): pass\n")
    with pytest.raises(DataError, match=r"^task 'rhymes': cannot be made: raised TypeError"):
        load_named_task("rhymes")
    (folder / "half.py").write_text(RHYMES.replace("def train", "def other").replace("rhymes", "h"))
    with pytest.raises(DataError, match=r"^task 'h': train\(\) raised NotImplementedError"):
        load_named_task("h")
    with pytest.raises(DataError, match=r"^--task=rhyme: no such task \(did you mean 'rhymes'"):
        load_named_task("rhyme")
