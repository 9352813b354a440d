"""What ``adaptbench run --help`` says: our flags, by what a user wants to do."""

from __future__ import annotations

import textwrap
from pathlib import Path

from harness.config.flags import BY_FIELD, HELP, described
from harness.flag import Flag

FIRST = 26  # columns of a flag's name
USAGE = """\
usage: adaptbench run [SUITES] [FLAGS]

Measures every cell that the flags ask for, takes from the store what is there, and writes the
reports. It is pytest with the harness: everything of pytest works too (-k, -x, -n 2, --lf,
--junitxml), and `adaptbench run --pytest-help` shows it.

  adaptbench run                                         the shipped task, the embedded model
  adaptbench run --strategy=fewshot --k=1,3,5            one strategy in three sizes
  adaptbench run --data=test.json --train-data=train.json
  adaptbench run --recipe=qwen3-4b --limit=8             a trial of a recipe
"""


def help_text(width: int) -> str:
    """Every flag with what it is for and its default, under headings.

    Args:
        width: columns.
    """
    parts = [USAGE]
    for title, names in HELP.items():
        lines = [_shown(BY_FIELD[name.replace("-", "_")], width) for name in names]
        parts.append("\n".join([f"{title}:", *lines]) + "\n")
    return "\n".join(parts)


def _shown(flag: Flag, width: int) -> str:
    name = f"  --{flag.name}" + (f"={flag.metavar}" if flag.metavar else "")
    wrapped = textwrap.wrap(described(flag) + default(flag), max(30, width - FIRST))
    lines = [" " * FIRST + line for line in wrapped]
    if len(name) < FIRST - 1:
        return "\n".join([f"{name:<{FIRST}}{wrapped[0]}", *lines[1:]])
    return "\n".join([name, *lines])


def default(flag: Flag) -> str:
    """A flag's default in words, in brackets; empty where there is none to tell."""
    value = flag.default
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    if isinstance(value, Path) and value.is_absolute():
        value = f"the shipped {value.parent.name}/{value.name}"
    return f" (default: {value})" if value else ""
