"""What the numbers support, in plain sentences: the first thing a reader sees.

Nothing is said that the statistics do not carry. ``sure`` needs both: an adjusted p below 0.05 for
the rows of the seeds that were run, and an interval, over unseen seeds where there are several,
that lies on one side of no change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.metrics.base import Array, Effect, Metric
from harness.report.formatting import number
from harness.report.nouns import GIVEN, Group, GroupResult
from harness.results.manifest import Control
from harness.statistics.paired import ALPHA
from harness.statistics.uncertainty import Comparison, compare_groups

Place = tuple[str, str, str]  # model, prompt, decoding
Denominators = tuple[int, ...] | None


@dataclass(frozen=True)
class BreakEven:
    """After so many queries a training run has cost no more tokens than longer prompts would.

    ``against`` is the group with the longer prompts; ``label`` the trained one.
    """

    label: str
    against: str
    model: str
    prompt: str
    decoding: str
    queries: int


@dataclass(frozen=True)
class _Entry:
    """A group and what a metric says of it."""

    result: GroupResult
    tested: Array

    @property
    def group(self) -> Group:
        return self.result.group

    @property
    def mean(self) -> float:
        assert self.result.mean is not None
        return self.result.mean


def conclusions(
    metric: Metric,
    control: Control,
    results: Sequence[GroupResult],
    tested: Sequence[Array],
    denominators: Sequence[Denominators],
    trusted: bool = True,
) -> list[str]:
    """Sentences about each model, prompt and decoding, the most important first.

    Args:
        metric: what the results are of.
        control: what the others are compared with.
        results: the rows of the main table.
        tested: each group's values on the scale that is tested; shape (seeds, rows), under a
            corpus metric (seeds, rows, statistics).
        denominators: each group's; None where the metric has none.
        trusted: whether anything may be called sure; not by a judge that failed its examination.
    """
    say = _Sentences(metric, control, trusted)
    entries = [_Entry(*each) for each in zip(results, tested, strict=True)]
    places = list(dict.fromkeys(_place(entry.group) for entry in entries))
    if metric.null is not None:
        return [_where(_place(one.group), places) + say.wins(one) for one in entries]
    found = []
    for place in places:
        members = [entry for entry in entries if _place(entry.group) == place]
        usable = [entry for entry in members if entry.result.mean is not None]
        where = _where(place, places)
        if not usable:
            found.append(f"{where}No strategy has a finite {metric.noun}.")
            continue
        if len(usable) > 1 and len({entry.tested.mean(axis=0).tobytes() for entry in usable}) == 1:
            continue  # every row alike, such as no fault at all: nothing to tell
        found += [where + text for text in say.best(usable)]
        found += [where + text for text in say.more_shots(usable)]
    found += say.decodings(entries)
    return found + say.across_models(entries, denominators)


def pays_off(
    results: Sequence[GroupResult], metric: Metric, found: Sequence[BreakEven]
) -> list[str]:
    """When a training run has cost less than the longer prompts of the best other, in tokens.

    Args:
        results: the rows of the main table, under the headline metric.
        metric: the headline metric.
        found: every pair of a trained group and one with longer prompts.
    """  # fmt: skip
    places = list(dict.fromkeys(_place(one.group) for one in results))
    means = {(*_place(one.group), one.group.label): one.mean for one in results}

    def rank(entry: BreakEven) -> float:
        # A name may end with what tells it from others of its label.
        label = entry.against.partition(" (")[0]
        mean = means.get((entry.model, entry.prompt, entry.decoding, label))
        return math.inf if not mean else metric.worsening * mean

    first: dict[tuple[str, ...], BreakEven] = {}
    for entry in sorted(found, key=rank):
        first.setdefault((entry.model, entry.prompt, entry.decoding, entry.label), entry)
    return [
        f"{_where(place, places)}Counted in tokens, the training of {entry.label} is paid for "
        f"after {entry.queries:,} queries by the shorter prompts, against {entry.against}."
        for (*place, _), entry in first.items()
    ]


def _kind(group: Group) -> str:
    """What a group is a variant of; every file of answers is a kind of its own."""
    return group.label if group.strategy == GIVEN else group.strategy


def _place(group: Group) -> Place:
    return group.model, group.prompt, group.decoding


def _where(place: Sequence[str], places: Sequence[Sequence[str]]) -> str:
    """What tells this model, prompt and decoding from the others."""
    parts = [
        value for index, value in enumerate(place) if len({other[index] for other in places}) > 1
    ]
    return f"{', '.join(parts)}: " if parts else ""


@dataclass(frozen=True)
class _Sentences:
    """The sentences of one metric."""

    metric: Metric
    control: Control
    trusted: bool = True

    def _sure(self, found: Comparison) -> str:
        """How sure a comparison is; nothing is by a judge that is not to be trusted."""
        sure = sureness(found)
        return sure if self.trusted or sure == "not sure" else "by a judge that is not trusted"

    def best(self, entries: Sequence[_Entry]) -> list[str]:
        """Which group is the best, and how surely."""
        best = self._first(entries)
        title, shown = self.metric.title, number(best.mean, self.metric.headline.digits)
        extreme = "lowest" if self.metric.better == "lower" else "highest"
        label = best.group.label
        others = [entry for entry in entries if _kind(entry.group) != _kind(best.group)]
        if not others:
            return [f"{label}: {title} {shown}; there is nothing to compare with."]
        if best.result.comparison is None:
            if best.group.label == self.control.label:
                closest = self._first(others)
                text = f"Nothing beats {label}, {title} {shown}"
                return [f"{text}: {closest.group.label} is {self._against(closest)}."]
            return [
                f"{label} has the {extreme} {title}, {shown}; there is no {self.control.title} to "
                f"say how sure that is."
            ]
        found = [f"{label} has the {extreme} {title}, {shown}: row by row {self._against(best)}."]
        compared = [entry for entry in others if entry.result.comparison is not None]
        if compared:
            second = self._first(compared)
            mean = number(second.mean, self.metric.headline.digits)
            found.append(
                f"{second.group.label}, the best of the others ({mean}), is "
                f"{self._against(second)}."
            )
        return found

    def wins(self, entry: _Entry) -> str:
        """How often a group wins against another, and how surely that is no half."""
        label, against = entry.group.label, entry.group.against
        found = entry.result.comparison
        if entry.result.mean is None or found is None:
            return f"{label} against {against}: too few rows have a verdict."
        half = self.metric.null or 0.0
        rate, low, high = (
            f"{100 * (half + value):.0f}"
            for value in (found.widest.estimate, found.widest.low, found.widest.high)
        )
        sure = self._sure(found)
        told = f"{rate} % of rows [{low}, {high}]"
        if sure == "not sure":
            return f"{label} is not shown to win more or less than half against {against}: {told}."
        return f"{label} wins {told} against {against}, {sure}."

    def more_shots(self, entries: Sequence[_Entry]) -> list[str]:
        """Whether the most demonstrations are better than the fewest, for each way of choosing."""
        ways: dict[tuple[str, ...], list[_Entry]] = {}
        for entry in entries:
            group = entry.group
            if group.k and group.training_tokens is None:
                name = (group.strategy, str(group.select), group.draw, group.quantization)
                ways.setdefault(name, []).append(entry)
        pairs = [
            (max(members, key=lambda e: e.group.k), min(members, key=lambda e: e.group.k))
            for members in ways.values()
            if len({entry.group.k for entry in members}) > 1
        ]
        compared = compare_groups(self.metric, [(most.tested, few.tested) for most, few in pairs])
        return [
            self._shots(most.group, fewest.group, facts)
            for (most, fewest), facts in zip(pairs, compared, strict=True)
            if facts is not None
        ]

    def _shots(self, most: Group, fewest: Group, facts: Comparison) -> str:
        other, sure = f"{fewest.k}-shot", self._sure(facts)
        if sure == "not sure":
            change = self._change(facts.widest, "it")
            return f"{most.label} is not shown to differ from {other}: {change}."
        return f"{most.label} is {self._change(facts.widest, other)}, {sure}."

    def decodings(self, entries: Sequence[_Entry]) -> list[str]:
        """How each decoding compares with the best one, for the best strategy of each prompt."""
        usable = [entry for entry in entries if entry.result.mean is not None]
        ways: dict[tuple[str, str], list[_Entry]] = {}
        for entry in usable:
            ways.setdefault((entry.group.model, entry.group.prompt), []).append(entry)
        pairs = [pair for members in ways.values() for pair in self._ways_of_writing(members)]
        sides = [(other.tested, best.tested) for best, other in pairs]
        compared = compare_groups(self.metric, sides)
        return [
            self._decoding(best, other, facts, list(ways))
            for (best, other), facts in zip(pairs, compared, strict=True)
            if facts is not None
        ]

    def _ways_of_writing(self, members: Sequence[_Entry]) -> list[tuple[_Entry, _Entry]]:
        """The best group, and the others that differ from it in their decoding alone."""
        best = self._first(members)

        def name(entry: _Entry) -> tuple[str, ...]:
            return entry.group.name[:-1]

        others = [one for one in members if one is not best and name(one) == name(best)]
        return [(best, other) for other in others]

    def _decoding(
        self, best: _Entry, other: _Entry, facts: Comparison, ways: Sequence[tuple[str, str]]
    ) -> str:
        place = best.group.model, best.group.prompt
        where = _where(place, ways)
        change = self._change(facts.widest, best.group.decoding)
        return (
            f"{where}With {best.group.label}, {other.group.decoding} is {change}, "
            f"{self._sure(facts)}."
        )

    def across_models(
        self, entries: Sequence[_Entry], denominators: Sequence[Denominators]
    ) -> list[str]:
        """Models with different tokenizers share the total of a metric, and nothing else."""
        if self.metric.total is None:
            return []
        total = self.metric.aggregate(self.metric.total)
        usable = [
            (entry, counts)
            for entry, counts in zip(entries, denominators, strict=True)
            if entry.result.aggregates[total.name].mean is not None
        ]
        if len({counts for _, counts in usable}) < 2:
            return []

        def value(entry: _Entry) -> float:
            return self.metric.worsening * (entry.result.aggregates[total.name].mean or 0.0)

        best: dict[str, _Entry] = {}
        for entry, _ in usable:
            known = best.setdefault(entry.group.model, entry)
            if value(entry) < value(known):
                best[entry.group.model] = entry
        shown = "; ".join(
            f"{entry.group.model} "
            f"{number(entry.result.aggregates[total.name].mean, total.digits)} "
            f"({entry.group.label})"
            for entry in sorted(best.values(), key=value)
        )
        return [
            f"The models' tokenizers differ, so only {total.name.replace('_', ' ')} compare them. "
            f"The best of each: {shown}."
        ]

    def _first(self, entries: Sequence[_Entry]) -> _Entry:
        return min(entries, key=lambda entry: self.metric.worsening * entry.mean)

    def _against(self, entry: _Entry) -> str:
        found = entry.result.comparison
        assert found is not None
        return f"{self._change(found.widest, self.control.title)}, {self._sure(found)}"

    def _change(self, effect: Effect, other: str) -> str:
        """``58 % below zero-shot [55, 60]``: of geometric means, or of a difference."""
        if self.metric.scale == "log":
            factor, unit, show = 100.0, " %", _short
        else:
            factor, unit, show = 1.0, "", _digits
        estimate, low, high = (factor * x for x in (effect.estimate, effect.low, effect.high))
        if estimate < 0:
            word, limits, size = "below", (-high, -low), -estimate
        else:
            word, limits, size = "above", (low, high), estimate
        return f"{show(size)}{unit} {word} {other} [{', '.join(map(show, limits))}]"


def _short(value: float) -> str:
    text = f"{value:.0f}" if abs(value) >= 9.95 else f"{value:.1f}"
    return text.replace("-", "−")


def _digits(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def sureness(found: Comparison) -> str:
    """``sure``, ``sure for these seeds only``, or ``not sure``."""
    if not found.p < ALPHA:
        return "not sure"
    if found.widest.low <= 0 <= found.widest.high:
        return "sure for these seeds only" if found.seeds_effect else "not sure"
    return "sure"
