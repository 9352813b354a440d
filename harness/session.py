"""One run's state, without pytest: what was measured, what failed, what the end has to say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from harness.core import Cell
from harness.data.predictions import write_predictions
from harness.errors import AdaptbenchError, ModelError, StoreError
from harness.gate.comparable import check_metrics, check_rows
from harness.gate.decision import hold
from harness.gate.verdict import Gate, Terms
from harness.metrics.base import Metric, reading
from harness.naming import counted
from harness.records import ExamScores, Measurement
from harness.report.nouns import Report
from harness.report.publish import Style, publish
from harness.results.baseline import check_replaceable, read_baseline, update_baseline
from harness.results.manifest import Manifest, row_digests, write_manifest
from harness.results.snapshot import Snapshot, take
from harness.run import forecast_lines
from harness.run.bench import Bench, Result
from harness.run.budget import check_budget, estimates, lines
from harness.run.case import Case
from harness.run.choice import Choice
from harness.run.describe import describe
from harness.run.given import is_given
from harness.run.jurors import check_endpoints, limits_of
from harness.run.outlook import by_case, is_worth_it, outlook
from harness.run.plan import Plan
from harness.run.progress import ProgressLine, Remaining
from harness.run.rounds import Rounds

if TYPE_CHECKING:
    from harness.engine.driver import RayEngine


class Session:
    """Measures cases with progress, hears of outcomes, and reports at the end.

    Args:
        plan: what the flags asked for.
        terminal: a stream on a terminal for progress, or None.
        width: columns of that terminal.
        workers: how many processes share this machine's cores.
    """

    def __init__(
        self, plan: Plan, terminal: IO[str] | None = None, width: int = 80, workers: int = 1
    ) -> None:
        self.plan = plan
        self.bench = Bench(plan, terminal, workers)
        self.active = False
        self.report: Report | None = None
        self.files: list[Path] = []
        self.shared: str | None = None
        self.trouble: str | None = None
        self.gate: Gate | None = None
        self.gate_trouble: str | None = None
        self.updated: list[str] = []
        self._line = ProgressLine(terminal, width) if terminal is not None else None
        self._measured: set[str] = set()
        self._computed: set[str] = set()
        self._failures: dict[str, str] = {}
        self._engine: RayEngine | None = None
        self._rounds = Rounds(plan.cases)
        self._shares: dict[str, float] = {}  # what each cell takes, where that was estimated
        self.remaining = Remaining({case.id: 1.0 for case in plan.cases})

    def start(self, selected: Sequence[Case] | None = None) -> None:
        """Prepare the results directory and ask for every model once; let an engine begin.

        Args:
            selected: the cases that will be measured; by default all of the plan.

        Raises:
            AdaptbenchError: the directory cannot be written, a model cannot be had, or the engine
                is not there.
        """
        selected = self.plan.cases if selected is None else selected
        self.check_baseline()
        self.bench.store.prepare()
        for case in self.plan.cases:
            if case.judging is None or not case.judging.remote:
                self.bench.model_digest(case)
        check_endpoints(selected)
        check_budget(self.bench)
        self.active = True
        self._rounds = Rounds(selected)
        self.remaining = Remaining(self._shares or {case.id: 1.0 for case in selected})
        self.bench.wanted = selected
        if self.plan.options.engine == "ray":
            from harness.engine.driver import begin

            self._engine = self.bench.engine = begin(self.bench, selected)

    def dry_run(self) -> list[str]:
        """What judging would take, in lines; nothing is asked."""
        return lines(estimates(self.bench), limits_of(self.plan))

    def foretold(self, selected: Sequence[Case]) -> list[str]:
        """What measuring these cases would take, in lines; nothing is computed or written.

        Raises:
            AdaptbenchError: a model or its tokenizer cannot be had.
        """
        return forecast_lines.lines(outlook(self.bench, selected))

    def estimate(self, selected: Sequence[Case]) -> str:
        """The same in a few words; empty where it is little, or cannot be said.

        What is wrong with a model or a prompt is said by the cells that need it.
        """
        try:
            if not is_worth_it(self.bench, selected):
                return ""
            found = outlook(self.bench, selected)
            self._shares = by_case(self.bench, selected, found)
            return forecast_lines.header(found)
        except AdaptbenchError:
            return ""

    def measure(self, case: Case, column: Callable[[], int]) -> Result:
        """Measure a case, showing progress behind column ``column()`` of the terminal.

        Raises:
            AdaptbenchError: one line saying what went wrong.
        """
        line = self._line
        if line is None:
            return self.bench.measure(case)
        try:
            return self.bench.measure(
                case,
                lambda what, done, total, note: line.update(column(), what, done, total, note),
            )
        finally:
            line.clear()

    def headlines(self, measurement: Measurement) -> list[tuple[str, str]]:
        """Each metric's headline of a cell, by name, for JUnit and other listeners."""
        rows = self.plan.task.examples
        found = []
        for metric in self.plan.metrics:
            if metric.observes != measurement.cell.observes:
                continue
            name = metric.headline.name
            value = reading(metric, measurement, rows).aggregates[name]
            found.append((name, repr(value)))
        return found

    def saw(self, case_id: str, state: str | None, failure: str | None) -> None:
        """Hear of a finished test, which another process may have run."""
        self.active = True
        if state is not None:
            self._measured.add(case_id)
        if state == "computed":
            self._computed.add(case_id)
        if failure:
            self._failures.setdefault(case_id, failure)
        self.remaining.over(case_id, computed=state == "computed")

    def line(self, case_id: str, seconds: float) -> str:
        """What is to be said of a cell that took so many seconds to compute."""
        case = self.plan.by_id[case_id]
        rows = len(self.plan.task.examples) if case.training is None else None
        return self.remaining.line(case_id, seconds, rows)

    def round_ended(self) -> bool:
        """Whether a round ended just now that is worth a report, and another one is to come."""
        return self._rounds.ended(self._measured | self._failures.keys(), self._computed)

    def report_so_far(self) -> tuple[Report, list[Path]]:
        """Write the reports over what the store has by now; nothing is judged.

        Raises:
            AdaptbenchError: they cannot be written.
        """
        manifest, measured = self.record(so_far=True)
        style = Style(self.plan.options.report, self.plan.options.templates)
        found = publish(self.bench.store.folder, manifest, measured, self.plan.metrics, style=style)
        self._rounds.reported()
        return found

    def finish(self) -> None:
        """Write the reports over everything the plan asks for and the store has."""
        if not self.active:
            return
        try:
            manifest, measured = self.record()
            folder, options = self.bench.store.folder, self.plan.options
            metrics = self.plan.metrics
            self._judge(take(str(folder), manifest, measured, metrics), metrics)
            style = Style(options.report, options.templates, options.lang)
            self.report, self.files = publish(folder, manifest, measured, metrics, self.gate, style)
            self.files += self.write_predictions(measured)
        except AdaptbenchError as error:
            kept = "what is measured is kept, so run again"
            self.trouble = f"no report was written: {error}; {kept}"
        try:
            self.share()
        except AdaptbenchError as error:
            here = self.bench.store.folder
            self.trouble = self.trouble or f"{error}; all of it is in {here}: run again to share it"

    def share(self) -> None:
        """Hand on what this machine has to where the results directory lies, if elsewhere.

        Raises:
            StoreError: it cannot be written.
        """
        self.bench.store.remote.publish()
        self.shared = self.bench.store.remote.url

    def write_predictions(self, measured: Mapping[str, Measurement]) -> list[Path]:
        """Write the answers of every cell that has some, where the user named a file for them.

        Raises:
            StoreError: a file cannot be written.
        """
        path = self.plan.options.predictions
        if path is None:
            return []
        found = {name: one.answers for name, one in measured.items() if one.answers}
        files = []
        for name, answers in found.items():
            own = path if len(found) == 1 else path.with_name(f"{path.stem}-{name}{path.suffix}")
            write_predictions(own, [one for one in answers if one.draw == 0])
            files.append(own)
        return files

    def record(self, so_far: bool = False) -> tuple[Manifest, dict[str, Measurement]]:
        """Write ``run.json`` over everything the plan asks for and the store has.

        Args:
            so_far: whether the run goes on; if not, an engine is ended.

        Returns:
            What it says, and case id → measurement.

        Raises:
            StoreError: it cannot be written.
        """
        nodes = self._nodes() if so_far else self._stop_engine()
        found: dict[str, tuple[Cell, str]] = {}
        choices: dict[str, Choice] = {}
        measured: dict[str, Measurement] = {}
        store = self.bench.store
        for case in filter(self._counts, self.plan.cases):
            try:
                measurement = self.bench.stored(case)
            except (ModelError, StoreError) as error:  # out of reach: only its own cells are lost
                self._failures.setdefault(case.id, str(error))
                continue
            if measurement is not None:
                path = store.path(measurement.cell)
                measured[case.id] = measurement
                choice = self.bench.choice(case) if case.candidates else None
                if choice is not None:
                    choices[case.id] = choice
                found[case.id] = measurement.cell, str(path.relative_to(store.folder))
        manifest = describe(
            self.plan,
            found,
            frozenset(self._computed),
            self._failures if not so_far else self._to_come() | self._failures,
            choices,
            self._exams(),
            None if self._engine is None else self._engine.record(),
            nodes,
        )
        manifest = replace(manifest, so_far=so_far)
        write_manifest(store.folder, manifest)
        return manifest, measured

    def _to_come(self) -> dict[str, str]:
        """Why a cell is missing from a run that goes on."""
        return dict.fromkeys(self.plan.by_id, "still to be computed")

    def _nodes(self) -> Mapping[str, str]:
        """The key of every cell that an engine has computed → where."""
        return {} if self._engine is None else dict(self._engine.nodes)

    def _stop_engine(self) -> Mapping[str, str]:
        """End an engine: what it computed counts, also where no test came to ask for it.

        Returns:
            The key of every cell that it computed → where.
        """
        if self._engine is None:
            return {}
        self._engine.stop()
        self.bench.engine = None
        nodes = self._engine.nodes
        for case in self.plan.cases:
            plain = case.judging is None and not case.candidates and not is_given(case)
            with suppress(ModelError):  # a model out of reach: its cells were not begun
                if plain and self.bench.cell(case).key in nodes:
                    self._computed.add(case.id)
        return nodes

    def _exams(self) -> list[ExamScores]:
        """How the judges of the run did in their examinations."""
        found: dict[str, ExamScores] = {}
        for case in self.plan.cases:
            if case.judging is not None:
                exam = self.bench.examining.known(case, case.judging)
                found |= {} if exam is None else {repr(exam): exam}
        return list(found.values())

    def check_baseline(self) -> None:
        """See that the baseline can be compared with, or written, before anything is computed.

        Raises:
            AdaptbenchError: it is not there or damaged, or its rows or metric are others.
        """
        options = self.plan.options
        if options.baseline is not None and options.update_baseline:
            check_replaceable(options.baseline)
        elif options.baseline is not None:
            task = self.plan.task
            baseline = read_baseline(options.baseline)
            metrics = self.plan.metrics
            known = {metric.name: metric.defined(task.examples) for metric in metrics}
            check_metrics(baseline, known)
            check_rows(baseline, task.name, row_digests(task))

    def _judge(self, snapshot: Snapshot, metrics: Sequence[Metric]) -> None:
        """Hold the run to its baseline, or make it the baseline."""
        options = self.plan.options
        if options.baseline is None:
            return
        if not options.update_baseline:
            terms = Terms(options.baseline, options.tolerance, options.gate_strict)
            self.gate = hold(terms, snapshot, metrics)
            return
        try:
            self.updated = update_baseline(options.baseline, snapshot)
        except AdaptbenchError as error:
            self.gate_trouble = str(error)

    @property
    def passed(self) -> bool:
        """Whether nothing stands in the way of exit status 0 but the tests themselves."""
        if self.trouble is not None or self.gate_trouble is not None:
            return False
        return self.gate is None or self.gate.passed

    def _counts(self, case: Case) -> bool:
        """Whether what the store has of this case may be reported.

        Not if measuring it failed just now, and with --fresh only if it was computed just now.
        """
        if case.id in self._failures and case.id not in self._measured:
            return False
        return case.id in self._computed or not self.plan.options.fresh

    def headline(self) -> str:
        """What is going to be measured, in one line."""
        task, cases = self.plan.task, self.plan.cases
        models = ", ".join(dict.fromkeys(case.model_name for case in cases))
        what = "in the test set" if task.leaks else "left out"
        copies = f", {len(task.excluded)} training rows {what}" if task.excluded else ""
        options = self.plan.options
        trial = " (a trial of it, because of --limit)" if options.trial else ""
        recipe = (
            f"recipe {options.recipe.name.removesuffix('.toml')}{trial} · "
            if options.recipe
            else ""
        )
        # Files of answers, of which there is no model, come first, and judges last.
        where = [case for case in cases if case.judging is None][-1]
        on = "" if is_given(where) else f", {where.dtype} on {where.device}"
        return (
            f"adaptbench: {recipe}{counted(len(cases), 'cell')} · "
            f"{task.name}, {counted(len(task.examples), 'row')}{copies} · {models}{on}"
        )

    def close(self) -> None:
        """Let go of models, the engine and the terminal."""
        if self._engine is not None:
            self._engine.stop()
        self.bench.close()
        if self._line is not None:
            self._line.terminal.close()
