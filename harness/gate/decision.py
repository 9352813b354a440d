"""The regression gate: every cell against its stored predecessor, row by row, under every metric.

A cell fails only if two things hold: it got worse beyond chance (one-sided paired permutation test
on the values that a metric tests, Holm-adjusted over all comparisons, below 0.05), and by more than
the tolerance. Whatever cannot be compared fails too, with a line that says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from harness.errors import AdaptbenchError
from harness.gate.comparable import check_metrics, check_rows
from harness.gate.verdict import FAILING, STATUSES, Gate, Terms, Verdict, regressed
from harness.gate.words import Words
from harness.messages import listed, say
from harness.metrics.base import Metric
from harness.results.baseline import read_baseline
from harness.results.snapshot import Rows, Snapshot, Values, changes, differences
from harness.statistics.family import Change, Pair, compare_family
from harness.statistics.paired import ALPHA

NOISE_FACTOR = 3  # the tolerance should be at least so many times the noise of scoring
SHOWN = 3
_JUDGES = {"judge": say("judge"), "rubric": say("rubric")}
FLOOR = 1e-4  # two machines agree on a mean to this; a smaller change is none


def judge(
    current: Snapshot,
    baseline: Snapshot,
    tolerance: float,
    strict: bool,
    metrics: Sequence[Metric],
) -> Gate:
    """Compare every cell of a run with the baseline's of the same id.

    Args:
        current: the run.
        baseline: what it is compared with.
        tolerance: change for the worse that is acceptable, as a share: on a log scale of what is
            shown, on a linear scale of the metric's span.
        strict: whether a comparison that could not have seen such a change fails.
        metrics: those of the run.

    Raises:
        GateError: the two cannot be compared at all.
    """
    check_metrics(baseline, current.definitions)
    check_rows(baseline, current.task, current.rows)
    verdicts, pairs = _sorted_out(current, baseline, metrics)
    verdicts += _compared(pairs, current, baseline, tolerance, strict)
    order = {name: place for place, name in enumerate([*current.cells, *baseline.cells])}
    verdicts.sort(key=lambda v: (not v.fails, STATUSES.index(v.status), order[v.cell]))
    return Gate(
        baseline.where,
        tolerance,
        strict,
        len(pairs),
        tuple(verdicts),
        tuple(differences(current, baseline)),
        tuple(_notes(current, baseline, tolerance)),
        titles=tuple((metric.name, Words(metric).tested) for metric in metrics),
    )


def _sorted_out(
    current: Snapshot, baseline: Snapshot, metrics: Sequence[Metric]
) -> tuple[list[Verdict], dict[tuple[str, str], Pair]]:
    """The verdicts on what cannot be compared, and by cell and metric what can."""
    verdicts: list[Verdict] = []
    pairs: dict[tuple[str, str], Pair] = {}
    for name in [*current.cells, *(n for n in baseline.cells if n not in current.cells)]:
        found = _before_numbers(name, current, baseline)
        verdicts += found
        for metric in () if found else _of_cell(name, metrics, current):
            verdict = _before_comparing(name, metric, current, baseline)
            if verdict is None:
                pairs[name, metric.name] = _pair(name, metric, current, baseline)
            else:
                verdicts.append(verdict)
    return verdicts, pairs


def _of_cell(name: str, metrics: Sequence[Metric], current: Snapshot) -> list[Metric]:
    """The metrics that read what the cell holds."""
    return [metric for metric in metrics if metric.name in current.cells[name].metrics]


def hold(terms: Terms, current: Snapshot, metrics: Sequence[Metric]) -> Gate:
    """Hold a run to its baseline; whatever keeps it from being compared is the gate's problem."""
    try:
        baseline = read_baseline(terms.baseline)
        return judge(current, baseline, terms.tolerance, terms.strict, metrics)
    except AdaptbenchError as error:
        where = str(terms.baseline)
        return Gate(where, terms.tolerance, terms.strict, problem=str(error))


def _pair(name: str, metric: Metric, current: Snapshot, baseline: Snapshot) -> Pair:
    now, before = (side.cells[name].metrics[metric.name] for side in (current, baseline))
    return Pair(metric, before.tested, now.tested)


def _compared(
    pairs: Mapping[tuple[str, str], Pair],
    current: Snapshot,
    baseline: Snapshot,
    tolerance: float,
    strict: bool,
) -> Iterator[Verdict]:
    """The verdicts of all comparisons, which are one family."""
    if not pairs:
        return
    found = compare_family(list(pairs.values()), list(current.rows), tolerance)
    for (name, _), pair, change in zip(pairs, pairs.values(), found, strict=True):
        changed = changes(current.cells[name], baseline.cells[name])
        yield _verdict(name, pair.metric, change, tolerance, strict, changed)


def _before_numbers(name: str, current: Snapshot, baseline: Snapshot) -> list[Verdict]:
    """The verdict on a cell that has nothing to compare with, whatever the metric."""
    if name not in current.cells:
        return [_missing(name, current, baseline)]
    if name in baseline.cells:
        return []
    now = current.cells[name]
    if now.nonfinite:
        return [_not_finite(name, "", now.nonfinite, list(current.rows))]
    return [Verdict(name, "NEW", say("not in the baseline; --update-baseline adds it"))]


def _missing(name: str, current: Snapshot, baseline: Snapshot) -> Verdict:
    reason = current.missing.get(name, say("this run does not ask for it"))
    twins = [
        other
        for other, rows in current.cells.items()
        if other not in baseline.cells and rows.key == baseline.cells[name].key
    ]
    if twins:
        reason = say(
            "{reason}; {twin} computes the same, so it was renamed", reason=reason, twin=twins[0]
        )
    line = say(
        "in the baseline, but not measured: {reason}; run it as it was, or accept the change with "
        "--update-baseline",
        reason=reason,
    )
    return Verdict(name, "MISSING", line, fails=True)


def _not_finite(
    name: str, metric: str, places: Sequence[int], ids: Sequence[str], unjudged: bool = False
) -> Verdict:
    shown = ", ".join(repr(ids[index]) for index in places[:SHOWN])
    known = {"n": len(places), "rows": shown}
    line = (
        say("{n} rows are unjudged: {rows}", **known)
        if unjudged
        else say("{n} rows are not finite: {rows}", **known)
    )
    return Verdict(name, "FAIL", line, fails=True, metric=metric)


def _before_comparing(
    name: str, metric: Metric, current: Snapshot, baseline: Snapshot
) -> Verdict | None:
    """The verdict on a cell whose values under a metric cannot be compared, or None."""
    now, before = current.cells[name], baseline.cells[name]
    ours, theirs = now.metrics[metric.name], before.metrics.get(metric.name)
    ids = list(current.rows)
    if ours.nonfinite:
        return _not_finite(name, metric.name, ours.nonfinite, ids, metric.partial)
    judge = [what for what in ("judge", "rubric") if now.facts.get(what) != before.facts.get(what)]
    if metric.observes in ("rating", "preference") and judge:
        line = say(
            "the {what} is another than in the baseline, and what two judges say can not be "
            "compared; --update-baseline begins anew",
            what=listed((_JUDGES[one] for one in judge), " and the "),
        )
        return Verdict(name, "FAIL", line, fails=True, metric=metric.name)
    if theirs is None:
        line = say(
            "the metric {name} is not in the baseline; --update-baseline adds it", name=metric.name
        )
        return Verdict(name, "NEW", line, metric=metric.name)
    return _other_denominators(name, metric, ours, theirs, ids, changes(now, before))


def _other_denominators(
    name: str,
    metric: Metric,
    ours: Values,
    theirs: Values,
    ids: Sequence[str],
    changed: tuple[str, ...],
) -> Verdict | None:
    pairs = zip(ids, ours.denominators or (), theirs.denominators or (), strict=False)
    for row, new, old in pairs:
        if new != old:
            line = say(
                "row {row} has {new} scored tokens, in the baseline {old}: the tokenizer is "
                "another, and such values of {noun} can not be compared; --update-baseline begins "
                "anew",
                row=repr(row),
                new=new,
                old=old,
                noun=metric.noun,
            )
            return Verdict(name, "FAIL", line, fails=True, metric=metric.name, changed=changed)
    return None


def _verdict(
    name: str,
    metric: Metric,
    change: Change,
    tolerance: float,
    strict: bool,
    changed: tuple[str, ...],
) -> Verdict:
    words, (status, blind) = Words(metric), _status(metric, change, tolerance)
    p = change.p_better if status == "IMPROVED" else change.p_worse
    line = words.line(change, status, p)
    notes = words.why(change, status, tolerance, blind)
    note = listed(notes, "; ")
    return Verdict(
        cell=name,
        status=status,
        line=listed((line, note), "; ") if note else line,
        metric=metric.name,
        note=note,
        fails=status in FAILING or (strict and blind),
        effect=change.effect,
        p=p,
        mean_effect=change.mean_effect,
        detectable=change.detectable,
        rows_needed=change.rows_needed if blind else None,
        drivers=change.drivers,
        changed=changed,
    )


def _status(metric: Metric, change: Change, tolerance: float) -> tuple[str, bool]:
    """The word, and whether a change as large as the tolerance could have gone unseen."""
    worsening, allowed = metric.worsening * change.effect.estimate, Words(metric).allowed(tolerance)
    better = worsening < metric.effect(-metric.bound(tolerance))
    improved = change.p_better < ALPHA and better
    blind = not change.detectable <= allowed and not improved
    least = change.mean_effect.low if metric.worsening > 0 else -change.mean_effect.high
    if regressed(change.p_worse, worsening, allowed):
        return "FAIL", blind
    if least > FLOOR * (1.0 if metric.scale == "log" else metric.span):
        return "WARN", blind
    if blind:
        return "INCONCLUSIVE", blind
    return ("IMPROVED" if improved else "OK"), blind


def _notes(current: Snapshot, baseline: Snapshot, tolerance: float) -> list[str]:
    cells: list[tuple[str, Rows]] = [*current.cells.items(), *baseline.cells.items()]
    noises = [(rows.noise, name) for name, rows in cells if rows.noise is not None]
    if not noises:
        return []
    noise, name = max(noises)
    if tolerance >= NOISE_FACTOR * noise:
        return []
    return [
        say(
            "--tolerance={tolerance}% is less than {times} times the noise of scoring: the "
            "geometric mean of {cell} moves by {noise} % when its rows are batched otherwise; a "
            "tolerance of {enough} % or more is above it",
            tolerance=f"{100 * tolerance:g}",
            times=NOISE_FACTOR,
            cell=name,
            noise=f"{100 * noise:.2g}",
            enough=f"{100 * NOISE_FACTOR * noise:.2g}",
        )
    ]
