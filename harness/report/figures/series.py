"""A report's groups as its pictures need them: by model and prompt, with seeds and rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.naming import slug
from harness.report.figures.frame import ZEROSHOT, Caption
from harness.report.formatting import visible

Content = Mapping[str, Any]  # what harness.report.content.build returned
SMALL = 1e200  # greater numbers can not be drawn


@dataclass(frozen=True)
class Member:
    """A group with what its seeds measured; ``name`` tells it from the other members of a set."""

    name: str
    group: Mapping[str, Any]
    seeds: Mapping[int | None, float | None]  # seed: mean perplexity
    rows: Sequence[Sequence[float | None]]  # per seed, in the order of the test rows

    @property
    def mean(self) -> float | None:
        """Mean perplexity, if it can be drawn."""
        return drawable(self.group["mean"])

    @property
    def k(self) -> int | None:
        """The number of demonstrations, where the strategy is one of several that differ in it."""
        k = self.group["k"]
        return k if k and self.line != self.name else None

    @property
    def zeroshot(self) -> bool:
        """Whether this is what the others are compared with."""
        return bool(self.group["strategy"] == "zeroshot")

    @property
    def line(self) -> str:
        """The name without the number of demonstrations."""
        return re.sub(r"-k\d+(?![A-Za-z0-9._+])", "", self.name, count=1)


@dataclass(frozen=True)
class Set:
    """All groups of a model and prompt."""

    slug: str
    model: str
    prompt: str
    members: Sequence[Member]

    @property
    def styles(self) -> Mapping[str, int]:
        """Line or name → its style in the pictures: first those with k, then the trained."""
        others = [m for m in self.members if not m.zeroshot]
        names = [m.line for m in others if m.k is not None]
        names += [m.name for m in others if m.k is None]
        return {name: style for style, name in enumerate(dict.fromkeys(names))}

    def style(self, member: Member) -> int:
        """One style for a group in all pictures; those that differ in k alone share it."""
        name = member.name if member.k is None else member.line
        return ZEROSHOT if member.zeroshot else self.styles[name]

    def caption(
        self, kind: str, head: str, note: str, words: Iterable[str], title: str = ""
    ) -> Caption:
        """What stands around a picture of this set; its head is its title, unless it has one."""
        title = f"{title or head}: {visible(self.model)}, prompt {visible(self.prompt)}"
        second = " · ".join(filter(None, (self.model, f"prompt {self.prompt}", note)))
        return Caption(f"{kind}-{self.slug}", title, head, second, "; ".join(words))


def sets(content: Content) -> list[Set]:
    """Put a report's groups together by model and prompt, in its order."""
    rows = {cell["id"]: cell["perplexity"] for cell in content["explorer"]["cells"]}
    cells: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for cell in content["cells"]:
        cells.setdefault(_key(cell), []).append(cell)
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for group in content["groups"]:
        groups.setdefault((group["model"], group["prompt"]), []).append(group)
    found: dict[str, Set] = {}
    for (model, prompt), members in groups.items():
        name, between = slug(f"{model}-{prompt}"), "/"
        while name in found:  # "a-b" with "c", and "a" with "b-c"
            name, between = slug(f"{model}{between}{prompt}"), f"{between}/"
        found[name] = Set(
            name,
            model,
            prompt,
            [_member(group, members, cells.get(_key(group), []), rows) for group in members],
        )
    return list(found.values())


def _key(entry: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(entry[name] for name in ("model", "quantization", "dtype", "prompt", "label"))


def _member(
    group: Mapping[str, Any],
    peers: Sequence[Mapping[str, Any]],
    cells: Sequence[Mapping[str, Any]],
    rows: Mapping[str, Sequence[float | None]],
) -> Member:
    """Name a group by its label, and by its quantization and dtype where they tell it apart."""
    more = []
    if len({peer["quantization"] for peer in peers}) > 1 and group["quantization"] != "none":
        more.append(group["quantization"])
    alike = [peer for peer in peers if peer["quantization"] == group["quantization"]]
    if len({peer["dtype"] for peer in alike}) > 1:
        more.append(group["dtype"])
    name = visible(group["label"]) + f" ({', '.join(map(visible, more))})" * bool(more)
    seeds = {cell["seed"]: drawable(cell["mean_perplexity"]) for cell in cells}
    return Member(name, group, seeds, [rows[cell["id"]] for cell in cells if cell["id"] in rows])


def drawable(value: float | None) -> float | None:
    """A perplexity, or None where it can not be drawn."""
    return value if value is not None and 0 < value < SMALL else None


def finite(values: Iterable[float | None]) -> list[float]:
    """The perplexities that can be drawn."""
    return [value for value in map(drawable, values) if value is not None]
