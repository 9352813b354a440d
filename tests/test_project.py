"""``adaptbench init``: a project that runs as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import files, project
from harness.cli import PASSED, WRONG, main
from harness.errors import StoreError
from tests.builders import ROOT
from tests.builders.processes import ForkServer


def test_a_new_project_runs(tmp_path: Path, tiny_model: Path, processes: ForkServer) -> None:
    folder = tmp_path / "mine"
    assert main(["init", str(folder)]) == PASSED
    written = set(folder.iterdir())
    done = processes.run(
        *("adaptbench", "run", "--recipe=recipe.toml", f"--model={tiny_model}", "--seeds=0"),
        *("-p", "no:cacheprovider", "--baseline=baseline.json", "--update-baseline"),
        folder=folder,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.status == 0, done.out
    report = (folder / "results" / "report.md").read_text("utf-8")
    assert all(name in report for name in ("zeroshot", "fewshot-random-k03", "shortest"))
    ignored = (folder / ".gitignore").read_text("utf-8").splitlines()
    left = {path.name for path in set(folder.iterdir()) - written}
    assert left - {name.rstrip("/") for name in ignored} == {"baseline.json"}


def test_nothing_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    mine = tmp_path / "data" / "test.json"
    mine.write_text("mine", "utf-8")
    assert main(["init", str(tmp_path)]) == WRONG
    assert capsys.readouterr().err == f"{mine}: is there already, and nothing was written\n"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]
    assert mine.read_text("utf-8") == "mine"


def test_a_file_is_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.write_text("", "utf-8")
    assert main(["init", str(file)]) == WRONG
    assert "is a file; name a folder" in capsys.readouterr().err


def test_a_file_in_the_way_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    assert main(["init", str(tmp_path / "file" / "sub")]) == WRONG
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("README.md: cannot be written: Not a directory")


def test_all_of_it_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []

    def until_the_disk_is_full(path: Path, text: str) -> None:
        if len(written) == 3:
            raise StoreError(f"{path}: cannot be written: No space left on device")
        files.write_atomically(path, text)
        written.append(path)

    monkeypatch.setattr(project, "write_atomically", until_the_disk_is_full)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine", "utf-8")
    assert main(["init", str(tmp_path / "mine")]) == main(["init", str(tmp_path / "new")]) == WRONG
    assert len(written) == 3
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "notes.txt"]


def test_the_workflow_is_yaml_that_runs_the_recipe() -> None:
    yaml = pytest.importorskip("yaml")
    text = (ROOT / "templates" / "project" / "workflow.yml").read_text("utf-8")
    job = yaml.safe_load(text)["jobs"]["gate"]
    runs = [step["run"] for step in job["steps"] if "run" in step]
    assert runs[-1] == "adaptbench run --recipe=recipe.toml --baseline=baseline.json"
