"""Several runs in one report."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from harness.cli import PASSED, WRONG, main
from harness.results.manifest import read_manifest, write_manifest
from harness.results.merge import merge
from tests.builders.runs import SEEDS, make_run, report_of


def test_two_models_stand_side_by_side(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one")
    two = make_run(tmp_path / "two", model="n", shift=-0.2)
    assert main(["report", str(one), str(two), f"--into={tmp_path / 'both'}"]) == PASSED
    content = report_of(tmp_path / "both")
    assert [group.model for group in content.groups] == ["m", "m", "n", "n"]
    assert content.missing == ()
    for folder, model in ((one, "m"), (two, "n")):
        alone = report_of(folder).headline.groups
        pairs = zip(content.groups, content.headline.groups, strict=True)
        together = [result for group, result in pairs if group.model == model]
        assert [result.mean for result in alone] == [result.mean for result in together]
        assert [r.bounds.mean for r in alone] == [r.bounds.mean for r in together]
    text = (tmp_path / "both" / "report.md").read_text("utf-8")
    assert "This report puts several runs together" in text
    # what is written again is the same
    before = text
    assert main(["report", str(tmp_path / "both")]) == PASSED
    assert (tmp_path / "both" / "report.md").read_text("utf-8") == before


def test_other_tokenizers_are_compared_by_bits_per_byte(tmp_path: Path) -> None:
    make_run(tmp_path / "one")
    make_run(tmp_path / "two", model="n", tokens=20)
    merge([tmp_path / "one", tmp_path / "two"], tmp_path / "both")
    content = report_of(tmp_path / "both")
    assert "only bits per byte compare them" in content.conclusions[-1]


def test_a_cell_that_both_have_stands_there_once(tmp_path: Path) -> None:
    make_run(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    merge([tmp_path / "one", tmp_path / "two"], tmp_path / "both")
    assert len(read_manifest(tmp_path / "both").entries) == 1 + SEEDS


def test_cells_of_one_name_and_other_content_are_called_after_their_folder(tmp_path: Path) -> None:
    make_run(tmp_path / "one")
    make_run(tmp_path / "two", shift=0.3)
    merge([tmp_path / "one", tmp_path / "two"], tmp_path / "both")
    entries = read_manifest(tmp_path / "both").entries
    assert len(entries) == 2 * (1 + SEEDS)
    assert entries[-1].id == f"m-plain-fewshot-random-k01-s{SEEDS - 1}@two"
    assert entries[-1].model == "m@two"


def test_prompts_of_one_name_and_other_texts_too(tmp_path: Path) -> None:
    make_run(tmp_path / "one")
    two = make_run(tmp_path / "two", model="n")
    manifest = read_manifest(two)
    prompt = dataclasses.replace(manifest.prompts[0], preamble="another")
    write_manifest(two, dataclasses.replace(manifest, prompts=(prompt,)))
    merge([tmp_path / "one", two], tmp_path / "both")
    both = read_manifest(tmp_path / "both")
    assert [prompt.name for prompt in both.prompts] == ["plain", "plain@two"]
    assert {entry.prompt for entry in both.entries if entry.model == "n"} == {"plain@two"}


def test_runs_that_do_not_belong_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, few = make_run(tmp_path / "one"), make_run(tmp_path / "few", rows=7)
    for arguments, says in (
        ([str(one), str(few), f"--into={tmp_path / 'both'}"], "one report takes runs on the same"),
        ([str(one), str(few)], "several results directories need --into=DIR"),
        ([str(one), str(few), f"--into={few}"], "is one of the runs"),
        ([str(one), str(tmp_path / "gone"), f"--into={tmp_path / 'both'}"], "run.json: not found"),
    ):
        assert main(["report", *arguments]) == WRONG
        assert says in capsys.readouterr().err
    assert not (tmp_path / "both").exists()
