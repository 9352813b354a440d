"""The regression gate: every cell against its stored predecessor, row by row.

A cell fails only if two things hold: the rise of its geometric mean is beyond chance (one-sided
paired permutation test on log perplexity, Holm-adjusted over all compared cells, below 0.05), and
it is larger than the tolerance. Whatever can not be compared fails too, with a line that says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import AdaptbenchError, GateError
from harness.gate.verdict import ALPHA, FAILING, STATUSES, Gate, Terms, Verdict, regressed
from harness.results.baseline import read_baseline
from harness.results.snapshot import Snapshot, changes, differences

NOISE_FACTOR = 3  # the tolerance should be at least so many times the noise of scoring
SHOWN = 3
FLOOR = 1e-4  # two machines agree on a mean to this; a smaller rise is none
ANEW = ", or write a new one with --update-baseline"
NEVER = "no number of rows would show one within the tolerance"


def check_rows(baseline: Snapshot, task: str, rows: Mapping[str, str], remedy: str = ANEW) -> None:
    """See that a run's test rows are the baseline's, in the same order.

    Args:
        baseline: what is compared with.
        task: the name of the run's task.
        rows: id → digest of every test row of the run.
        remedy: what there is to do besides comparing on the same rows.

    Raises:
        GateError: they are not; the message names a row.
    """
    what = f"{baseline.where}: its test rows are not those of {task}"
    do = f"compare on the same rows{remedy}"
    gone = [name for name in baseline.rows if name not in rows]
    new = [name for name in rows if name not in baseline.rows]
    if gone or new:
        sizes = f"{len(baseline.rows)} rows there, {len(rows)} here"
        example = f"row {gone[0]!r} is missing" if gone else f"row {new[0]!r} is new"
        raise GateError(f"{what}: {sizes}, {example}; {do}")
    changed = [name for name, content in rows.items() if content != baseline.rows[name]]
    if changed:
        more = f", and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise GateError(f"{what}: row {changed[0]!r} has another text{more}; {do}")
    if list(rows) != list(baseline.rows):
        raise GateError(f"{what}: they stand in another order; {do}")


def check_metric(baseline: Snapshot, metric: Mapping[str, str]) -> None:
    """See that the baseline's numbers mean the same.

    Raises:
        GateError: they do not.
    """
    for name in dict.fromkeys([*metric, *baseline.metric]):
        before, now = baseline.metric.get(name), metric.get(name)
        if before != now:
            raise GateError(
                f"{baseline.where}: another definition of the metric: its {name} is {before!r}, "
                f"this adaptbench's {now!r}; write a new one with --update-baseline"
            )


def judge(current: Snapshot, baseline: Snapshot, tolerance: float, strict: bool) -> Gate:
    """Compare every cell of a run with the baseline's of the same id.

    Args:
        current: the run.
        baseline: what it is compared with.
        tolerance: relative rise of the geometric mean that is acceptable, e.g. 0.01.
        strict: whether a comparison that could not have seen such a rise fails.

    Raises:
        GateError: the two can not be compared at all.
    """
    check_metric(baseline, current.metric)
    check_rows(baseline, current.task, current.rows)
    verdicts, comparable = [], []
    for name in [*current.cells, *(n for n in baseline.cells if n not in current.cells)]:
        verdict = _without_numbers(name, current, baseline)
        if verdict is None:
            comparable.append(name)
        else:
            verdicts.append(verdict)
    if comparable:
        from harness.statistics.family import compare

        pairs = [(current.cells[name], baseline.cells[name]) for name in comparable]
        for name, pair, facts in zip(
            comparable, pairs, compare(pairs, list(current.rows), tolerance), strict=True
        ):
            verdicts.append(_verdict(name, facts, tolerance, strict, changes(*pair)))
    order = {name: place for place, name in enumerate([*current.cells, *baseline.cells])}
    verdicts.sort(key=lambda v: (not v.fails, STATUSES.index(v.status), order[v.cell]))
    return Gate(
        baseline.where,
        tolerance,
        strict,
        len(comparable),
        tuple(verdicts),
        tuple(differences(current, baseline)),
        tuple(_notes(current, baseline, tolerance)),
    )


def hold(terms: Terms, current: Snapshot) -> Gate:
    """Hold a run to its baseline; whatever keeps it from being compared is the gate's problem."""
    try:
        return judge(current, read_baseline(terms.baseline), terms.tolerance, terms.strict)
    except AdaptbenchError as error:
        where = str(terms.baseline)
        return Gate(where, terms.tolerance, terms.strict, problem=str(error))


def _without_numbers(name: str, current: Snapshot, baseline: Snapshot) -> Verdict | None:
    """The verdict on a cell that can not be compared, or None."""
    now, before = current.cells.get(name), baseline.cells.get(name)
    if now is None:
        reason = current.missing.get(name, "this run does not ask for it")
        twins = [
            other
            for other, rows in current.cells.items()
            if other not in baseline.cells and rows.key == baseline.cells[name].key
        ]
        hint = f"; {twins[0]} computes the same, so it was renamed" if twins else ""
        return Verdict(
            name,
            "MISSING",
            f"in the baseline, but not measured: {reason}{hint}; run it as it was, or accept "
            f"the change with --update-baseline",
            fails=True,
        )
    ids = list(current.rows)
    if now.nonfinite:
        shown = ", ".join(repr(ids[index]) for index in now.nonfinite[:SHOWN])
        return Verdict(
            name, "FAIL", f"{len(now.nonfinite)} rows are not finite: {shown}", fails=True
        )
    if before is None:
        return Verdict(name, "NEW", "not in the baseline; --update-baseline adds it")
    for index, (new, old) in enumerate(zip(now.tokens, before.tokens, strict=True)):
        if new != old:
            line = (
                f"row {ids[index]!r} has {new} scored tokens, in the baseline {old}: the "
                f"tokenizer is another, and such perplexities can not be compared; "
                f"--update-baseline begins anew"
            )
            return Verdict(name, "FAIL", line, fails=True, changed=changes(now, before))
    return None


def _verdict(
    name: str, facts: Mapping[str, Any], tolerance: float, strict: bool, changed: tuple[str, ...]
) -> Verdict:
    ratio, mean, p = facts["ratio"], facts["mean_ratio"], facts["p"]
    detectable, needed = facts["detectable"], facts["rows_needed"]
    failed = regressed(p, ratio[0], tolerance)
    improved = facts["p_less"] < ALPHA and ratio[0] < 1 / (1 + tolerance)
    blind = not detectable <= tolerance and not improved
    change = f"geometric mean {_percent(ratio)}, adjusted p {_p(p)}"
    notes = []
    heavy = [part for part in facts["drivers"] if part[1] > tolerance]
    if failed:
        status = "FAIL"
        notes.append(f"tolerance {100 * tolerance:g} %")
    elif mean[1] > 1 + FLOOR:
        status = "WARN"
        change = f"arithmetic mean {_percent(mean)}; {change}"
    elif blind:
        status = "INCONCLUSIVE"
    elif improved:
        status = "IMPROVED"
        change = f"geometric mean {_percent(ratio)}, adjusted p {_p(facts['p_less'])}"
    else:
        status = "OK"
    if status in ("FAIL", "WARN"):
        notes += _drivers(facts["drivers"])
    elif status == "INCONCLUSIVE":
        notes += _drivers(heavy)
    if blind and not failed:
        notes.append(
            f"a rise of less than {100 * detectable:.3g} % could have gone unseen; "
            + (f"{needed} rows would show one of {100 * tolerance:g} %" if needed else NEVER)
        )
    note = "; ".join(notes)
    return Verdict(
        cell=name,
        status=status,
        line=f"{change}; {note}" if note else change,
        note=note,
        fails=status in FAILING or (strict and blind),
        ratio=ratio,
        p=facts["p_less"] if status == "IMPROVED" else p,
        mean_ratio=mean,
        detectable=detectable,
        rows_needed=needed if blind else None,
        drivers=tuple(facts["drivers"]),
        changed=changed,
    )


def _drivers(drivers: Sequence[tuple[str, float]]) -> list[str]:
    rising = [f"{name!r} {100 * part:+.1f} %" for name, part in drivers if part > 0]
    return [f"most in the mean: {', '.join(rising)}"] if rising else []


def _percent(ratio: Sequence[float]) -> str:
    estimate, low, high = (100 * (value - 1) for value in ratio)
    return f"{estimate:+.2f} % [{low:+.2f}, {high:+.2f}]".replace("-", "−")


def _p(value: float) -> str:
    return f"{value:.2g}" if value >= 0.001 else f"{value:.0e}"


def _notes(current: Snapshot, baseline: Snapshot, tolerance: float) -> list[str]:
    cells = [*current.cells.items(), *baseline.cells.items()]
    noises = [(rows.noise, name) for name, rows in cells if rows.noise is not None]
    if not noises:
        return []
    noise, name = max(noises)
    if tolerance >= NOISE_FACTOR * noise:
        return []
    return [
        f"--tolerance={100 * tolerance:g}% is less than {NOISE_FACTOR} times the noise of scoring: "
        f"the geometric mean of {name} moves by {100 * noise:.2g} % when its rows are batched "
        f"otherwise; a tolerance of {100 * NOISE_FACTOR * noise:.2g} % or more is above it"
    ]
