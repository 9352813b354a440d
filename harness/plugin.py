"""The pytest side: hooks that translate between pytest and the harness, and nothing else.

``adaptbench run`` is pytest with this plugin. In a checkout, ``conftest.py`` registers it under its
own name, so that plain ``pytest suites/`` does the same.

PYTEST_DONT_REWRITE: it may be imported before pytest starts.
"""

from __future__ import annotations

import difflib
import glob
import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest

from harness.config.flags import BY_FIELD, FLAGS, HELP, described
from harness.config.help import default
from harness.config.options import Options, parse_options
from harness.config.recipe import read_pyproject
from harness.errors import AdaptbenchError, OptionError
from harness.flag import Flag
from harness.listener import CASE, FAILURE, STATE, Listener, column
from harness.naming import slug
from harness.places import folders, shipped
from harness.records import Measurement
from harness.report import console, terminal
from harness.run.case import Case
from harness.run.plan import make_plan
from harness.session import Session

_KEY = pytest.StashKey[Session]()
ON_REQUEST = {shipped("suites") / f"test_{name}.py" for name in ("conformance", "judge", "speed")}
OBSERVING = {
    shipped("suites") / "test_perplexity.py": "likelihood",
    shipped("suites") / "test_answers.py": "answer",
    shipped("suites") / "test_ratings.py": "rating",
    shipped("suites") / "test_preferences.py": "preference",
}
GATE = "gate"  # the "file" that the gate's failures are reported under


def run(arguments: Sequence[str]) -> int:
    """Run pytest with this plugin, in the working directory unless ``--rootdir`` says otherwise.

    Args:
        arguments: pytest's. Where no path is among them, the shipped suites run, and those in
            ``suites/`` of the working directory.

    Returns:
        pytest's exit status.
    """
    # Two folders far apart would make a folder above both the root, and results belong here.
    rooted = any(argument.partition("=")[0] == "--rootdir" for argument in arguments)
    suites = [shlex.quote(glob.escape(_from_here(folder))) for folder in folders("suites")]
    ours = ["-p", "harness.plugin", "-o", f"testpaths={' '.join(suites)}"]
    return int(pytest.main([*ours, *([] if rooted else ["--rootdir=."]), *arguments]))


def _from_here(folder: Path) -> str:
    here = Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)


def session_of(config: pytest.Config) -> Session:
    """The run that this pytest is: for the fixtures of suites."""
    return config.stash[_KEY]


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add every flag, as text: validation happens once, in ``pytest_configure``."""
    for title, names in HELP.items():
        group = parser.getgroup(f"adaptbench-{slug(title)}", f"adaptbench: {title}")
        for name in names:
            _add_flag(group, BY_FIELD[name.replace("-", "_")])
    config = pluginmanager.get_plugin("pytestconfig")
    _suggest_flags(parser, config.invocation_params.args if config else ())


def _suggest_flags(parser: pytest.Parser, words: Sequence[object]) -> None:
    """Have pytest's error about a misspelled flag name the one that is meant."""
    known = [f"--{flag.name}" for flag in FLAGS]
    hints = getattr(parser, "extra_info", None)  # pytest prints it below that error
    given = [str(word).partition("=")[0] for word in words]
    for name in (name for name in given if name.startswith("--")):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
        if near and near != [name] and isinstance(hints, dict):
            hints[name] = f"did you mean {near[0]!r}?"


def _add_flag(group: pytest.OptionGroup, flag: Flag) -> None:
    help_text = (described(flag) + default(flag)).replace("%", "%%")
    if flag.default is False:
        group.addoption(f"--{flag.name}", action="store_true", default=False, help=help_text)
    elif flag.repeats:
        group.addoption(f"--{flag.name}", action="append", metavar=flag.metavar, help=help_text)
    else:
        group.addoption(f"--{flag.name}", metavar=flag.metavar, help=help_text)


def pytest_configure(config: pytest.Config) -> None:
    """Turn the flags into a plan; a bad one ends pytest with one line and exit status 4."""
    console.prepare()
    config.addinivalue_line(
        "markers",
        'observes(kind): which cells a test gets as case: "likelihood", "answer", "rating", '
        '"preference"',
    )
    _leave_out_torchs_notes(config)
    try:
        options = _options(config)
        _check_workers(config, options)
        plan = make_plan(options)
    except AdaptbenchError as error:
        raise pytest.UsageError(str(error)) from None
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if options.dry_run:
        workers = _alone(config)
    width = shutil.get_terminal_size().columns
    session = Session(plan, _terminal(config), width, workers)
    if config.getoption("baseline") is not None and not _is_worker(config):
        try:
            session.check_baseline()
        except AdaptbenchError as error:
            raise pytest.UsageError(str(error)) from None
    config.stash[_KEY] = session


def _leave_out_torchs_notes(config: pytest.Config) -> None:
    """Say nothing of what torch deprecates of itself when it is imported: no user can mend it."""
    config.addinivalue_line("filterwarnings", "ignore:.torch.jit.*:DeprecationWarning")
    # Outside of items, as in a dry run, pytest's filters are not in force.
    warnings.filterwarnings("ignore", r".torch\.jit", DeprecationWarning)


def _options(config: pytest.Config) -> Options:
    pyproject = config.rootpath / "pyproject.toml"
    flags = {flag.field: config.getoption(flag.field) for flag in FLAGS}
    options = parse_options(flags, read_pyproject(pyproject))
    if not options.given("results_dir"):
        options = replace(options, results_dir=config.rootpath / options.results_dir)
    return options


def _check_workers(config: pytest.Config, options: Options) -> None:
    """See that only one of pytest-xdist and an engine distributes the run.

    Raises:
        OptionError: both are asked for.
    """
    given = (getattr(config.option, name, None) for name in ("numprocesses", "tx"))
    if options.engine != "here" and (any(given) or _is_worker(config)):
        raise OptionError(
            f"--engine={options.engine}: distributes the run itself; leave out -n (and --tx), and "
            f"name the number of processes with --slots=N"
        )


def _alone(config: pytest.Config) -> int:
    """Keep pytest-xdist from starting workers, and return how many it would have started."""
    workers = len(getattr(config.option, "tx", None) or ())
    if workers:
        config.option.dist, config.option.tx = "no", []
    return max(1, workers)


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _terminal(config: pytest.Config) -> IO[str] | None:
    if _is_worker(config) or not sys.stdout.isatty():
        return None
    # A copy of the descriptor, because pytest captures the original while a test runs.
    return console.copy_of(sys.stdout)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one item of every cell for a test that asks for ``case``.

    A test gets the cells that hold likelihoods, or what its mark ``observes("answer")``,
    ``observes("rating")`` or ``observes("preference")`` says.
    """
    if "case" in metafunc.fixturenames:
        marked = metafunc.definition.get_closest_marker("observes")
        wanted = marked.args[0] if marked is not None else "likelihood"
        every = session_of(metafunc.config).plan.cases
        cases = [case for case in every if case.observes == wanted]
        metafunc.parametrize("case", cases, ids=[case.id for case in cases], scope="session")


@pytest.fixture
def measure(request: pytest.FixtureRequest, case: Case) -> Callable[[], Measurement]:
    """Return a function that measures the test's cell, or takes it from the store."""
    session = session_of(request.config)
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    properties = request.node.user_properties
    properties.append((CASE, case.id))

    def run() -> Measurement:
        result = session.measure(case, lambda: column(reporter))
        properties.append((STATE, "cached" if result.cached else "computed"))
        properties.extend(session.headlines(result.measurement))
        if session.plan.options.engine != "here":  # the test's own duration is that of waiting
            properties.append(("seconds", repr(result.measurement.seconds)))
        return result.measurement

    return run


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the suites that measure no adaptation, and those that nothing is to be observed of.

    pytest does not ask about paths that are named.
    """
    if collection_path in ON_REQUEST:
        return True
    observed = OBSERVING.get(collection_path)
    if observed is None or any(one.observes == observed for one in session_of(config).plan.cases):
        return None
    return True


def pytest_report_collectionfinish(
    config: pytest.Config, items: list[pytest.Item]
) -> list[str] | None:
    """Say what is going to be measured, and about how long that takes."""
    cases, session = _cases(items), session_of(config)
    if not cases:
        return None
    told = config.option.collectonly or session.plan.options.dry_run
    estimate = "" if told else session.estimate(cases)
    return [session.headline(), *([f"adaptbench: {estimate}"] if estimate else [])]


def _is_cell(item: pytest.Item) -> bool:
    return "case" in getattr(getattr(item, "callspec", None), "params", ())


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the cells into the order of the plan's rounds, among the places that they have."""
    rounds = session_of(config).plan.rounds
    turn = {case.id: number for number, cases in enumerate(rounds) for case in cases}
    places = [place for place, item in enumerate(items) if _is_cell(item)]
    cells = sorted((items[place] for place in places), key=lambda item: turn[_case(item).id])
    for place, item in zip(places, cells, strict=True):
        items[place] = item


def _case(item: pytest.Item) -> Case:
    """The case of an item that measures one."""
    case: Case = item.callspec.params["case"]  # type: ignore[attr-defined]
    return case


def _cases(items: Sequence[pytest.Item]) -> list[Case]:
    """The cells that items measure, each once."""
    found = (_case(item) for item in items if _is_cell(item))
    return list({case.id: case for case in found}.values())


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Before the first cell: a writable results directory, and every model within reach."""
    if session.config.option.collectonly or not any(map(_is_cell, session.items)):
        return None
    cases, options = _cases(session.items), session_of(session.config).plan.options
    try:
        if options.judge_dry_run or options.dry_run:
            return _dry_run(session.config, cases)
        session_of(session.config).start(cases)
    except AdaptbenchError as error:
        # A worker of xdist has no way to end the run; its cells fail with the same line.
        if not _is_worker(session.config):
            raise pytest.UsageError(str(error)) from None
    return None


def _dry_run(config: pytest.Config, cases: Sequence[Case]) -> bool:
    """Say what cells would take, or what judging would, and run no test."""
    reporter, session = config.pluginmanager.get_plugin("terminalreporter"), session_of(config)
    if reporter is None or _is_worker(config):
        return True
    if session.plan.options.dry_run:
        reporter.section("adaptbench: what this run would take")
        for line in session.foretold(cases):
            reporter.write_line(line)
    if session.plan.options.judge_dry_run:
        reporter.section("adaptbench: what judging would take")
        for line in session.dry_run():
            reporter.write_line(line)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say what the user can act on in one line; a defect of the harness keeps its traceback."""
    result = yield
    if call.excinfo is not None and result.failed:
        error = call.excinfo.value
        if isinstance(error, AdaptbenchError):
            result.longrepr = str(error)
        first = str(error).strip().partition("\n")[0]  # of an assertion: what it said itself
        reason = first if isinstance(error, AdaptbenchError | AssertionError) else repr(error)
        result.user_properties.append((FAILURE, reason))
    return result


def pytest_sessionstart(session: pytest.Session) -> None:
    """Listen in the process that writes the report."""
    config = session.config
    if not _is_worker(config):
        config.pluginmanager.register(Listener(session_of(config), config), "adaptbench-listener")


@pytest.hookimpl(tryfirst=True)  # before the JUnit file is written
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Judge, and write the reports, once, also after Ctrl-C."""
    if _is_worker(session.config):
        return
    config, state = session.config, session_of(session.config)
    state.finish()
    only_told = config.option.collectonly or state.plan.options.dry_run
    asked = config.getoption("baseline") is not None and not only_told
    if asked and not state.active:
        state.gate_trouble = "--baseline: nothing was compared, because no cell was measured"
    if state.gate is not None:
        for verdict in state.gate.failing:
            _report_failure(
                config, state.gate.name_of(verdict), f"{verdict.status}: {verdict.line}"
            )
        if state.gate.problem is not None:
            _report_failure(config, "baseline", state.gate.problem)
    if not state.passed and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _report_failure(config: pytest.Config, name: str, line: str) -> None:
    """Let every listener hear of a failure that no test had: JUnit, other plugins, the terminal."""
    nodeid, location = f"{GATE}::{name}", (GATE, None, name)
    failed = pytest.TestReport(nodeid, location, {}, "failed", line, "call")
    done = pytest.TestReport(nodeid, location, {}, "passed", None, "teardown")
    terminal_, *others = map(
        config.pluginmanager.get_plugin, ("terminalreporter", "lfplugin", "stepwiseplugin")
    )
    # The terminal counts tests to show progress, and --lf would look for a test of this name; it
    # is none, so it is put with the terminal's failures, and the others do not hear of it.
    deaf = [plugin for plugin in (terminal_, *others) if plugin is not None]
    heard = config.pluginmanager.subset_hook_caller("pytest_runtest_logreport", deaf)
    for report in (failed, done):
        heard(report=report)
    if terminal_ is not None:
        terminal_.stats.setdefault("failed", []).append(failed)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Show the gate's word, the main table, what is missing, and where the reports are."""
    session = session_of(config)
    terminalreporter.ensure_newline()
    if session.trouble:
        terminalreporter.section("adaptbench")
        terminalreporter.write_line(session.trouble, red=True)
    terminal.show_gate(terminalreporter, session.gate, session.gate_trouble, session.updated)
    if session.report is not None:
        here = config.invocation_params.dir
        terminal.show_report(terminalreporter, session.report, session.files, here)
        if session.shared is not None:
            terminalreporter.write_line(f"all of it is at {session.shared}")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let go of the model."""
    session = config.stash.get(_KEY, None)
    if session is not None:
        session.close()
