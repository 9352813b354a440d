"""What flags ask for besides models: rows, metrics, what is observed, who judges it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.config.options import Options
from harness.core import DecodingSpec, Example, Task
from harness.data.named import load_named_task
from harness.data.rows import Reading
from harness.data.task import load_task
from harness.errors import OptionError
from harness.judging.rubric import load_rubric
from harness.metrics.base import Metric
from harness.metrics.find import GROUPS, select_metrics
from harness.models.fingerprint import resolve_device, resolve_dtype
from harness.models.sources import parse_source
from harness.run.case import Case, Judging
from harness.training.spec import held_out_rows

CHOSEN = "chosen"  # the name of a decoding that held-out rows decide on


def asks_models(options: Options) -> bool:
    """Whether a model is asked for, and not only files of answers measured."""
    return not options.score_predictions or options.given("strategy")


def observed_by(options: Options) -> tuple[DecodingSpec | None, ...]:
    """What is observed of every adaptation: likelihoods (None), and answers by each decoding.

    Raises:
        MetricError: a metric is unknown or unusable.
        OptionError: so is a decoding.
    """
    read = {metric.observes for metric in select_metrics(options.metrics)}
    written = {"answer", "rating"} & read or options.given("decode")
    answers = options.decodings if written else ()
    if options.choose_decoding is not None:
        if len(answers) < 2:
            raise OptionError(
                f"--choose-decoding={options.choose_decoding}: {len(answers)} decodings to choose "
                f"from; name several with --decode"
            )
        answers = (replace(answers[0], name=CHOSEN),)
    return (*((None,) if "likelihood" in read else ()), *answers)


def readable(options: Options, task: Task) -> tuple[Metric, ...]:
    """The metrics; of a group, where rows have no reference, those that need none."""
    metrics = select_metrics(options.metrics)
    if options.score_predictions and "truncated" not in options.metrics:
        # A file does not say how its answers ended.
        metrics = tuple(metric for metric in metrics if metric.name != "truncated")
    if all(row.output for row in task.examples):
        return metrics
    return tuple(metric for metric in metrics if not metric.needs_reference)


def _needs_references(options: Options) -> bool:
    """Whether a metric that was named, not as one of a group, reads references."""
    named = select_metrics([name for name in options.metrics if name not in GROUPS])
    return any(metric.needs_reference for metric in named)


def read_task(options: Options) -> Task:
    """The rows; those of a test set without references only where no metric reads any.

    Raises:
        DataError: one line naming the file, the row and the field.
        OptionError: a flag about rows is wrong.
    """
    if options.templates is not None and not options.templates.is_dir():
        raise OptionError(f"--templates={options.templates}: no such folder")
    if options.task is not None:
        return load_named_task(options.task, options.limit, options.allow_leakage)
    how = Reading(
        options.format,
        options.columns,
        options.direction_pattern,
        options.skip_bad_rows,
        references=_needs_references(options),
    )
    pool = options.train_data if asks_models(options) else None
    return load_task(options.data, pool, options.limit, how, options.allow_leakage)


def hold_out(
    options: Options, task: Task, metrics: Sequence[Metric]
) -> tuple[Task, tuple[Example, ...]]:
    """The rows that choose decodings, and the task without them in its pool.

    Raises:
        OptionError: the pool is too small, or nothing is read of answers.
    """
    rows = options.choose_decoding
    if rows is None or not asks_models(options):
        return task, ()
    if not any(metric.observes == "answer" for metric in metrics):
        raise OptionError(
            f"--choose-decoding={rows}: no metric of --metrics reads answers, so nothing says "
            f"which are best; add one, such as chrf"
        )
    if rows > len(task.pool) // 2:
        raise OptionError(
            f"--choose-decoding={rows}: the training pool has {len(task.pool)} rows; half of them "
            f"at most may be held out"
        )
    held = held_out_rows(task.pool, rows, most=rows)
    ids = {row.id for row in held}
    return replace(task, pool=tuple(row for row in task.pool if row.id not in ids)), held


def judged_cases(options: Options, cases: Sequence[Case], metrics: Sequence[Metric]) -> list[Case]:
    """A case for every one with answers, in which a judge rates them; none if nothing reads that.

    Raises:
        OptionError: there is no judge, its rubric is unusable, or asks for references that are
            not there.
    """
    reads = [metric.name for metric in metrics if metric.observes == "rating"]
    if not reads:  # --judge alone is for suites/test_judge.py
        return []
    if options.judge is None:
        raise OptionError(f"--metrics={reads[0]}: needs --judge=NAME, the model that rates answers")
    return [
        replace(case, id=f"{case.id}-judged", source=judging.source, judging=judging)
        for case in cases
        if case.decoding is not None
        for judging in [judging_of(options, case)]
    ]


def judging_of(options: Options, answered: Case) -> Judging:
    """The judge that flags name, of the answers of a case.

    Raises:
        OptionError: its rubric is unusable, or compares two answers.
        ModelError: the model cannot be used.
    """
    assert options.judge is not None
    rubric = load_rubric(options.rubric)
    if rubric.kind != "single":
        raise OptionError(
            f"--rubric={options.rubric}: compares two answers; a score needs a rubric of kind "
            f"single, such as helpful"
        )
    dtype = resolve_dtype(options.dtype, device_of(options))
    return Judging(parse_source(options.judge), dtype, rubric, answered)


def device_of(options: Options) -> str:
    """The device of every case: of an engine's slots, ``cuda`` may be where this machine has none.

    Raises:
        OptionError: this machine is to compute with ``cuda``, and has none.
    """
    elsewhere = options.engine != "here" and options.device == "cuda"
    return "cuda" if elsewhere else resolve_device(options.device)
