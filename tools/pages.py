"""Pages of the documentation as what tests read in them: files, commands, and what those print.

A block of commands is fenced as ``sh``. It is one of three:

* ``<!-- not run: why -->`` stands before it, and no test looks at it;
* ``<!-- run -->`` stands before it, or a block of ``text`` comes straight after it: a test runs it
  in a folder of the page's own, and the text has to be an excerpt of what it prints;
* neither: a test sees that its flags are accepted and its cells are there, without a model.

A block with a ``title`` is a file of that folder. ::

    python -m tools.pages docs/tutorial.md     # runs the page, and writes its excerpts anew
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = ("adaptbench", "pytest", "python", "pip", "make", "export", "srun", "ray", "aws", "cd")
_FENCE = re.compile(r"^( *)```(\w*) *(?:title=\"([^\"]+)\")?[^\n]*\n(.*?)^\1```$", re.M | re.S)
_NOTE = re.compile(r"<!-- (not run\b.*: .+|run) -->\n+\Z")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        language: what it is fenced as.
        title: the file that it is; empty where it is none.
        note: ``run``, ``not run: why``, or empty.
        text: what stands in it.
        start: where its text starts on the page.
        output: the excerpt that follows, of a block of commands; None where none does.
    """

    language: str
    title: str
    note: str
    text: str
    start: int
    output: Block | None = None

    @property
    def runs(self) -> bool:
        """Whether a test runs it."""
        return self.note == "run" or self.output is not None


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[tuple[Block, re.Match[str]]] = []
    for match in _FENCE.finditer(page):
        note = _NOTE.search(page[: match.start()])
        block = Block(match[2], match[3] or "", note[1] if note else "", match[4], match.start(4))
        found.append((block, match))
    made = [block for block, _ in found]
    for place, ((block, match), (after, beside)) in enumerate(pairwise(found)):
        follows = not page[match.end() : beside.start()].strip()
        if block.language == "sh" and after.language == "text" and follows:
            made[place] = replace(block, output=after)
    return made


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a block, as words without comments."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words


def astray(page: str) -> list[str]:
    """Lines of code that begin as a command does, in a block that is not fenced as commands."""
    left = page
    for block in reversed(blocks(page)):
        if block.language in ("sh", "yaml", "python", "toml", "json"):
            left = left[: block.start] + left[block.start + len(block.text) :]
    code = [line.strip() for line in left.splitlines() if line.startswith("    ")]
    fenced = [line for block in blocks(left) for line in block.text.splitlines()]
    return [line for line in (*code, *fenced) if line.split(" ")[0] in COMMANDS]


def write_files(page: str, folder: Path) -> None:
    """Write the files that a page shows."""
    for block in blocks(page):
        if block.title:
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")


Runner = Callable[[Sequence[str], Path], tuple[int, str]]


def play(page: str, folder: Path, run: Runner) -> Iterator[tuple[Block, str]]:
    """Run what a page runs, and yield each block with what it printed.

    Args:
        page: its text.
        folder: an empty one.
        run: runs the words of a command in a folder; returns exit status and what it printed.

    Raises:
        RuntimeError: a command failed.
    """
    write_files(page, folder)
    for block in blocks(page):
        if block.language != "sh" or not block.runs:
            continue
        said = []
        for words in commands(block.text):
            status, out = run(words, folder)
            if status:
                raise RuntimeError(f"{shlex.join(words)}: exit status {status}\n{out}")
            said.append(out)
        yield block, "".join(said)


def excerpt(shown: str, said: str) -> str:
    """What stands in ``said`` where ``shown`` begins and ends, told by the first word of both.

    The last such place: a long run shows a table so far before its own.

    Raises:
        ValueError: there are no such lines.
    """
    lines = [line.rstrip() for line in said.splitlines()]
    first, *_, last = ([*shown.splitlines()] * 2)[: max(2, len(shown.splitlines()))]
    try:
        places = range(len(lines) - 1, -1, -1)
        start = next(i for i in places if _same_start(lines[i], first))
        if len(shown.splitlines()) == 1:
            return lines[start] + "\n"
        end = next(i for i, line in enumerate(lines) if i > start and _same_start(line, last))
    except StopIteration:
        raise ValueError(f"no lines that begin as {first!r} and {last!r} do, in\n{said}") from None
    return "\n".join(lines[start : end + 1]) + "\n"


def _same_start(line: str, other: str) -> bool:
    return line.split()[:1] == other.split()[:1]


def _run(words: Sequence[str], folder: Path) -> tuple[int, str]:
    """Run ``adaptbench`` of this checkout, or a Python file."""
    begin = {"adaptbench": ["-m", "adaptbench"], "python": []}
    if words[0] not in begin:
        raise RuntimeError(f"{shlex.join(words)}: only adaptbench and python are run")
    done = subprocess.run(
        [sys.executable, *begin[words[0]], *words[1:]],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def main(paths: Sequence[str]) -> int:
    """Run pages, and write their excerpts anew."""
    for path in map(Path, paths):
        page = path.read_text("utf-8")
        with tempfile.TemporaryDirectory() as folder:
            new = [
                (block.output, excerpt(block.output.text, said))
                for block, said in play(page, Path(folder), _run)
                if block.output is not None
            ]
        for shown, text in reversed(new):
            page = page[: shown.start] + text + page[shown.start + len(shown.text) :]
        path.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
