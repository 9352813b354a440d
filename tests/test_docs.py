"""What the documents tell users to type is accepted."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from harness.config.flags import FLAGS
from harness.config.options import parse_options
from tests.builders import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SWITCHES = {flag.name for flag in FLAGS if flag.default is False}
NAMES = {flag.name: flag for flag in FLAGS}


def workflow() -> dict[str, object]:
    text = (ROOT / "docs" / "gate.md").read_text("utf-8")
    *_, block = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    loaded: dict[str, object] = yaml.safe_load(block)
    return loaded


def commands(path: Path) -> list[str]:
    lines = path.read_text("utf-8").splitlines()
    found = [line.strip().removeprefix("- run: ") for line in lines]
    return [line for line in found if line.startswith("pytest suites/ ")]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_flags_in_commands_exist_and_parse(path: Path) -> None:
    for command in commands(path):
        given: dict[str, object] = {}
        words = shlex.split(command.partition("#")[0])[2:]
        for place, word in enumerate(words):
            name, equals, value = word.removeprefix("--").partition("=")
            if word == "--set":
                given["set"] = [words[place + 1]]
            elif word.startswith("--") and name in NAMES:
                assert equals or name in SWITCHES, command
                field = NAMES[name].field
                given[field] = True if name in SWITCHES else value
        if "…" not in command and not str(given.get("recipe", "")).endswith("mine.toml"):
            parse_options(given)


def test_the_workflow_is_yaml_and_gates() -> None:
    jobs = workflow()["jobs"]
    assert isinstance(jobs, dict)
    steps = jobs["gate"]["steps"]
    (run,) = (step["run"] for step in steps if "pytest" in step.get("run", ""))
    assert "--baseline=results/baseline.json" in run
    uploads = [step for step in steps if "upload-artifact" in step.get("uses", "")]
    assert uploads[0]["if"] == "always()"  # a failing gate's report is the one to read
