"""What flags ask for besides models: rows, metrics, what is observed, who judges it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.config.flags import BY_FIELD
from harness.config.options import Options
from harness.core import DecodingSpec, Example, Task
from harness.data.named import load_named_task
from harness.data.rows import Reading
from harness.data.task import load_task
from harness.errors import OptionError
from harness.judging.rubric import Rubric, load_rubric
from harness.metrics.base import Metric
from harness.metrics.find import GROUPS, select_metrics
from harness.metrics.judged import Judge, on_scale
from harness.models.fingerprint import resolve_device, resolve_dtype
from harness.models.sources import Source, parse_source
from harness.run.case import Case, Judging
from harness.training.spec import held_out_rows

CHOSEN = "chosen"  # the name of a decoding that held-out rows decide on
ENDPOINT = "openai"  # what --judge begins with where a server has the judge
USUAL = {"single": "helpful", "pairwise": "pairwise"}  # rubrics
KIND_NAMES = {"single": "of one answer", "pairwise": "of two answers"}


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
    written = {"answer", "rating", "preference"} & read or options.given("decode")
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
    task = load_task(options.data, pool, options.limit, how, options.allow_leakage)
    return replace(task, warnings=(*task.warnings, *_half_shipped(options)))


def _half_shipped(options: Options) -> list[str]:
    """A warning where one file of rows is the user's and the other comes with adaptbench."""
    if not asks_models(options) or tuple(options.strategy) == ("zeroshot",):
        return []
    shipped = {name: BY_FIELD[name].default for name in ("data", "train_data")}
    if options.data != shipped["data"] and options.train_data == shipped["train_data"]:
        return [
            f"{options.data}: the training rows are those that come with adaptbench, which may be "
            f"of another task; name your own with --train-data"
        ]
    if options.data == shipped["data"] and options.train_data != shipped["train_data"]:
        return [
            f"{options.train_data}: the test rows are those that come with adaptbench, which may "
            f"be of another task; name your own with --data"
        ]
    return []


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
    """Cases in which a judge rates the answers of others, or compares them; none without a metric.

    Raises:
        OptionError: there is no judge, its rubric is unusable, or there is nothing to compare.
    """
    reads = {metric.observes: metric.name for metric in reversed(metrics)}
    found: list[Case] = []
    if "rating" in reads:
        rubric = _judged_by(options, "single", reads["rating"])
        found += [_rated(options, case, rubric) for case in cases if case.decoding is not None]
    if "preference" in reads:
        rubric = _judged_by(options, "pairwise", reads["preference"])
        pairs = [_compared(options, *pair, rubric) for pair in _pairs(options, cases)]
        if not pairs:
            raise OptionError(
                f"--metrics={reads['preference']}: compares answers of two strategies under one "
                f"model, prompt and decoding, one of them {options.control} (--control), and there "
                f"are none"
            )
        found += pairs
    return found


def _judged_by(options: Options, kind: str, metric: str) -> Rubric:
    """The rubric of a kind; --judge alone, without a metric, is for suites/test_judge.py.

    Raises:
        OptionError: no judge is named, or the rubric is unusable.
    """
    if options.judge is None:
        raise OptionError(f"--metrics={metric}: needs --judge=NAME, the model that judges answers")
    return rubric_of(options, kind)


def rubric_of(options: Options, kind: str) -> Rubric:
    """The rubric of a kind, ``single`` or ``pairwise``, that flags name; the usual one by default.

    Raises:
        OptionError: it is unusable, or two of a kind are named.
    """
    named = [load_rubric(name) for name in options.rubric]
    alike = [rubric for rubric in named if rubric.kind == kind]
    if len(alike) > 1:
        raise OptionError(
            f"--rubric={','.join(options.rubric)}: {alike[0].name} and {alike[1].name} are both "
            f"{KIND_NAMES[kind]}; name one of a kind"
        )
    return alike[0] if alike else load_rubric(USUAL[kind])


def _rated(options: Options, case: Case, rubric: Rubric) -> Case:
    judging = judging_of(options, rubric, case)
    return replace(case, id=f"{case.id}-judged", source=judging.source, judging=judging)


def _compared(options: Options, case: Case, other: Case, rubric: Rubric) -> Case:
    judging = judging_of(options, rubric, case, other)
    # Where only the other is seeded, its seeds are the pair's.
    seeded = f"-s{other.seed}" if case.seed is None and other.seed is not None else ""
    return replace(
        case,
        id=f"{case.id}-vs-{other.label}{seeded}",
        source=judging.source,
        judging=judging,
        seed=other.seed if case.seed is None else case.seed,
    )


def _pairs(options: Options, cases: Sequence[Case]) -> list[tuple[Case, Case]]:
    """Cases whose answers are compared: with the control's, or every two of them."""
    written = [case for case in cases if case.decoding is not None]
    every = options.pairs == "all"
    labels = list(dict.fromkeys(case.label for case in written))
    # The control is what the others are compared with; of two others, what was named first.
    ranks = {label: (label != options.control, labels.index(label)) for label in labels}
    if not every and options.control not in ranks and written:
        ranks[written[0].label] = (False, 0)  # of files, the first is the control
    found = []
    for case in written:
        for other in written:
            against = not ranks[other.label][0] or every
            if against and ranks[other.label] < ranks[case.label] and _comparable(case, other):
                found.append((case, other))
    return found


def _comparable(case: Case, other: Case) -> bool:
    """Whether two cases differ in their strategy alone; the quantization goes with it."""
    places = [(one.model_name, one.template.name, one.decoding_name) for one in (case, other)]
    seeds = {case.seed, other.seed} - {None}
    return places[0] == places[1] and len(seeds) < 2


def judging_of(
    options: Options, rubric: Rubric, answered: Case, other: Case | None = None
) -> Judging:
    """The judge that flags name, of the answers of a case, or of them and others.

    Raises:
        ModelError: the model cannot be used.
    """
    assert options.judge is not None
    dtype = resolve_dtype(options.dtype, device_of(options))
    scheme, found, name = options.judge.partition(":")
    if found and scheme == ENDPOINT:
        source = Source("endpoint", name)
    else:
        source = parse_source(options.judge)
    return Judging(source, dtype, rubric, answered, other)


def as_judged(options: Options, metrics: Sequence[Metric]) -> tuple[Metric, ...]:
    """The metrics, a judge's score on the scale of its rubric."""
    return tuple(
        on_scale(*rubric_of(options, "single").limits) if isinstance(metric, Judge) else metric
        for metric in metrics
    )


def device_of(options: Options) -> str:
    """The device of every case: of an engine's slots, ``cuda`` may be where this machine has none.

    Raises:
        OptionError: this machine is to compute with ``cuda``, and has none.
    """
    elsewhere = options.engine != "here" and options.device == "cuda"
    return "cuda" if elsewhere else resolve_device(options.device)
