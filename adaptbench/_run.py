"""A sweep without pytest: run it, load it, look at it in a script or a notebook."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import IO, TYPE_CHECKING

from harness.errors import AdaptbenchError, OptionError, suggest
from harness.gate.verdict import Gate, Terms
from harness.records import Measurement
from harness.results.brought import brought
from harness.results.manifest import Manifest
from harness.results.reading import metrics_of, read_run

if TYPE_CHECKING:
    from pandas import DataFrame

    from harness.config.options import Options
    from harness.metrics.base import Metric
    from harness.report.nouns import Report
    from harness.run.plan import Plan
    from harness.session import Session

GATE = ("baseline", "update_baseline", "tolerance", "gate_strict")
# Of a row of the table in a notebook.
FACTS = ("metric", "label", "model", "quantization", "dtype", "prompt", "decoding", "seeds")
NUMBERS = ("mean", "std", "95 % low", "95 % high", "p")


class Run:
    """A finished run: its measurements, and what can be read from them.

    Attributes:
        folder: the results directory.
        measurements: cell id → what was measured.
        missing: cell id → why it was not.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        measured: Mapping[str, Measurement],
        formats: tuple[str, ...] = (),
        templates: Path | None = None,
        languages: tuple[str, ...] = ("en",),
    ) -> None:
        self.folder = folder
        self.measurements: dict[str, Measurement] = dict(measured)
        self.missing: dict[str, str] = {
            entry.id: entry.reason or "not run" for entry in manifest.entries if entry.cell is None
        }
        self._manifest = manifest
        self._formats = formats
        self._templates = templates
        self._languages = languages

    @cached_property
    def _metrics(self) -> list[Metric]:
        return metrics_of(self._manifest, self.folder)

    @cached_property
    def _content(self) -> Report:
        """What a report says: the one place that knows how it is made."""
        from harness.report.publish import compose

        return compose(self._manifest, self.measurements, self._metrics)

    @property
    def conclusions(self) -> list[str]:
        """What the numbers support, in sentences, the most important first."""
        return list(self._content.conclusions)

    @property
    def table(self) -> DataFrame:
        """The main table: a row for each strategy over its seeds, every number as it is."""
        from harness.report.tables import frame

        return frame(self._content)

    def report(
        self,
        path: str | os.PathLike[str] | None = None,
        gate: Gate | None = None,
        lang: str | Sequence[str] | None = None,
    ) -> Path:
        """Write ``report.md``, ``report.html`` and what belongs to them.

        Args:
            path: the folder to write into; by default the results directory.
            gate: what :meth:`gate` returned, to stand in the report.
            lang: languages, as ``--lang`` takes them or in a list; ``zh-TW`` writes
                ``report.zh-TW.md`` and ``report.zh-TW.html``. By default those of the run.

        Returns:
            The path of the HTML file, in the first of the languages.

        Raises:
            StoreError: a file cannot be written.
            OptionError: there is no such language, or one of the user's templates does not work.
        """
        from harness.report.language import suffixed
        from harness.report.publish import Style, publish

        tags = self._languages if lang is None else _languages(lang)
        folder = self.folder if path is None else Path(path)
        style = Style(self._formats, self._templates, tags)
        publish(folder, self._manifest, self.measurements, self._metrics, gate, style)
        return folder / suffixed("report.html", tags[0])

    def gate(
        self,
        baseline: str | os.PathLike[str],
        tolerance: float | str = 0.01,
        strict: bool = False,
    ) -> Gate:
        """Hold the run to a baseline; ``.passed`` of what is returned is the verdict.

        Args:
            baseline: a file that ``--update-baseline`` wrote.
            tolerance: the change for the worse that is acceptable, such as 0.01 or ``"1%"``.
            strict: whether a comparison that could not have seen such a change fails.

        Raises:
            OptionError: the tolerance is no share.
        """
        from harness.flag import OFFLINE
        from harness.gate.decision import hold
        from harness.results.snapshot import take

        try:
            share = OFFLINE["tolerance"].parse(str(tolerance))
        except ValueError as error:
            raise OptionError(f"tolerance={tolerance!r}: expected {error}") from None
        current = take(str(self.folder), self._manifest, self.measurements, self._metrics)
        return hold(Terms(Path(baseline), share, strict), current, self._metrics)

    def __repr__(self) -> str:
        from harness.report.formatting import visible
        from harness.report.tables import table

        report = self._content
        sections = report.sections if self.measurements else ()
        lines = [table(report, section) for section in sections]
        lines += [visible(line) for line in self._gaps()]
        return "\n".join(lines)

    def __str__(self) -> str:
        """The main tables, in characters that standard output can show."""
        from harness.report.console import readable

        return readable(repr(self), sys.stdout)

    def _repr_html_(self) -> str:
        """For notebooks: the sentences, then the table; every value is escaped."""
        lines = [f"<p>{escape(line)}</p>" for line in (*self.conclusions, *self._gaps())]
        frame = self.table
        for end in ("low", "high"):  # over seeds that were not run where it is known, as in reports
            if f"mean_{end}" in frame:
                seeds = frame[f"mean_seeds_{end}"].astype(float)
                frame[f"95 % {end}"] = seeds.where(seeds.notna(), frame[f"mean_{end}"])
        shown = [name for name in FACTS if name in frame and _tells_apart(frame, name)]
        shown += [name for name in NUMBERS if name in frame]
        table = frame[shown].to_html(
            index=False, escape=True, na_rep="–", float_format="{:.4g}".format
        )
        return "\n".join([*lines, table])

    def _gaps(self) -> list[str]:
        total = len(self.measurements) + len(self.missing)
        return [
            f"{len(self.missing)} of {total} cells are missing; {name}: {reason}"
            for name, reason in [*self.missing.items()][:1]
        ]


def _tells_apart(frame: DataFrame, column: str) -> bool:
    return column in ("label", "seeds") or frame[column].nunique(dropna=False) > 1


def load_run(path: str | os.PathLike[str]) -> Run:
    """Return the run of a results directory or of its URL, without data, model or torch.

    A cell whose file is gone or damaged is among the missing, with the reason.

    Raises:
        StoreError: there is no run, or it cannot be read.
    """
    folder = brought(path)
    return Run(folder, *read_run(folder))


def compare(
    *,
    settings: Mapping[str, object] | None = None,
    progress: bool = True,
    **flags: object,
) -> Run:
    """Run a sweep as ``adaptbench run`` does, in the same store, and return it.

    What is stored is not computed again. A cell that fails is among the run's missing ones, with
    the reason; the others are measured all the same. Ctrl-C keeps what is finished, and
    :func:`load_run` finds it. Defaults stand in ``[tool.adaptbench]`` of ``pyproject.toml`` in the
    working directory, if there is one.

    Args:
        settings: what ``--set`` says, by key: ``{"qlora.max_steps": 10}``.
        progress: whether stderr says what is being measured.
        flags: every flag of ``adaptbench run`` but the gate's and the dry runs', by its name with
            ``_`` for ``-``: a text, a number, a path, True, or a list of these.

    Raises:
        OptionError: one line naming the argument, the value found and what would be right.
        AdaptbenchError: nothing could be measured; the first reason.
    """
    from harness.run.plan import make_plan

    plan = make_plan(_options(flags, settings or {}))
    return _measured(plan, progress)


def _options(flags: Mapping[str, object], settings: Mapping[str, object]) -> Options:
    from dataclasses import replace

    from harness.config.flags import BY_FIELD
    from harness.config.options import parse_options
    from harness.config.recipe import read_pyproject

    for name in flags:
        if name == "set":
            raise OptionError('compare(set=…): expected settings={"KEY": VALUE}')
        if name in GATE:
            raise OptionError(f"compare({name}=…): the gate is asked afterwards, by Run.gate()")
        if name not in BY_FIELD:
            known = [*BY_FIELD, "settings", "progress"]
            raise OptionError(f"compare({name}=…): no such argument{suggest(name, known)}")
    texts: dict[str, object] = {name: _plain(value) for name, value in flags.items()}
    texts["set"] = [f"{key}={_toml(value)}" for key, value in settings.items()]
    options = parse_options(texts, read_pyproject(Path("pyproject.toml").absolute()))
    for name in ("dry_run", "judge_dry_run"):
        if getattr(options, name):
            flag = BY_FIELD[name].name
            raise OptionError(f"compare({name}=…): measures; adaptbench run --{flag} says only")
    return replace(options, baseline=None)


def _plain(value: object) -> object:
    """A value as the command line or a file would have it."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _toml(value: object) -> str:
    try:
        return json.dumps(_plain(value), ensure_ascii=False)
    except TypeError:
        kind = type(value).__name__
        raise OptionError(f"settings: expected a text, a number or a list, found {kind}") from None


def _measured(plan: Plan, progress: bool) -> Run:
    from harness.session import Session

    width = shutil.get_terminal_size().columns
    session = Session(plan, _terminal() if progress else None, width)
    try:
        session.start()
        try:
            failed = _measure_all(session, progress)
        finally:  # also after Ctrl-C
            manifest, measured = session.record()
            session.write_predictions(measured)
            session.share()
    finally:
        session.close()
    if failed and not measured:
        raise failed[0]
    options = plan.options
    looks = options.report, options.templates, options.lang
    return Run(options.results_dir, manifest, measured, *looks)


def _languages(lang: str | Sequence[str]) -> tuple[str, ...]:
    from harness.flag import OFFLINE

    text = lang if isinstance(lang, str) else ",".join(lang)
    try:
        tags: tuple[str, ...] = OFFLINE["lang"].parse(text)
    except ValueError as error:
        raise OptionError(f"lang={lang!r}: expected {error}") from None
    return tags


def _measure_all(session: Session, progress: bool) -> list[AdaptbenchError]:
    """Measure every case; return what went wrong."""
    failed = []
    cases = session.plan.cases
    for number, case in enumerate(cases, start=1):
        began = time.monotonic()
        try:
            cached = session.measure(case, lambda: 0).cached
        except AdaptbenchError as error:
            failed.append(error)
            session.saw(case.id, None, str(error))
            what = str(error)
        else:
            session.saw(case.id, "cached" if cached else "computed", None)
            what = "stored" if cached else f"{time.monotonic() - began:.1f} s"
        if progress:
            print(f"{number} of {len(cases)}: {case.id}: {what}", file=sys.stderr, flush=True)
    return failed


def _terminal() -> IO[str] | None:
    if not sys.stderr.isatty():
        return None
    from harness.report import console

    return console.copy_of(sys.stderr)
