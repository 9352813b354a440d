"""What a reader needs to look into single rows: texts, and every cell's numbers for each row.

Compact, because it stands inside the HTML report: numbers are rounded to what is shown, and a text
that stands in many prompts is kept once. Prompts are put together here, by the rules that they were
sent by (:mod:`harness.report.prompts`); the page paints the pieces that it is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.core import Example
from harness.messages import listed, say
from harness.metrics.base import Metric, reading
from harness.records import Measurement, Preference, Rating, Ruling
from harness.report.answers import faults
from harness.report.nouns import Explorer, ExplorerCell, ExplorerRow, Number, finite
from harness.report.prompts import Prompts, Strings, shared
from harness.results.manifest import Entry, Manifest
from harness.results.surprisal import ALPHABET, STEP


def explorer(
    manifest: Manifest, measured: Mapping[str, Measurement], metrics: Sequence[Metric]
) -> Explorer:
    """Collect rows and cells.

    Args:
        manifest: the run.
        measured: entry id → measurement.
        metrics: what is read from the observations.
    """
    strings = Strings()
    prompts = Prompts(manifest, strings)
    cells = tuple(
        _cell(entry, measured[entry.id], manifest, prompts, metrics)
        for entry in manifest.entries
        if entry.id in measured
    )
    return Explorer(
        rows=tuple(
            ExplorerRow(row.id, row.instruction, row.output, row.tags) for row in manifest.rows
        ),
        cells=cells,
        strings=strings.all,
        alphabet=ALPHABET,
        step=STEP,
    )


def _cell(
    entry: Entry,
    measurement: Measurement,
    manifest: Manifest,
    prompts: Prompts,
    metrics: Sequence[Metric],
) -> ExplorerCell:
    pieces, note = prompts.of(measurement, prompts.templates.get(entry.prompt))
    same = shared(pieces)
    return ExplorerCell(
        id=entry.id,
        model=entry.model,
        quantization=entry.quantization,
        dtype=entry.dtype,
        prompt=entry.prompt,
        decoding=entry.decoding,
        against=entry.against,
        observes=entry.observes,
        label=entry.label,
        seed=entry.seed,
        values=tuple(
            _values(metric, measurement, manifest.rows) if metric.observes == entry.observes else ()
            for metric in metrics
        ),
        tokens=tuple(one.n_tokens for one in measurement.likelihoods),
        surprisal=tuple(one.surprisal for one in measurement.likelihoods),
        answers=_answers(measurement, prompts.strings),
        faults=faults(measurement, manifest.rows),
        shared=tuple(pieces[0][:same]) if pieces else (),
        own=tuple(tuple(row[same:]) for row in pieces),
        note=note,
    )


def _values(
    metric: Metric, measurement: Measurement, rows: Sequence[Example]
) -> tuple[Number, ...]:
    shown = metric.show(reading(metric, measurement, rows).values)
    return tuple(_rounded(finite(float(value))) for value in shown)


def _said(rated: Rating) -> str:
    """What a judge says of an answer, in words."""
    if rated.value is None:
        return say("unjudged: {reason}", reason=rated.ruling.reason)
    return say(
        "score {score}; judged {verdict}",
        score=f"{rated.value:.2f}",
        verdict=_ruled(rated.ruling),
    )


def _ruled(ruling: Ruling) -> str:
    """A verdict, and what there is to know of it."""
    if ruling.value is None:
        return say("nothing ({reason})", reason=ruling.reason)
    if ruling.why:
        return say("{verdict}, because: {why}", verdict=ruling.said, why=ruling.why)
    if not ruling.probabilities:
        return ruling.said
    known = {"verdict": ruling.said, "share": f"{100 * max(ruling.probabilities):.0f} %"}
    if ruling.spread is None:
        return say("{verdict} with {share}", **known)
    return say("{verdict} with {share}, spread {spread}", **known, spread=f"{ruling.spread:.2f}")


ENDED: Mapping[str, str] = {
    one: one for one in (say("stop token"), say("stop string"), say("limit"))
}
OUTCOMES = {1.0: say("wins"), 0.0: say("loses"), 0.5: say("half a win")}


def _compared(one: Preference) -> str:
    """What a judge says of an answer and another, in words."""
    outcome = say("unjudged") if one.value is None else OUTCOMES.get(one.value, f"{one.value:g}")
    return say(
        "{outcome}; standing first (A), the verdict is {first}; standing second (B), it is "
        "{second}",
        outcome=outcome,
        first=_ruled(one.first),
        second=_ruled(one.second),
    )


def _answers(
    measurement: Measurement, strings: Strings
) -> tuple[tuple[tuple[int, str, int], ...], ...]:
    """Of each row, what was written in each of its draws, how that ended, and its tokens.

    Of what a judge compared, the answer and then the other one.
    """
    found: dict[str, list[tuple[int, str, int]]] = {}
    for one in measurement.answers:
        ended = say("end not known")
        if one.ended:
            how = ENDED.get(one.ended, one.ended)
            ended = say("ended: {how}", how=listed((how, one.stop), " ") if one.stop else how)
        found.setdefault(one.id, []).append((strings.place(one.text), ended, one.n_tokens))
    for rated in measurement.ratings:
        found.setdefault(rated.id, []).append((strings.place(rated.text), _said(rated), 0))
    judge = measurement.cell.judge
    for pair in measurement.preferences:
        other = say("the other answer, {system}", system=judge.against if judge else "")
        found.setdefault(pair.id, []).extend(
            [
                (strings.place(pair.text), _compared(pair), 0),
                (strings.place(pair.other), other, 0),
            ]
        )
    return tuple(map(tuple, found.values()))


def _rounded(value: Number) -> Number:
    return None if value is None else float(f"{value:.5g}")
