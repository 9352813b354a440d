"""What a reader needs to look into single rows: texts, and every cell's numbers for each row.

Compact, because it stands inside the HTML report: numbers are rounded to what is shown, and a text
that stands in many prompts is kept once. Prompts are put together here, by the rules that they were
sent by (:func:`harness.prompts.rendering.parts`); the page paints the pieces that it is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.core import Example, PromptTemplate
from harness.errors import PromptError
from harness.metrics.base import Metric
from harness.prompts.rendering import ChatTemplate, Part, parts, skeleton
from harness.records import Measurement, Preference, Rating, Ruling
from harness.report.answers import faults
from harness.report.nouns import Explorer, ExplorerCell, ExplorerRow, Number, finite
from harness.results.manifest import Entry, Manifest
from harness.results.surprisal import ALPHABET, STEP

Piece = tuple[str, int, int]
KINDS = {
    "system": "preamble",
    "demonstration": "demonstration",
    "history": "earlier turn",
    "query": "question",
    "template": "chat template",
}
NO_TEMPLATE = "What the chat template puts around the turns was not kept."


class Strings:
    """Texts by their places, each kept once."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def place(self, text: str) -> int:
        """Where the text stands; it is added if it is new."""
        return self._places.setdefault(text, len(self._places))

    @property
    def all(self) -> tuple[str, ...]:
        """The texts in order."""
        return tuple(self._places)


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
    prompts = {prompt.name: prompt for prompt in manifest.prompts}
    cells = tuple(
        _cell(entry, measured[entry.id], manifest, prompts.get(entry.prompt), metrics, strings)
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
    template: PromptTemplate | None,
    metrics: Sequence[Metric],
    strings: Strings,
) -> ExplorerCell:
    pieces, note = _prompts(measurement, manifest, template, strings)
    shared = _shared(pieces)
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
        answers=_answers(measurement, strings),
        faults=faults(measurement.answers, manifest.rows),
        shared=tuple(pieces[0][:shared]) if pieces else (),
        own=tuple(tuple(row[shared:]) for row in pieces),
        note=note,
    )


def _values(
    metric: Metric, measurement: Measurement, rows: Sequence[Example]
) -> tuple[Number, ...]:
    shown = metric.show(metric.read(measurement.observations, rows).values)
    return tuple(_rounded(finite(float(value))) for value in shown)


def _said(rated: Rating) -> str:
    """What a judge says of an answer, in words."""
    if rated.value is None:
        return f"unjudged: {rated.ruling.reason}"
    return f"score {rated.value:.2f}; judged {_ruled(rated.ruling)}"


def _ruled(ruling: Ruling) -> str:
    """A verdict, and what there is to know of it."""
    if ruling.value is None:
        return f"nothing ({ruling.reason})"
    if ruling.why:
        return f"{ruling.said}, because: {ruling.why}"
    if not ruling.probabilities:
        return ruling.said
    spread = "" if ruling.spread is None else f", spread {ruling.spread:.2f}"
    return f"{ruling.said} with {100 * max(ruling.probabilities):.0f} %{spread}"


OUTCOMES = {1.0: "wins", 0.0: "loses", 0.5: "half a win"}


def _compared(one: Preference) -> str:
    """What a judge says of an answer and another, in words."""
    outcome = "unjudged" if one.value is None else OUTCOMES.get(one.value, f"{one.value:g}")
    return (
        f"{outcome}; standing first (A), the verdict is {_ruled(one.first)}; standing second (B), "
        f"it is {_ruled(one.second)}"
    )


def _answers(
    measurement: Measurement, strings: Strings
) -> tuple[tuple[tuple[int, str, int], ...], ...]:
    """Of each row, what was written in each of its draws, how that ended, and its tokens.

    Of what a judge compared, the answer and then the other one.
    """
    found: dict[str, list[tuple[int, str, int]]] = {}
    for one in measurement.answers:
        ended = f"ended: {one.ended} {one.stop}".strip() if one.ended else "end not known"
        found.setdefault(one.id, []).append((strings.place(one.text), ended, one.n_tokens))
    for rated in measurement.ratings:
        found.setdefault(rated.id, []).append((strings.place(rated.text), _said(rated), 0))
    judge = measurement.cell.judge
    for pair in measurement.preferences:
        other = f"the other answer, {judge.against if judge else ''}"
        found.setdefault(pair.id, []).extend(
            [
                (strings.place(pair.text), _compared(pair), 0),
                (strings.place(pair.other), other, 0),
            ]
        )
    return tuple(map(tuple, found.values()))


def _prompts(
    measurement: Measurement,
    manifest: Manifest,
    template: PromptTemplate | None,
    strings: Strings,
) -> tuple[list[list[Piece]], str]:
    """The pieces of each row's prompt, and what is not known of them."""
    if template is None:
        return [], "The prompt was not kept."
    first = {one.id: one for one in measurement.observations}  # of several draws, whichever
    known = {name for one in first.values() for name in one.demo_ids}
    lost = sorted(known - manifest.shown.keys())
    if lost:
        return [], f"Not kept: the demonstrations {', '.join(lost)}."
    found, framed = [], True
    for row, one in zip(manifest.rows, first.values(), strict=True):
        demonstrations = [manifest.shown[name] for name in one.demo_ids]
        try:
            chat, whole = _chat_template(measurement.skeletons)
            made = parts(template, row, demonstrations, chat)
        except PromptError:  # what was kept is not of these turns
            chat, whole = _chat_template({})
            made = parts(template, row, demonstrations, chat)
        framed = framed and all(whole)
        found.append([_piece(part, template.chat, strings) for part in made])
    return found, "" if framed or not template.chat else NO_TEMPLATE


def _chat_template(skeletons: Mapping[str, str]) -> tuple[ChatTemplate, list[bool]]:
    """What the tokenizer's template made of markers; the markers alone where it was not kept."""
    whole: list[bool] = []

    def ask(messages: list[dict[str, str]]) -> str:
        kept = skeletons.get(skeleton(messages))
        whole.append(kept is not None)
        return "".join(message["content"] for message in messages) if kept is None else kept

    return ask, whole


def _piece(part: Part, chat: bool, strings: Strings) -> Piece:
    words = [KINDS[part.kind]]
    if part.kind == "demonstration":
        words.append(part.row or "")
    if chat and part.role:
        words.append(part.role)
    return part.kind, strings.place(" · ".join(words)), strings.place(part.text)


def _shared(rows: Sequence[Sequence[Piece]]) -> int:
    """How many pieces all rows begin with."""
    if not rows:
        return 0
    count = min(map(len, rows))
    return next((i for i in range(count) if any(row[i] != rows[0][i] for row in rows)), count)


def _rounded(value: Number) -> Number:
    return None if value is None else float(f"{value:.5g}")
