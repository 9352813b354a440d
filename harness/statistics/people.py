"""How far a judge says what people say, beside what needs no judge.

    agreement   share of rows on which both say the same; of pairs: the first, the second, neither
    κ           quadratic weights (Cohen 1968)
    α           Krippendorff's, ordinal for scores and nominal for pairs
    ρ           Spearman's, for scores

Beside it stands what a judge gets that knows nothing: of pairs always the longer answer (62 % on
AlpacaEval's people, where one person agrees with the others on 66 %: Dubois et al. 2023,
"AlpacaFarm"), or always the first; of scores the answer's length. Formulas:
:mod:`harness.statistics.agreement`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.messages import listed, say
from harness.metrics.base import Array
from harness.records import LabelledScore
from harness.statistics.agreement import agreement, alpha, bootstrapped, kappa, spearman
from harness.statistics.intervals import Interval


@dataclass(frozen=True)
class AgreementWithPeople:
    """How far a judge says what people say.

    Attributes:
        n: answers, or pairs, that both judged.
        unjudged: that people judged and the judge did not.
        agreement: the share on which both say the same.
        kappa: weighted κ; None where both say one thing only.
        alpha: Krippendorff's α; None likewise.
        spearman: of scores; None for pairs, and where one side is constant.
        longer: of pairs: the agreement of always the longer answer.
        first: of pairs: the agreement of always the first answer.
        length: of scores: Spearman's ρ of people's score with the answer's length.
    """

    n: int
    unjudged: int
    agreement: Interval
    kappa: Interval | None
    alpha: Interval | None
    spearman: Interval | None = None
    longer: Interval | None = None
    first: Interval | None = None
    length: Interval | None = None

    @property
    def failures(self) -> list[str]:
        """Why the judge is not to be believed; nothing if it may be."""
        found: list[str] = []
        if self.kappa is not None and self.kappa.low <= 0:
            found.append(say("its agreement with people cannot be told from chance"))
        if self.longer is not None and self.agreement.high < self.longer.estimate:
            found.append(say("it agrees with people less than taking the longer answer would"))
        return found

    @property
    def sentences(self) -> list[str]:
        """What is to be said of it."""
        what = say("answers") if self.longer is None else say("pairs")
        kinds = (("κ", self.kappa), ("α", self.alpha), (say("Spearman’s ρ"), self.spearman))
        more = [listed((name, number(one)), " ") for name, one in kinds if one is not None]
        known = {"n": self.n, "what": what, "share": percent(self.agreement)}
        lines: list[str] = [self._agreement(known, more)]
        if self.longer is not None and self.first is not None:
            lines.append(
                say(
                    "Taking the longer answer agrees with people on {longer}, taking the first on "
                    "{first}.",
                    longer=percent(self.longer),
                    first=percent(self.first),
                )
            )
        if self.length is not None:
            lines.append(
                say(
                    "The answer’s length alone has ρ {value} with people.",
                    value=number(self.length),
                )
            )
        if self.unjudged:
            lines.append(say("{n} more {what} it left unjudged.", n=self.unjudged, what=what))
        return lines

    def _agreement(self, known: Mapping[str, object], more: Sequence[str]) -> str:
        if not more:
            return say(
                "Of {n} {what} that people judged it says what they say of {share}.", **known
            )
        return say(
            "Of {n} {what} that people judged it says what they say of {share}: {more}.",
            **known,
            more=listed(more),
        )


def percent(one: Interval) -> str:
    """A share with its interval, in per cent."""
    return f"{100 * one.estimate:.0f} % [{100 * one.low:.0f}, {100 * one.high:.0f}]"


def number(one: Interval) -> str:
    """A coefficient with its interval."""
    return f"{one.estimate:.2f} [{one.low:.2f}, {one.high:.2f}]".replace("-", "−")


def agreement_with_people(labels: Sequence[LabelledScore]) -> AgreementWithPeople:
    """Compare a judge with people, on what both judged.

    Args:
        labels: of single answers, or of pairs (with two lengths). A judge's expectation counts as
            the nearest value that people used, but for ρ; halfway between two it is neither.

    Raises:
        ValueError: fewer than two are judged by both, or there are answers and pairs.
    """
    sizes = {len(one.lengths) for one in labels}
    if len(sizes) > 1:
        raise ValueError("people judged single answers and pairs; a judge does one of them")
    judged = [one for one in labels if one.judged is not None]
    human = np.array([one.human for one in judged], dtype=np.float64)
    said = np.array([one.judged for one in judged], dtype=np.float64)
    lengths = np.array([one.lengths for one in judged], dtype=np.float64)
    rounded, pairs = nearest(said, np.unique(human)), sizes == {2}
    found = AgreementWithPeople(
        n=len(judged),
        unjudged=len(labels) - len(judged),
        agreement=agreement(rounded, human),
        kappa=_known(kappa(rounded, human)),
        alpha=_known(alpha(rounded, human, "nominal" if pairs else "ordinal")),
    )
    numbers = _of_pairs(human, lengths) if pairs else _of_scores(said, human, lengths[:, 0])
    return AgreementWithPeople(**{**vars(found), **numbers})


def _of_pairs(human: Array, lengths: Array) -> dict[str, Interval | None]:
    longer = (np.sign(lengths[:, 0] - lengths[:, 1]) + 1) / 2
    return {"longer": agreement(longer, human), "first": agreement(np.ones(len(human)), human)}


def _of_scores(said: Array, human: Array, length: Array) -> dict[str, Interval | None]:
    return {
        name: None if np.ptp(one) == 0 or np.ptp(human) == 0 else bootstrapped(spearman, one, human)
        for name, one in (("spearman", said), ("length", length))
    }


def nearest(values: Array, menu: Array) -> Array:
    """Each value as the nearest of the menu, itself where it is halfway between two.

    Args:
        values: finite.
        menu: in order.
    """
    middles = (menu[1:] + menu[:-1]) / 2
    found: Array = menu[np.searchsorted(middles, values)]
    return np.where(np.isin(values, middles), values, found)


def _known(one: Interval) -> Interval | None:
    return None if math.isnan(one.estimate) else one
