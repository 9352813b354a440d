"""A report's groups as its pictures need them: by model and prompt, with seeds and rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.messages import listed, say
from harness.metrics.base import Metric
from harness.naming import slug
from harness.report.figures.frame import CONTROL, Caption
from harness.report.formatting import visible
from harness.report.language import ENGLISH, Language
from harness.report.nouns import Group, GroupResult, Number, Report, Section, named
from harness.results.manifest import Control

SMALL = 1e200  # greater numbers cannot be drawn


@dataclass(frozen=True)
class Member:
    """A group with what its seeds measured; ``name`` tells it from the other members of a set.

    ``seeds`` are the headline of each seed; ``rows`` what is shown of each row, per seed.
    """

    name: str
    group: Group
    result: GroupResult
    metric: Metric
    seeds: Mapping[int | None, Number]
    rows: Sequence[Sequence[Number]]
    control: bool

    @property
    def mean(self) -> Number:
        """The headline, if it can be drawn."""
        return drawable(self.metric, self.result.mean)

    @property
    def k(self) -> int | None:
        """The number of demonstrations, where the strategy is one of several that differ in it."""
        k = self.group.k
        return k if k and self.line != self.name else None

    @property
    def line(self) -> str:
        """The name without the number of demonstrations."""
        return self.name.replace(f"-k{self.group.k:02d}", "", 1) if self.group.k else self.name


@dataclass(frozen=True)
class Set:
    """All groups of a model, prompt and decoding; the latter is empty under likelihoods."""

    slug: str
    model: str
    prompt: str
    decoding: str
    metric: Metric
    control: Control
    members: Sequence[Member]
    language: Language = ENGLISH

    @property
    def styles(self) -> Mapping[str, int]:
        """Line or name → its style in the pictures: first those with k, then the trained."""
        others = [m for m in self.members if not m.control]
        names = [m.line for m in others if m.k is not None]
        names += [m.name for m in others if m.k is None]
        return {name: style for style, name in enumerate(dict.fromkeys(names))}

    def style(self, member: Member) -> int:
        """One style for a group in all pictures; those that differ in k alone share it."""
        name = member.name if member.k is None else member.line
        return CONTROL if member.control else self.styles[name]

    def caption(
        self, kind: str, head: str, note: str, words: Iterable[str], title: str = ""
    ) -> Caption:
        """What stands around a picture of this set; its head is its title, unless it has one."""
        of = self.language.of
        place = [visible(self.model), say("prompt {name}", name=visible(self.prompt))]
        place += [self.decoding] if self.decoding else []
        title = of(say("{head}: {place}", head=title or head, place=listed(place)))
        prompt = say("prompt {name}", name=self.prompt)
        second = listed(filter(None, (self.model, prompt, self.decoding, note)), " · ")
        told = of(listed(words, "; "))
        name = f"{kind}-{self.slug}"
        return Caption(name, title, of(head), of(second), told, language=self.language)


def sets(report: Report, section: Section, language: Language = ENGLISH) -> list[Set]:
    """Put a section's groups together by model, prompt and decoding, in its order."""
    place = report.sections.index(section)
    values = {
        cell.id: cell.values[place]
        for cell in report.explorer.cells
        if cell.observes == section.metric.observes
    }
    pairs: dict[tuple[str, str, str], list[GroupResult]] = {}
    for result in section.groups:
        group = result.group
        pairs.setdefault((group.model, group.prompt, group.decoding), []).append(result)
    found: dict[str, Set] = {}
    for parts, members in pairs.items():
        name, between = slug("-".join(filter(None, parts))), "/"
        while name in found:  # "a-b" with "c", and "a" with "b-c"
            name, between = slug(between.join(filter(None, parts))), f"{between}/"
        peers = [result.group for result in members]
        made = [_member(result, peers, report, section, values) for result in members]
        more = "" if place == 0 else f"-{section.metric.name}"
        found[name] = Set(f"{name}{more}", *parts, section.metric, report.control, made, language)
    return list(found.values())


def _member(
    result: GroupResult,
    peers: Sequence[Group],
    report: Report,
    section: Section,
    values: Mapping[str, Sequence[Number]],
) -> Member:
    """Name a group by its label, and by its quantization and dtype where they tell it apart."""
    group, metric = result.group, section.metric
    headline = metric.headline.name
    more = []
    if len({peer.quantization for peer in peers}) > 1 and group.quantization != "none":
        more.append(group.quantization)
    alike = [peer for peer in peers if peer.quantization == group.quantization]
    if len({peer.dtype for peer in alike}) > 1:
        more.append(group.dtype)
    own = [one for one in section.cells if named(one.cell) == group.name]
    return Member(
        name=visible(group.label) + f" ({', '.join(map(visible, more))})" * bool(more),
        group=group,
        result=result,
        metric=metric,
        seeds={one.cell.seed: drawable(metric, one.aggregates[headline]) for one in own},
        rows=[values[one.cell.id] for one in own if one.cell.id in values],
        control=group.label == report.control.label,
    )


def drawable(metric: Metric, value: Number) -> Number:
    """A value, or None where it cannot be drawn; on a log scale it has to be above 0."""
    if value is None or not math.isfinite(value) or not abs(value) < SMALL:
        return None
    return value if metric.scale == "linear" or value > 0 else None


def finite(metric: Metric, values: Iterable[Number]) -> list[float]:
    """The values that can be drawn."""
    return [value for value in (drawable(metric, one) for one in values) if value is not None]
