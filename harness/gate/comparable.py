"""What must be the same before a run may be compared with a baseline: test rows, definitions."""

from __future__ import annotations

from collections.abc import Mapping

from harness.errors import GateError
from harness.results.snapshot import Snapshot

ANEW = ", or write a new one with --update-baseline"


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


def check_metrics(baseline: Snapshot, definitions: Mapping[str, Mapping[str, str]]) -> None:
    """See that the baseline's numbers mean the same, and that none of its metrics is left out.

    Args:
        baseline: what is compared with.
        definitions: of the run's metrics, by name.

    Raises:
        GateError: they do not, or one is.
    """
    for name, known in baseline.definitions.items():
        if name not in definitions:
            raise GateError(
                f"{baseline.where}: holds the metric {name!r} too, which this run does not read; "
                f"add it to --metrics, or write a new one with --update-baseline"
            )
        for part in dict.fromkeys([*definitions[name], *known]):
            before, now = known.get(part), definitions[name].get(part)
            if before != now:
                raise GateError(
                    f"{baseline.where}: another definition of the metric: its {part} is "
                    f"{before!r}, this adaptbench's {now!r}; write a new one with "
                    f"--update-baseline"
                )
