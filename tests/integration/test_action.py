"""The GitHub Action: its steps, run in a shell as a runner would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.project import create
from tests.builders import ROOT

yaml = pytest.importorskip("yaml")
ACTION = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
STEPS = {
    step.get("id") or step.get("name") or step["uses"]: step for step in ACTION["runs"]["steps"]
}


def run_step(folder: Path, model: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    """Run the action's main step as a runner does: inputs as variables, in bash -eo pipefail."""
    step = STEPS["run"]
    known = {name: str(one.get("default", "")) for name, one in ACTION["inputs"].items()} | inputs
    given = {
        name: known[text.removeprefix("${{ inputs.").removesuffix(" }}")]
        for name, text in step["env"].items()
    }
    tool = folder / "bin" / "adaptbench"
    tool.parent.mkdir(exist_ok=True)
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m adaptbench "$@"\n', "utf-8")
    tool.chmod(0o755)
    env = {
        **os.environ,
        **given,
        "PATH": f"{tool.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "GITHUB_ACTIONS": "true",
        "GITHUB_OUTPUT": str(folder / "output"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
    }
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", step["run"]],
        cwd=folder, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_action_measures_and_gates(tmp_path: Path, tiny_model: Path) -> None:
    create(tmp_path)
    more = f"--model={tiny_model} --strategy=zeroshot,fewshot --k=1 --seeds=0 -p no:cacheprovider"
    first = run_step(
        tmp_path, tiny_model, recipe="recipe.toml", baseline="baseline.json",
        arguments=f"{more} --update-baseline",
    )  # fmt: skip
    assert first.returncode == 0, first.stdout + first.stderr
    again = run_step(
        tmp_path, tiny_model, recipe="recipe.toml", baseline="baseline.json", arguments=more
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert "## Gate: passed" in (tmp_path / "summary.md").read_text("utf-8")
    assert (tmp_path / "output").read_text("utf-8").splitlines()[-1] == "report=results/report.html"
    assert (tmp_path / "results" / "report.html").exists()
    # A cell that the baseline has and the run does not is a failed gate, and a failed step.
    gone = run_step(
        tmp_path, tiny_model, recipe="recipe.toml", baseline="baseline.json",
        arguments=more.replace("zeroshot,fewshot", "zeroshot"),
    )  # fmt: skip
    assert gone.returncode == 1
    assert "::error" in gone.stdout


def test_no_input_is_put_into_a_script() -> None:
    """An input that stands in a script can be a command; as a variable it is a text."""
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step.get("run", "")


def test_every_input_is_used_and_described() -> None:
    text = (ROOT / "action.yml").read_text("utf-8")
    for name, one in ACTION["inputs"].items():
        assert one["description"]
        assert f"inputs.{name}" in text


def test_forms_and_citation_are_valid_yaml() -> None:
    forms: list[Any] = [
        yaml.safe_load(path.read_text("utf-8"))
        for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")
    ]
    assert all(form["body"] and form["name"] for form in forms)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "title", "authors", "version", "license"} <= set(citation)
