"""The console script ``adaptbench``: ``run`` is pytest, ``data`` shows a file of rows.

The rest reads stored results, and needs no data, model or torch.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from harness.errors import AdaptbenchError, OptionError
from harness.flag import OFFLINE
from harness.gate.verdict import Gate, Terms
from harness.report import console
from harness.report.formatting import visible
from harness.report.terminal import Plain, show_changes, show_gate, show_report

PASSED, FAILED, WRONG = 0, 1, 4  # pytest's numbers for the same


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(WRONG, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 done; 1 the gate failed or the store is damaged; 4 a wrong argument or unusable file. Of
        ``run``: pytest's exit status.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    console.prepare()
    status = FAILED  # of what was cut short because nobody reads it
    with console.closed_pipes_ignored():
        if given[:1] == ["run"]:  # all of its arguments are pytest's, --help too
            return _run(given[1:])
        parsed = _parser().parse_args(given)
        text = io.StringIO()
        try:
            status = parsed.run(parsed, Plain(text, sys.stdout.isatty()))
        except AdaptbenchError as error:
            status = WRONG
            sys.stderr.write(f"{visible(str(error))}\n")
        sys.stdout.write(text.getvalue())
    return status


def _run(given: Sequence[str]) -> int:
    """Pytest with the harness; our own help, unless pytest's is asked for."""
    if "-h" in given or "--help" in given:
        from harness.config.help import help_text

        sys.stdout.write(help_text(min(100, shutil.get_terminal_size().columns)))
        return PASSED
    from harness.plugin import run

    return run(["--help" if word == "--pytest-help" else word for word in given])


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="adaptbench",
        description="Which adaptation of a language model is worth it? run measures, data shows "
        "what is understood of a file of rows, doctor looks at this machine, init begins a "
        "project; the other commands read stored results, without data, model or torch.",
        epilog="Exit status: 0 done, 1 the gate failed or the store is damaged, 4 a wrong argument "
        "or an unusable file; of run, pytest's.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    # Never parsed here; it stands in the list of commands.
    commands.add_parser("run", help="measure: pytest with the harness; see adaptbench run --help")
    for add in (
        *(_add_data, _add_report, _add_compare, _add_gate, _add_check, _add_simulate),
        *(_add_doctor, _add_init),
    ):
        add(commands)
    return parser


Commands = Any  # argparse keeps the class of what add_subparsers() returns to itself


def _command(commands: Commands, name: str, run: object, text: str) -> argparse.ArgumentParser:
    description = text[0].upper() + text[1:] + "."
    added: argparse.ArgumentParser = commands.add_parser(name, help=text, description=description)
    added.set_defaults(run=run)
    return added


def _add_data(commands: Commands) -> None:
    text = "show what is understood of a file of rows: layout, lengths, faults, three prompts"
    made = _command(commands, "data", _data, text)
    made.add_argument("file", type=Path, help="JSON, JSON lines, CSV or Parquet")
    # The table of flags stands in a measuring room, which no other command may import.
    made.add_argument("--format", metavar="NAME", help="how rows are written")
    made.add_argument("--columns", action="append", metavar="NAMES", help="as of run")
    made.add_argument("--direction-pattern", action="append", metavar="PATTERNS", help="as of run")
    made.add_argument("--prompt", metavar="NAME", help="of the rows shown (default: plain)")
    made.add_argument(
        "--model", metavar="NAME", help="whose tokenizer counts, if it is on this machine"
    )


def _add_report(commands: Commands) -> None:
    text = "write the reports anew, of one run or of several together"
    made = _command(commands, "report", _report, text)
    made.add_argument("results", nargs="+", help="results directory, or its URL")
    made.add_argument(
        "--into", type=Path, metavar="DIR", help="where the report of several runs belongs"
    )
    _terms(made, required=False)
    for name in ("report", "lang", "templates"):
        flag = OFFLINE[name]
        made.add_argument(f"--{name}", metavar=flag.metavar, help=flag.help)


def _add_compare(commands: Commands) -> None:
    text = "compare two results directories or baselines, row by row"
    made = _command(commands, "compare", _compare, text)
    made.add_argument("before", help="results directory, its URL, or a baseline")
    made.add_argument("after", help="the same")


def _add_gate(commands: Commands) -> None:
    made = _command(commands, "gate", _gate, "hold a stored run to a baseline")
    made.add_argument("results", help="results directory, its URL, or a baseline of the run")
    _terms(made, required=True)
    made.add_argument(
        "--update-baseline", action="store_true", help=OFFLINE["update-baseline"].help
    )


def _add_check(commands: Commands) -> None:
    text = "verify the files of results directories or baselines"
    made = _command(commands, "check", _check, text)
    made.add_argument("results", nargs="+", help="results directory, its URL, or a baseline")


def _add_simulate(commands: Commands) -> None:
    text = (
        "how often the gate raises false alarms and finds real changes, with rows drawn from a run"
    )
    made = _command(commands, "simulate", _simulate, text)
    made.add_argument("results", help="results directory, its URL, or a baseline, with seeds")
    made.add_argument(
        "after", nargs="?", help="the same run after a change that is to count as none"
    )
    made.add_argument("--rows", type=_positive, default=250, metavar="N", help="test rows of a run")
    made.add_argument("--runs", type=_positive, default=1000, metavar="N", help="simulated runs")
    made.add_argument(
        "--centred", action="store_true", help="let all rows of a cell point one way: harder"
    )
    made.add_argument("--tolerance", default="1%", metavar="SHARE", help="of the gate")


def _add_doctor(commands: Commands) -> None:
    text = "look whether this machine has what runs need, and say what to do"
    made = _command(commands, "doctor", _doctor, text)
    made.add_argument(
        "--results-dir", type=Path, default=Path("results"), metavar="DIR", help="as of run"
    )


def _add_init(commands: Commands) -> None:
    text = "write a small project to begin with: a recipe, sample rows, a strategy, a workflow"
    made = _command(commands, "init", _init, text)
    made.add_argument("folder", type=Path, nargs="?", default=Path(), help="default: this one")


def _positive(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 10**6:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 1000000, found {text}")
    return int(text)


def _terms(parser: argparse.ArgumentParser, *, required: bool) -> None:
    for name in ("baseline", "tolerance", "gate-strict"):
        flag = OFFLINE[name]
        text = flag.help.replace("%", "%%")
        if flag.default is False:
            parser.add_argument(f"--{flag.name}", action="store_true", help=text)
        else:
            needed = required and name == "baseline"
            parser.add_argument(f"--{flag.name}", metavar=flag.metavar, help=text, required=needed)


def _parsed(name: str, text: str | None) -> Any:
    flag = OFFLINE[name]
    try:
        return flag.default if text is None else flag.parse(text)
    except ValueError as error:
        raise OptionError(f"--{flag.name}={text}: expected {error}") from None


def _data(parsed: argparse.Namespace, writer: Plain) -> int:
    from harness.config.options import parse_options
    from harness.data.rows import Reading
    from harness.run.show_data import show_data

    given = ("format", "columns", "direction_pattern", "prompt", "model")
    options = parse_options({name: getattr(parsed, name) for name in given})
    for name in ("prompt", "model"):
        if len(getattr(options, name)) > 1:
            raise OptionError(f"--{name}: data shows one; name one")
    how = Reading(options.format, options.columns, options.direction_pattern)
    for line in show_data(parsed.file.expanduser(), how, options.prompt[0], options.model[0]):
        writer.write_line(visible(line))
    return PASSED


def _doctor(parsed: argparse.Namespace, writer: Plain) -> int:
    from harness.doctor import NOTE, OK, WRONG, examine_machine

    colours = {OK: {"green": True}, NOTE: {"yellow": True}, WRONG: {"red": True, "bold": True}}
    found = examine_machine(parsed.results_dir.expanduser().absolute())
    for one in found:
        writer.write(f"{one.state:<5}", **colours[one.state])
        remedy = f" → {one.remedy}" if one.remedy else ""
        writer.write_line(visible(f"  {one.what}: {one.found}{remedy}"))
    wrong = sum(one.state == WRONG for one in found)
    if wrong:
        is_ = "is" if wrong == 1 else "are"
        writer.write_line(f"{wrong} of these {is_} wrong; runs that need it will fail.")
        return FAILED
    writer.write_line("Ready: adaptbench run --strategy=zeroshot,fewshot --limit=8 is a first try.")
    return PASSED


def _init(parsed: argparse.Namespace, writer: Plain) -> int:
    from harness.project import create

    folder = parsed.folder.expanduser()
    for path in create(folder):
        writer.write_line(visible(str(path)))
    there = "" if folder == Path() else f"cd {folder} && "
    writer.write_line(visible(f"Next: {there}adaptbench run --recipe=recipe.toml"))
    return PASSED


def _held_to(parsed: argparse.Namespace) -> Terms | None:
    if parsed.baseline is None:
        if parsed.tolerance is not None or parsed.gate_strict:
            raise OptionError("--tolerance, --gate-strict: need --baseline=FILE")
        return None
    tolerance = _parsed("tolerance", parsed.tolerance)
    return Terms(Path(parsed.baseline), tolerance, parsed.gate_strict)


def _report(parsed: argparse.Namespace, writer: Plain) -> int:
    from harness.report.publish import Style, rebuild
    from harness.results.brought import brought, handed_on
    from harness.results.merge import merge

    templates = _parsed("templates", parsed.templates)
    if templates is not None and not templates.is_dir():
        raise OptionError(f"--templates={templates}: no such folder")
    formats, tags = (tuple(_parsed(name, getattr(parsed, name))) for name in ("report", "lang"))
    style = Style(formats, templates, tags)
    terms = _held_to(parsed)
    if parsed.into is None and len(parsed.results) > 1:
        raise OptionError("report: several results directories need --into=DIR for their report")
    folders = [brought(where) for where in parsed.results]
    folder = parsed.into or folders[0]
    if parsed.into is not None:
        merge(folders, folder)
    report, files, gate = rebuild(folder, terms, style)
    show_gate(writer, gate)
    show_report(writer, report, files, Path.cwd())
    if parsed.into is None and (url := handed_on(parsed.results[0])) is not None:
        writer.write_line(f"all of it is at {url}")
    return _status(gate)


def _gate(parsed: argparse.Namespace, writer: Plain) -> int:
    from harness.gate.decision import hold
    from harness.metrics.find import find_metric
    from harness.results.baseline import update_baseline
    from harness.results.brought import brought
    from harness.results.reading import snapshot

    terms = _held_to(parsed)
    assert terms is not None
    current = snapshot(brought(parsed.results))
    if parsed.update_baseline:
        show_gate(writer, None, updated=update_baseline(terms.baseline, current))
        return PASSED
    metrics = [find_metric(name, None, known) for name, known in current.definitions.items()]
    gate = hold(terms, current, metrics)
    show_gate(writer, gate)
    return _status(gate)


def _status(gate: Gate | None) -> int:
    if gate is not None and gate.problem is not None:
        return WRONG
    return PASSED if gate is None or gate.passed else FAILED


def _check(parsed: argparse.Namespace, writer: Plain) -> int:
    from harness.results.brought import check_there, located
    from harness.results.reading import check

    damaged = False
    for where in parsed.results:
        try:
            found = located(where)
            seen, wrong = check(found) if isinstance(found, Path) else check_there(found)
        except AdaptbenchError as error:
            seen, wrong = [], [str(error)]
        for line in seen:
            writer.write_line(line)
        for line in wrong:
            writer.write_line(line, red=True)
        damaged = damaged or bool(wrong)
    return FAILED if damaged else PASSED


def _compare(parsed: argparse.Namespace, writer: Plain) -> int:
    from harness.gate.compare import changes
    from harness.results.brought import brought

    show_changes(writer, changes(brought(parsed.before), brought(parsed.after)))
    return PASSED


def _simulate(parsed: argparse.Namespace, writer: Plain) -> int:
    from harness.gate.simulation import simulate, table
    from harness.results.brought import brought

    found = simulate(
        brought(parsed.results),
        None if parsed.after is None else brought(parsed.after),
        parsed.rows,
        parsed.runs,
        _parsed("tolerance", parsed.tolerance),
        parsed.centred,
    )
    writer.write_line(table(found))
    return PASSED
