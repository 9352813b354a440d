"""Flags about rows, in a whole run: what was left out stands where the numbers are read."""

from __future__ import annotations

import json
from pathlib import Path

from tests.builders.commands import Run, summary
from tests.builders.tasks import Files, write_rows


def test_rows_that_are_left_out_are_reported(suites: Run, files: Files, tmp_path: Path) -> None:
    for file in (files.test, files.train):
        rows = json.loads(file.read_text("utf-8"))
        write_rows(file, [*rows, {"id": "bad", "instruction": "問", "output": ""}])
    listed = suites("--strategy=zeroshot")
    assert listed.status == 4
    assert "row 6 (id 'bad'), field 'output': the answer is empty" in listed.err

    done = suites("--strategy=zeroshot", "--skip-bad-rows")
    assert done.status == 0, done.out + done.err
    lines = [
        f"{file}: 1 of {total} rows left out (--skip-bad-rows): 1 × field 'output': the answer is "
        f"empty (row {total} (id 'bad'))"
        for file, total in ((files.test, 6), (files.train, 13))
    ]
    assert summary(tmp_path)["warnings"] == lines
    assert all(line in done.lines for line in lines)
    report = (tmp_path / "results" / "report.md").read_text("utf-8")
    assert all(f"1 of {total} rows left out" in report for total in (6, 13))
    assert "skip-bad-rows = true" in (tmp_path / "results" / "recipe.toml").read_text("utf-8")


def test_flags_that_may_stand_several_times(suites: Run, files: Files, tmp_path: Path) -> None:
    rows = json.loads(files.train.read_text("utf-8"))
    for row in rows:
        row["question"] = (
            row.pop("instruction").replace("翻譯成文言文", "擬古").replace("翻譯成現代文", "今化")
        )
    write_rows(files.train, rows)
    flags = ["--columns=instruction=question", "--direction-pattern=classical=擬古"]
    flags += ["--direction-pattern=modern=今化", "--select=bidirectional", "--strategy=fewshot"]
    done = suites(*flags, "--k=2", "--seeds=0")
    assert done.status == 0, done.out + done.err
    recipe = (tmp_path / "results" / "recipe.toml").read_text("utf-8")
    again = suites(f"--recipe={tmp_path / 'results' / 'recipe.toml'}")
    assert again.status == 0, again.out + again.err
    assert (tmp_path / "results" / "recipe.toml").read_text("utf-8") == recipe
    assert summary(tmp_path)["cells"][0]["cached"]
