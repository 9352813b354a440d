"""What the documents tell users to type works, leads somewhere, and prints what they say."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli import _parser
from harness.config.flags import FLAGS
from harness.config.options import parse_options
from harness.flag import Flag
from harness.run.plan import make_plan
from tests.builders import ROOT
from tests.builders.processes import ForkServer
from tools import docstrings, pages, reference

SITE = [*sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "reference").glob("*.md"))]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "examples" / "README.md", *SITE]
RUNNING = [path for path in PAGES if any(one.runs for one in pages.blocks(path.read_text("utf-8")))]
SWITCHES = {flag.name for flag in FLAGS if flag.default is False}
NAMES = {flag.name: flag for flag in FLAGS}
# Flags of pytest and its plugins that pages mention.
PYTEST = {"-k", "-n", "-x", "--lf", "--collect-only", "--junitxml", "--benchmark-json"}
TAKE_ONE = {"-k", "-n", "--set"}  # with a space
SHIPPED = ROOT / "suites" / "data" / "classical-zh"


def ids(paths: Sequence[Path]) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in paths]


def flags_of(words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The harness's flags among the words of a command, and what is no flag."""
    given: dict[str, Any] = {}
    others: list[str] = []
    left = iter(words)
    for word in left:
        name, equals, value = word.partition("=")
        if name in TAKE_ONE:
            value = next(left)
            if name == "--set":
                given.setdefault("set", []).append(value)
        elif name.removeprefix("--") in NAMES and name.startswith("--"):
            flag = NAMES[name.removeprefix("--")]
            assert (flag.name in SWITCHES) is not bool(equals), f"{word}: a value, or none"
            given[flag.field] = value if equals else True
        elif word.startswith("-"):
            assert name in PYTEST, f"{word}: no flag of the harness, and none that pages mention"
        else:
            others.append(word)
    return given, others


def check_run(words: Sequence[str]) -> None:
    """See that a measuring command is accepted and has cells to measure."""
    given, suites = flags_of(words)
    options = parse_options(given)
    for suite in suites:
        assert (ROOT / suite.partition("::")[0]).exists(), suite
    if "suites/test_conformance.py" not in suites:
        assert make_plan(options).cases


def check(words: Sequence[str]) -> None:
    """See that a command is one, and that its arguments are accepted."""
    if words[:3] == ["python", "-m", "adaptbench"]:
        words = words[2:]
    if words[0] == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
        assert words[1] in targets, shlex.join(words)
    elif words[0] == "pytest" or list(words[:2]) == ["adaptbench", "run"]:
        check_run(words[1:] if words[0] == "pytest" else words[2:])
    elif words[0] == "adaptbench":
        _parser().parse_args(words[1:])
    elif list(words[:2]) == ["python", "-m"]:
        assert (ROOT / f"{words[2].replace('.', '/')}.py").is_file(), shlex.join(words)
    else:
        pytest.fail(f"{shlex.join(words)}: nobody runs it; say <!-- not run: why --> before it")


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the files that commands name and no page shows."""
    rows = json.loads((SHIPPED / "public_test.json").read_text("utf-8"))
    pool = [
        {**row, "score": place}
        for place, row in enumerate(json.loads((SHIPPED / "train.json").read_text("utf-8")))
    ]
    files: dict[str, object] = {
        "test.json": rows,
        "train.json": pool,
        "private.json": [{name: row[name] for name in ("id", "instruction")} for row in rows],
        "ours.json": [{"id": row["id"], "output": row["output"]} for row in rows],
    }
    for name, value in files.items():
        (tmp_path / name).write_text(json.dumps(value), encoding="utf-8")
    lines = ["id,output", *(f"{row['id']},x" for row in rows)]
    (tmp_path / "theirs.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "my-model").symlink_to(tiny_model, target_is_directory=True)
    adapter = tmp_path / "path" / "to" / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text("{}", encoding="utf-8")
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", PAGES, ids=ids(PAGES))
def test_commands_are_accepted(path: Path, folder: Path) -> None:
    page = path.read_text("utf-8")
    pages.write_files(page, folder)
    for block in pages.blocks(page):
        if block.language == "sh" and not block.runs and not block.note:
            for words in pages.commands(block.text):
                check(words)


@pytest.mark.parametrize("path", PAGES, ids=ids(PAGES))
def test_every_command_stands_where_it_is_looked_at(path: Path) -> None:
    page = path.read_text("utf-8")
    assert pages.astray(page) == []
    for block in pages.blocks(page):
        if block.note:
            assert block.language == "sh", f"{block.note}: stands before no commands"


@pytest.fixture
def run(processes: ForkServer) -> pages.Runner:
    """Runs ``adaptbench``, or a Python file, as a user does."""

    def typed(words: Sequence[str], folder: Path) -> tuple[int, str]:
        module, *more = words
        if module == "python":
            module, *more = words[1].removesuffix(".py"), *words[2:]
        elif words[1] == "run":
            more += ["-p", "no:cacheprovider"]
        env = {"PYTHONPATH": str(ROOT)}
        done = processes.run(module, *more, folder=folder, env=env)
        return done.status, done.out + done.err

    return typed


@pytest.mark.parametrize(
    "path", [path for path in RUNNING if path.stem != "tutorial"], ids=lambda path: path.stem
)
def test_what_a_page_runs_runs(
    path: Path, tmp_path: Path, run: pages.Runner, tiny_model: Path
) -> None:
    (tmp_path / "pyproject.toml").write_text(f'[tool.adaptbench]\nmodel = "{tiny_model}"\n')
    for block, said in pages.play(path.read_text("utf-8"), tmp_path, run):
        if block.output is not None:
            assert pages.excerpt(block.output.text, said) == block.output.text


@pytest.mark.real
def test_the_tutorial_prints_what_it_says(tmp_path: Path, run: pages.Runner) -> None:
    page = (ROOT / "docs" / "tutorial.md").read_text("utf-8")
    outputs = 0
    for block, said in pages.play(page, tmp_path, run):
        assert block.output is not None, block.text
        assert_alike(pages.excerpt(block.output.text, said), block.output.text)
        outputs += 1
    assert outputs == 5


def assert_alike(said: str, shown: str) -> None:
    """Equal, but for what another processor's rounding may do to a number."""
    number = re.compile(r"\d+(?:\.\d+)?")
    blank = [re.sub(r"[ \-]+|<(?=\d)", " ", number.sub("0", text)) for text in (said, shown)]
    assert blank[0] == blank[1]
    for one, other in zip(number.findall(said), number.findall(shown), strict=True):
        assert float(one) == pytest.approx(float(other), rel=0.02, abs=0.11), said


def headings(path: Path) -> set[str]:
    """The anchors of a page, as both GitHub and the site make them."""
    text = path.read_text("utf-8")
    for block in pages.blocks(text):
        text = text.replace(block.text, "")
    found = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", one.lower()).strip().replace(" ", "-") for one in found}


def links(path: Path) -> Iterator[tuple[Path, str]]:
    text = path.read_text("utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target:
            name, _, anchor = target.partition("#")
            yield (path.parent / name if name else path), anchor


@pytest.mark.parametrize(
    "path",
    [*PAGES, *(p for p in ROOT.glob("*.md") if p not in PAGES)],
    ids=lambda path: path.name,
)
def test_links_lead_somewhere(path: Path) -> None:
    for target, anchor in links(path):
        assert target.exists(), f"{path.name}: {target}"
        if anchor:
            assert anchor in headings(target), f"{path.name}: {target.name}#{anchor}"


def test_every_page_is_in_the_menu() -> None:
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    listed = set(re.findall(r"^ +- .*: (\S+\.md)$", text, re.M))
    made = {"index.md", "examples.md", "contributing.md", "changelog.md"}
    assert {page.relative_to(ROOT / "docs").as_posix() for page in SITE} == listed - made


def test_the_site_builds_strictly_and_asks_nobody(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="mkdocs-material is not installed: make docs does it")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    home = (tmp_path / "index.html").read_text("utf-8")
    assert re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", home) == []
    dialogs = re.findall(r"<[^>]*role=.?dialog[^>]*>", home)  # each has a name to be read aloud
    assert dialogs
    assert all("aria-label" in one for one in dialogs)
    assert (tmp_path / "files" / "examples" / "gpu.ipynb").is_file()  # a page links to it
    assert "Unreleased" in (tmp_path / "changelog.html").read_text("utf-8").title()


def test_the_readme_is_short_and_its_picture_small() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) < 120
    for picture in re.findall(r"!\[.+\]\((.+)\)", text):
        assert (ROOT / picture).stat().st_size < 200_000


def test_the_reference_is_what_its_sources_say() -> None:
    for name, text in reference.pages().items():
        stale = "written from older sources: run make docs"
        assert (reference.FOLDER / name).read_text("utf-8") == text, f"{name}: {stale}"


def test_a_flag_without_help_ends_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    flag = Flag("limit", int, None, " ", "N")
    monkeypatch.setitem(reference.BY_FIELD, "limit", flag)
    with pytest.raises(ValueError, match="--limit: has no help"):
        list(reference.flags())


def test_a_name_without_a_docstring_ends_the_reference() -> None:
    class Mute:
        pass

    with pytest.raises(ValueError, match="has no docstring"):
        docstrings.described(Mute)


def test_docstrings_become_markdown() -> None:
    def one() -> None:
        """Do :func:`that`, as ``this`` does::

            that(1)

        Args:
            first: of two
                lines.
            second: of one.

        Returns:
            Nothing.
        """

    assert docstrings.described(one).splitlines() == [
        *("Do `that`, as `this` does:", "", "```python", "that(1)", "```", ""),
        *("**Args:**", "", "- `first`: of two lines.", "- `second`: of one.", ""),
        "**Returns:** Nothing.",
    ]


def test_blocks_of_a_page() -> None:
    page = '```toml title="a.toml"\nk = 1\n```\n\n<!-- run -->\n```sh\nadaptbench run \\\n  -x # y\n```\n'
    page += (
        "\n```text\na 1\nb 2\n```\n\nwords\n\n<!-- not run: no key -->\n```sh\nexport A=1\n```\n"
    )
    file, ran, out, left = pages.blocks(page)
    assert (file.title, file.text) == ("a.toml", "k = 1\n")
    assert ran.runs
    assert ran.output == out
    assert list(pages.commands(ran.text)) == [["adaptbench", "run", "-x"]]
    assert not left.runs
    assert left.note == "not run: no key"
    assert pages.excerpt("a 1\nb 2\n", "x\na 3\nc\nb 4\nd\n") == "a 3\nc\nb 4\n"
    assert pages.astray("words\n\n    pytest suites/\n\n```text\nmake bench\n```\n") == [
        "pytest suites/",
        "make bench",
    ]


def workflow() -> Mapping[str, Any]:
    text = (ROOT / "docs" / "ci.md").read_text("utf-8")
    *_, block = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    loaded: dict[str, Any] = yaml.safe_load(block)
    return loaded


def test_the_workflow_is_yaml_and_gates(folder: Path) -> None:
    steps = workflow()["jobs"]["gate"]["steps"]
    (run,) = (step["run"] for step in steps if "pytest" in step.get("run", ""))
    assert "--baseline=results/baseline.json" in run
    check(shlex.split(run))
    uploads = [step for step in steps if "upload-artifact" in step.get("uses", "")]
    assert uploads[0]["if"] == "always()"  # a failing gate's report is the one to read
