"""What the numbers support, in plain sentences: the first thing a reader sees.

Nothing is said that the statistics do not carry. ``sure`` needs both: an adjusted p below 0.05 for
the rows of the seeds that were run, and an interval over unseen seeds that lies on one side of no
change. One seed of a strategy that has seeds says nothing of others: sure for this seed only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.messages import listed, say
from harness.metrics.base import Aggregate, Array, Effect, Metric
from harness.report.formatting import number
from harness.report.nouns import GIVEN, Group, GroupResult, called
from harness.results.manifest import Control
from harness.statistics.paired import ALPHA
from harness.statistics.uncertainty import Comparison, compare_groups

Place = tuple[str, str, str]  # model, prompt, decoding
Denominators = tuple[int, ...] | None
SURE, NOT_SURE = say("sure"), say("not sure")
THESE_SEEDS = say("sure for these seeds only")
THIS_SEED = say("sure for this seed only")
UNTRUSTED = say("by a judge that is not trusted")


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
    words = _Sentences(metric, control, trusted)
    entries = [_Entry(*each) for each in zip(results, tested, strict=True)]
    places = list(dict.fromkeys(_place(entry.group) for entry in entries))
    if metric.null is not None:
        return [_told(_where(_place(one.group), places), words.wins(one)) for one in entries]
    found: list[str] = []
    for place in places:
        members = [entry for entry in entries if _place(entry.group) == place]
        usable = [entry for entry in members if entry.result.mean is not None]
        where = _where(place, places)
        if not usable:
            nothing = say("No strategy has a finite {noun}.", noun=metric.noun)
            found.append(_told(where, nothing))
            continue
        if len(usable) > 1 and len({entry.tested.mean(axis=0).tobytes() for entry in usable}) == 1:
            continue  # every row alike, such as no fault at all: nothing to tell
        found += [_told(where, text) for text in words.best(usable)]
        found += [_told(where, text) for text in words.more_shots(usable)]
        found += [_told(where, text) for text in words.settings(usable)]
    found += words.decodings(entries)
    return found + words.across_models(entries, denominators)


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
    return [_told(_where(place, places), _paid(entry)) for (*place, _), entry in first.items()]


def _paid(entry: BreakEven) -> str:
    return say(
        "Counted in tokens, the training of {label} is paid for after {queries} queries by the "
        "shorter prompts, against {against}.",
        label=entry.label,
        queries=f"{entry.queries:,}",
        against=entry.against,
    )


def _kind(group: Group) -> str:
    """What a group is a variant of; every file of answers is a kind of its own."""
    return group.label if group.strategy == GIVEN else group.strategy


def _is_nothing(effect: Effect) -> bool:
    """Whether no row differs: a sentence of every such metric would hide those that say much."""
    return effect.estimate == effect.low == effect.high == 0


def _place(group: Group) -> Place:
    return group.model, group.prompt, group.decoding


def _where(place: Sequence[str], places: Sequence[Sequence[str]]) -> str:
    """What tells this model, prompt and decoding from the others."""
    parts = [
        value for index, value in enumerate(place) if len({other[index] for other in places}) > 1
    ]
    return ", ".join(parts)


def _told(where: str, sentence: str) -> str:
    """A sentence with what it is about before it, if anything."""
    return say("{where}: {sentence}", where=where, sentence=sentence) if where else sentence


@dataclass(frozen=True)
class _Sentences:
    """The sentences of one metric."""

    metric: Metric
    control: Control
    trusted: bool = True

    def _sure(self, found: Comparison, *groups: Group) -> str:
        """How sure a comparison of groups is; nothing is by a judge that is not to be trusted."""
        sure = sureness(found, seeds=max((len(group.seeds) for group in groups), default=0))
        return sure if self.trusted or sure == NOT_SURE else UNTRUSTED

    def best(self, entries: Sequence[_Entry]) -> list[str]:
        """Which group is the best, and how surely."""
        best = self._first(entries)
        shown = number(best.mean, self.metric.headline.digits)
        known = {"label": best.group.label, "title": self.metric.title, "value": shown}
        others = [entry for entry in entries if _kind(entry.group) != _kind(best.group)]
        if not others:
            return [say("{label}: {title} {value}; there is nothing to compare with.", **known)]
        if best.result.comparison is None:
            if best.group.label == self.control.label:
                closest = self._first(others)
                return [
                    say(
                        "Nothing beats {label}, {title} {value}: {other} is {how}.",
                        **known,
                        other=closest.group.label,
                        how=self._against(closest),
                    )
                ]
            control = called(self.control)
            return [
                say(
                    "{best}; there is no {control} to say how sure that is.",
                    best=self._extreme(known),
                    control=control,
                )
            ]
        how = self._against(best)
        found: list[str] = [say("{best}: row by row {how}.", best=self._extreme(known), how=how)]
        compared = [entry for entry in others if entry.result.comparison is not None]
        if compared:
            found.append(self._second(self._first(compared)))
        return found

    def _extreme(self, known: Mapping[str, str]) -> str:
        if self.metric.better == "lower":
            return say("{label} has the lowest {title}, {value}", **known)
        return say("{label} has the highest {title}, {value}", **known)

    def _second(self, second: _Entry) -> str:
        return say(
            "{label}, the best of the others ({value}), is {how}.",
            label=second.group.label,
            value=number(second.mean, self.metric.headline.digits),
            how=self._against(second),
        )

    def wins(self, entry: _Entry) -> str:
        """How often a group wins against another, and how surely that is no half."""
        known = {"label": entry.group.label, "against": entry.group.against}
        found = entry.result.comparison
        if entry.result.mean is None or found is None:
            return say("{label} against {against}: too few rows have a verdict.", **known)
        half = self.metric.null or 0.0
        rate, low, high = (
            f"{100 * (half + value):.0f}"
            for value in (found.widest.estimate, found.widest.low, found.widest.high)
        )
        sure = self._sure(found, entry.group)
        known |= {"rate": f"{rate} %", "limits": f"[{low}, {high}]"}
        if sure == NOT_SURE:
            return say(
                "{label} is not shown to win more or less than half against {against}: {rate} of "
                "rows {limits}.",
                **known,
            )
        return say(
            "{label} wins {rate} of rows {limits} against {against}, {sure}.", **known, sure=sure
        )

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
            self._between(most, fewest, say("{k}-shot", k=fewest.group.k), facts)
            for (most, fewest), facts in zip(pairs, compared, strict=True)
            if facts is not None
        ]

    def settings(self, entries: Sequence[_Entry]) -> list[str]:
        """Whether the best setting of a strategy that trains is better than the next best one."""
        ways: dict[tuple[str, str], list[_Entry]] = {}
        for entry in entries:
            if entry.group.training_tokens is not None:
                name = entry.group.strategy, entry.group.quantization
                ways.setdefault(name, []).append(entry)
        pairs: list[tuple[_Entry, _Entry]] = []
        for members in ways.values():
            if len(members) > 1:
                best = self._first(members)
                pairs.append((best, self._first([one for one in members if one is not best])))
        compared = compare_groups(
            self.metric, [(best.tested, next_.tested) for best, next_ in pairs]
        )
        return [
            self._between(best, next_, next_.group.label, facts)
            for (best, next_), facts in zip(pairs, compared, strict=True)
            if facts is not None and not _is_nothing(facts.widest)
        ]

    def _between(self, one: _Entry, two: _Entry, other: str, facts: Comparison) -> str:
        """How one of two groups compares with the other, which is called ``other``."""
        label, sure = one.group.label, self._sure(facts, one.group, two.group)
        if sure == NOT_SURE:
            it = say("it")
            change = self._change(facts.widest, it)
            return say(
                "{label} is not shown to differ from {other}: {change}.",
                label=label,
                other=other,
                change=change,
            )
        change = self._change(facts.widest, other)
        return say("{label} is {change}, {sure}.", label=label, change=change, sure=sure)

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
            if facts is not None and not _is_nothing(facts.widest)
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
        sentence = say(
            "With {label}, {decoding} is {change} in {title}, {sure}.",
            title=self.metric.title,
            label=best.group.label,
            decoding=other.group.decoding,
            change=self._change(facts.widest, best.group.decoding),
            sure=self._sure(facts, best.group, other.group),
        )
        return _told(where, sentence)

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
        told = [self._of_model(entry, total) for entry in sorted(best.values(), key=value)]
        shown = listed(told, "; ")
        return [
            say(
                "The models' tokenizers differ, so only {total} compare them. The best of each: "
                "{best}.",
                total=_plural(total.name),
                best=shown,
            )
        ]

    def _of_model(self, entry: _Entry, total: Aggregate) -> str:
        return say(
            "{model} {value} ({label})",
            model=entry.group.model,
            value=number(entry.result.aggregates[total.name].mean, total.digits),
            label=entry.group.label,
        )

    def _first(self, entries: Sequence[_Entry]) -> _Entry:
        return min(entries, key=lambda entry: self.metric.worsening * entry.mean)

    def _against(self, entry: _Entry) -> str:
        found = entry.result.comparison
        assert found is not None
        change = self._change(found.widest, called(self.control))
        return say("{change}, {sure}", change=change, sure=self._sure(found, entry.group))

    def _change(self, effect: Effect, other: str) -> str:
        """``58 % below zero-shot [55, 60]``: of geometric means, or of a difference."""
        if self.metric.scale == "log":
            factor, unit, show = 100.0, " %", _short
        else:
            factor, unit, show = 1.0, "", _digits
        estimate, low, high = (factor * x for x in (effect.estimate, effect.low, effect.high))
        if estimate < 0:
            limits, size = (-high, -low), -estimate
        else:
            limits, size = (low, high), estimate
        known = {
            "size": f"{show(size)}{unit}",
            "other": other,
            "limits": f"[{', '.join(map(show, limits))}]",
        }
        if estimate < 0:
            return say("{size} below {other} {limits}", **known)
        return say("{size} above {other} {limits}", **known)


def _plural(total: str) -> str:
    """What the totals of a metric are called where several are compared."""
    return say("bits per byte") if total == "bits_per_byte" else total.replace("_", " ")


def _short(value: float) -> str:
    text = f"{value:.0f}" if abs(value) >= 9.95 else f"{value:.1f}"
    return text.replace("-", "−")


def _digits(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def sureness(found: Comparison, seeds: int = 0) -> str:
    """``sure``, ``sure for these seeds only``, ``sure for this seed only``, or ``not sure``.

    Args:
        found: the comparison.
        seeds: of the side that has more of them; 0 where neither has any.
    """
    if not found.p < ALPHA:
        return NOT_SURE
    if found.widest.low <= 0 <= found.widest.high:
        return THESE_SEEDS if found.seeds_effect else NOT_SURE
    if found.seeds_effect is None and seeds:  # no interval speaks of other seeds
        return THIS_SEED if seeds == 1 else THESE_SEEDS
    return SURE
