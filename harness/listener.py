"""What a run says while it goes on, where pytest reports a finished test."""

from __future__ import annotations

import warnings

import pytest

from harness.errors import AdaptbenchError
from harness.report import terminal
from harness.session import Session

# What a cell's test says of it beside its outcome, also from a worker of pytest-xdist.
CASE, STATE, FAILURE = "adaptbench_case", "adaptbench_state", "adaptbench_failure"


class Listener:
    """Hears of every finished test, also of those that xdist's workers ran.

    Where nobody sees the status line, it says of each computed cell how long it took, in place of
    pytest's letter. After a round, it shows what the run says so far.
    """

    def __init__(self, session: Session, config: pytest.Config) -> None:
        self.session = session
        self.config = config
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        self.reporter: pytest.TerminalReporter | None = reporter
        self.lines = reporter is not None and not (config.option.verbose or reporter.isatty)

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        if self.lines and report.when == "call" and report.passed and _computed(report):
            return "passed", "", "PASSED"
        return None

    @pytest.hookimpl(trylast=True)  # after pytest's own word of the test
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        properties = dict(report.user_properties)
        if CASE not in properties or not (report.when == "call" or report.failed):
            return
        name = str(properties[CASE])
        self.session.saw(name, _text(properties.get(STATE)), _text(properties.get(FAILURE)))
        if self.lines and self.reporter is not None and _computed(report):
            seconds = float(str(properties.get("seconds", report.duration)))
            _write_below(self.reporter, self.session.line(name, seconds))
        if self.session.round_ended():
            self._show_so_far()

    def _show_so_far(self) -> None:
        try:
            report, files = self.session.report_so_far()
        except AdaptbenchError as error:  # the report at the end says the same
            warnings.warn(f"no report so far: {error}", stacklevel=1)
            return
        if self.reporter is not None:
            self.reporter.ensure_newline()
            terminal.show_so_far(self.reporter, report, files, self.config.invocation_params.dir)


def _write_below(reporter: pytest.TerminalReporter, line: str) -> None:
    """Write a line of its own, after which pytest goes on with the same file."""
    file, reporter.currentfspath = reporter.currentfspath, None
    if column(reporter):
        reporter.write_line("")
    reporter.write_line(line)
    reporter.currentfspath = file


def _computed(report: pytest.TestReport) -> bool:
    return (STATE, "computed") in report.user_properties


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def column(reporter: pytest.TerminalReporter | None) -> int:
    """Where the cursor is on the terminal's line."""
    writer = getattr(reporter, "_tw", None)
    return 0 if writer is None else int(writer.width_of_current_line)
