"""What an examination says of a judge, before the judge is believed.

A judge sees each row's reference, and answers that are worse than it step by step, longer without
being better, or made to please: it scores each of them, or compares each with the reference in both
orders. A judge that does not put the reference first, that a fixed string fools, that follows the
order, that leaves much unjudged or that people do not agree with is not believed: nothing that it
says is called sure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from harness.messages import listed, say
from harness.metrics.base import Array
from harness.records import ExamScores
from harness.statistics.agreement import paired_auc
from harness.statistics.intervals import Interval, share_of
from harness.statistics.people import AgreementWithPeople, agreement_with_people, percent
from harness.statistics.winrates import Order, both_orders

REFERENCE, PADDED = "reference", "padded"
STEPS = (REFERENCE, "truncated", "shuffled", "another row's", "empty")
FLOOR = 0.65  # the least share of rows on which the reference beats what is plainly worse
PLAIN = 0.9  # a share that is enough, however few rows there are
SLOT = 0.65  # a first place that surely wins more, or a second place, is what is judged
FLIPS, SURE_FLIPS = 0.4, 0.25  # a share of flips that is too large, and surely above this
UNJUDGED = 0.2  # the most that a judge may leave unjudged


@dataclass(frozen=True)
class Exam:
    """What an examination found.

    Attributes:
        beats: what is worse than the reference → the share of rows on which the judge sees it.
        length: the share of rows on which a padded reference beats the plain one; ½ is right. None
            where fewer than two rows were judged.
        canaries: a string → the share of rows on which the reference beats it.
        repeated: the largest difference when frozen answers are judged again; None where none was.
        rungs: ``better > worse`` of neighbours among :data:`STEPS` → the share of rows on which the
            judge sees it; empty of a judge of pairs, which compares with the reference only.
        order: of a judge of pairs, what the order does to it.
        unjudged: the share of its examination that it left unjudged.
        missing: kinds of answers of which it judged fewer than two rows.
        people: how far it says what people say, where they said something.
    """

    beats: Mapping[str, Interval]
    length: Interval | None
    canaries: Mapping[str, Interval]
    repeated: float | None
    rungs: Mapping[str, Interval] = field(default_factory=dict)
    order: Order | None = None
    unjudged: float = 0.0
    missing: tuple[str, ...] = ()
    people: AgreementWithPeople | None = None

    @property
    def follows(self) -> str:
        """How the judge follows the order, in a clause; empty where it does not."""
        if self.order is None:
            return ""
        flips, first = self.order.flips, self.order.first
        if first.low > SLOT:
            return say(
                "the answer that stands first wins {share} of verdicts", share=percent(first)
            )
        if first.high < 1 - SLOT:
            second = Interval(1 - first.estimate, 1 - first.high, 1 - first.low)
            return say(
                "the answer that stands second wins {share} of verdicts", share=percent(second)
            )
        if flips.estimate > FLIPS and flips.low > SURE_FLIPS:
            return say(
                "{share} of pairs get another verdict in the other order", share=percent(flips)
            )
        return ""

    @property
    def failures(self) -> list[str]:
        """What is wrong with the judge, in clauses; nothing if it may be believed."""
        found: list[str] = [say("it follows the order")] if self.follows else []
        if self.unjudged > UNJUDGED:
            share = f"{100 * self.unjudged:.0f} %"
            found.append(say("it leaves {share} of its examination unjudged", share=share))
        if self.missing:
            kinds = listed(map(kind, self.missing))
            found.append(say("it judges too few answers of a kind ({kinds})", kinds=kinds))
        found += [
            say(
                "it puts the reference above {other} answer on {share} of rows only",
                other=_article(step),
                share=percent(one),
            )
            for step, one in self.beats.items()
            if one.low < FLOOR and one.estimate < PLAIN
        ]
        fooled = [name for name, one in self.canaries.items() if one.estimate < FLOOR]
        if fooled:
            found.append(say("it is fooled by fixed strings ({names})", names=listed(fooled)))
        return found + (self.people.failures if self.people else [])

    @property
    def trusted(self) -> bool:
        """Whether what the judge says may be called sure."""
        return not self.failures

    @property
    def sentences(self) -> list[str]:
        """What the examination says of the judge."""
        lines = self._of_order_and_reference()
        if self.length and self.length.low > 0.5:
            lines.append(
                say(
                    "It prefers length: padding alone wins {share} of rows against the same "
                    "answer.",
                    share=percent(self.length),
                )
            )
        if 0 < self.unjudged <= UNJUDGED:
            share = f"{100 * self.unjudged:.1f} %"
            lines.append(say("It leaves {share} of its examination unjudged.", share=share))
        lines += self.people.sentences if self.people else []
        if self.trusted:
            lines.append(say("No fixed string fools it."))
        else:
            why = listed(self.failures, "; ")
            lines.append(say("Nothing it says is called sure: {why}.", why=why))
        return lines

    def _of_order_and_reference(self) -> list[str]:
        lines: list[str] = []
        if self.follows:
            lines.append(say("It follows the order: {how}.", how=self.follows))
        if self.beats:
            worst = min(self.beats.items(), key=lambda pair: pair[1].estimate)
            lines.append(
                say(
                    "The judge puts the reference above {other} answer on {share} of rows, the "
                    "least of {checks} such checks.",
                    other=_article(worst[0]),
                    share=percent(worst[1]),
                    checks=len(self.beats),
                )
            )
        if self.order and not self.follows:
            lines.append(
                say(
                    "In the other order {flips} of pairs get another verdict; the answer that "
                    "stands first wins {first} of verdicts.",
                    flips=percent(self.order.flips),
                    first=percent(self.order.first),
                )
            )
        return lines


_CALLED: Mapping[str, str] = {
    one: one
    for one in (
        say("reference"),
        say("truncated"),
        say("shuffled"),
        say("another row's"),
        say("empty"),
        say("padded"),
    )
}
_WITH_ARTICLE: Mapping[str, str] = {
    "truncated": say("a truncated"),
    "shuffled": say("a shuffled"),
    "another row's": say("another row's"),
    "empty": say("an empty"),
}


def kind(name: str) -> str:
    """What a kind of answer is called; a fixed string is called by its name."""
    return _CALLED.get(name, name)


def _article(step: str) -> str:
    return _WITH_ARTICLE.get(step, step)


def examine(found: ExamScores) -> Exam:
    """Read an examination from what the judge said, of single answers or of pairs.

    Args:
        found: of the kinds of :data:`STEPS`, ``padded``, and any number of strings that are made to
            please. What the judge did not give is left out, and counted.
    """
    wins, rungs, order = _of_pairs(found) if found.orders else _of_scores(found)
    shares = {
        kind: share_of(known)
        for kind, values in wins.items()
        if len(known := values[np.isfinite(values)]) >= 2
    }
    padded = shares.get(PADDED)
    canaries = [kind for kind in shares if kind not in (*STEPS, PADDED)]
    return Exam(
        beats={step: shares[step] for step in STEPS[1:] if step in shares},
        length=padded and Interval(1 - padded.estimate, 1 - padded.high, 1 - padded.low),
        canaries={kind: shares[kind] for kind in canaries},
        repeated=_repeated(found),
        rungs=rungs,
        order=order,
        unjudged=_unjudged(found),
        missing=tuple(kind for kind in wins if kind not in shares),
        people=_people(found),
    )


Read = tuple[dict[str, Array], dict[str, Interval], Order | None]


def _of_scores(found: ExamScores) -> Read:
    """Of each kind and row what the reference gets against it, and the chain of steps."""
    scores = {kind: np.array(values, dtype=np.float64) for kind, values in found.scores.items()}
    reference, rungs = scores[REFERENCE], {}
    for better, worse in pairwise(STEPS):
        if np.isfinite(scores[better] - scores[worse]).sum() >= 2:
            rungs[f"{better} > {worse}"] = paired_auc(scores[better], scores[worse])
    wins = {
        kind: (np.sign(reference - values) + 1) / 2
        for kind, values in scores.items()
        if kind != REFERENCE
    }
    return wins, rungs, None


def _of_pairs(found: ExamScores) -> Read:
    """Of each kind and row what the reference gets against it, and what the order does."""
    kinds = {kind: np.array(both, dtype=np.float64).T for kind, both in found.orders.items()}
    first, second = (np.stack([both[at] for both in kinds.values()]) for at in (0, 1))
    enough = np.isfinite(first + second).any(axis=0).sum() >= 2
    if not enough:
        return {kind: np.full(first.shape[1], np.nan) for kind in kinds}, {}, None
    verdicts, order = both_orders(first, second)
    return dict(zip(kinds, verdicts, strict=True)), {}, order


def _repeated(found: ExamScores) -> float | None:
    """How far what was judged again moved; of pairs, the references against truncated ones."""
    before = (
        [first for first, _ in found.orders[STEPS[1]]] if found.orders else found.scores[REFERENCE]
    )
    moved = np.abs(np.array(found.again, np.float64) - np.array(before, np.float64))
    return float(np.nanmax(moved)) if np.isfinite(moved).any() else None


def _unjudged(found: ExamScores) -> float:
    """The share of questions without an answer."""
    given = [one for values in found.scores.values() for one in values]
    given += [one for pairs in found.orders.values() for both in pairs for one in both]
    given += [*found.again, *(one.judged for one in found.labels)]
    return sum(one is None for one in given) / max(1, len(given))


def _people(found: ExamScores) -> AgreementWithPeople | None:
    """How far the judge says what people say; None where there are fewer than two to compare."""
    if sum(one.judged is not None for one in found.labels) < 2:
        return None
    return agreement_with_people(found.labels)
