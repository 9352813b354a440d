"""What GitHub Actions shows of a run: annotations, and the summary of the job.

Both need nothing but the environment variables that GitHub sets, and do nothing elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from harness.gate.verdict import Gate
from harness.report.formatting import visible
from harness.report.markdown import render
from harness.report.nouns import Report

TITLE = "adaptbench gate"
LEVELS = {"FAIL": "error", "MISSING": "error", "WARN": "warning", "INCONCLUSIVE": "warning"}


def commands(gate: Gate, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Workflow commands that annotate the run, the worst verdict first; none outside GitHub.

    Args:
        gate: what it said.
        environment: where ``GITHUB_ACTIONS`` is looked up.
    """
    if environment.get("GITHUB_ACTIONS") != "true":
        return []
    if gate.problem:
        return [_command("error", gate.problem)]
    found = []
    for verdict in gate.verdicts:
        level = "error" if verdict.fails else LEVELS.get(verdict.status)
        if level:
            text = f"{verdict.status} {gate.name_of(verdict)}: {verdict.line}"
            found.append(_command(level, text))
    return found + [_command("warning", note) for note in gate.notes]


def _command(level: str, text: str) -> str:
    # A command ends with its line; these are the escapes that the runner undoes.
    data = visible(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::{level} title={TITLE}::{data}"


def add_job_summary(report: Report, environment: Mapping[str, str] = os.environ) -> str | None:
    """Append the verdicts and the main table to the job's summary page, if there is one.

    Returns:
        What went wrong, if anything did: a summary is no reason to fail a run.
    """
    path = environment.get("GITHUB_STEP_SUMMARY")
    if not path:
        return None
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(render("job-summary.md.j2", report) + "\n")
    except OSError as error:
        return f"{path}: the job summary cannot be written: {error.strerror or error}"
    return None
