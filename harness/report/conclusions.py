"""What the numbers support, in plain sentences: the first thing a reader sees.

Nothing is said that the statistics do not carry. ``sure`` needs both: an adjusted p below 0.05 for
the rows of the seeds that were run, and an interval, over unseen seeds where there are several,
that lies on one side of no change.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.gate.verdict import ALPHA
from harness.records import Likelihood
from harness.report.formatting import number

Group = Mapping[str, Any]
Scores = Sequence[Sequence[Likelihood]]  # of a group: for each seed, the rows
PLACE = ("model", "prompt")


def conclusions(groups: Sequence[Group], scores: Sequence[Scores]) -> list[str]:
    """Sentences about each model and prompt, the most important first.

    Args:
        groups: the rows of the main table.
        scores: each group's, in the same order.
    """
    places = list(dict.fromkeys(tuple(group[name] for name in PLACE) for group in groups))
    found = []
    for place in places:
        members = [i for i, g in enumerate(groups) if tuple(g[name] for name in PLACE) == place]
        usable = [i for i in members if groups[i]["mean"] is not None]
        where = _where(place, places)
        if not usable:
            found.append(f"{where}No strategy has a finite perplexity.")
            continue
        found += [where + text for text in _best([groups[i] for i in usable])]
        found += [where + text for text in _more_shots(usable, groups, scores)]
    return found + _across_models(groups, scores)


def pays_off(groups: Sequence[Group], found: Sequence[Mapping[str, Any]]) -> list[str]:
    """When a training has cost less than the longer prompts of the best rival, in tokens.

    Args:
        groups: the rows of the main table.
        found: entries of ``label``, ``rival``, ``model``, ``prompt`` and ``queries``.
    """
    places = list(dict.fromkeys(tuple(group[name] for name in PLACE) for group in groups))
    means = {(g["model"], g["prompt"], g["label"]): g["mean"] for g in groups}

    def rank(entry: Mapping[str, Any]) -> float:
        # A rival's name may end with what tells it from others of its label.
        label = entry["rival"].partition(" (")[0]
        return float(means.get((entry["model"], entry["prompt"], label)) or math.inf)

    first: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for entry in sorted(found, key=rank):
        first.setdefault((entry["model"], entry["prompt"], entry["label"]), entry)
    return [
        f"{_where((entry['model'], entry['prompt']), places)}Counted in tokens, the training of "
        f"{entry['label']} is paid for after {entry['queries']:,} queries by the shorter prompts, "
        f"against {entry['rival']}."
        for entry in first.values()
    ]


def _where(place: tuple[str, ...], places: Sequence[tuple[str, ...]]) -> str:
    """What tells this model and prompt from the others."""
    parts = [
        value for index, value in enumerate(place) if len({other[index] for other in places}) > 1
    ]
    return f"{', '.join(parts)}: " if parts else ""


def _best(groups: Sequence[Group]) -> list[str]:
    best = min(groups, key=lambda group: group["mean"])
    perplexity = number(best["mean"])
    rivals = [group for group in groups if group["strategy"] != best["strategy"]]
    if not rivals:
        return [f"{best['label']}: mean perplexity {perplexity}; there is nothing to compare with."]
    if best["versus"] is None:
        if best["strategy"] == "zeroshot":
            closest = min(rivals, key=lambda group: group["mean"])
            text = f"Nothing beats {best['label']}, mean perplexity {perplexity}"
            return [f"{text}: {closest['label']} is {_against_zero_shot(closest)}."]
        return [
            f"{best['label']} has the lowest mean perplexity, {perplexity}; there is no zero-shot "
            f"to say how sure that is."
        ]
    found = [
        f"{best['label']} has the lowest mean perplexity, {perplexity}: row by row "
        f"{_against_zero_shot(best)}."
    ]
    others = [group for group in rivals if group["versus"] is not None]
    if others:
        second = min(others, key=lambda group: group["mean"])
        found.append(
            f"{second['label']}, the best of the others ({number(second['mean'])}), is "
            f"{_against_zero_shot(second)}."
        )
    return found


def _against_zero_shot(group: Group) -> str:
    versus = group["versus"]
    return f"{_change(versus['seeds_ratio'] or versus['ratio'], 'zero-shot')}, {sureness(versus)}"


def _change(ratio: Sequence[float], rival: str) -> str:
    """``58 % below zero-shot [55, 60]``, of geometric means."""
    estimate, low, high = (100 * (value - 1) for value in ratio)
    if estimate < 0:
        word, limits, size = "below", (-high, -low), -estimate
    else:
        word, limits, size = "above", (low, high), estimate
    shown = ", ".join(_short(limit) for limit in limits)
    return f"{_short(size)} % {word} {rival} [{shown}]"


def _short(value: float) -> str:
    text = f"{value:.0f}" if abs(value) >= 9.95 else f"{value:.1f}"
    return text.replace("-", "−")


def sureness(versus: Mapping[str, Any]) -> str:
    """``sure``, ``sure for these seeds only``, or ``not sure``."""
    if not versus["p"] < ALPHA:
        return "not sure"
    _, low, high = versus["seeds_ratio"] or versus["ratio"]
    if low <= 1 <= high:
        return "sure for these seeds only" if versus["seeds_ratio"] else "not sure"
    return "sure"


def _more_shots(
    usable: Sequence[int], groups: Sequence[Group], scores: Sequence[Scores]
) -> list[str]:
    """Whether the most demonstrations are better than the fewest, for each way of choosing them."""
    from harness.statistics.uncertainty import versus

    ways: dict[tuple[str, ...], list[int]] = {}
    for index in usable:
        group = groups[index]
        if group["k"] and group["training_tokens"] is None:
            name = (group["strategy"], str(group["select"]), group["draw"], group["quantization"])
            ways.setdefault(name, []).append(index)
    pairs = [
        (max(members, key=lambda i: groups[i]["k"]), min(members, key=lambda i: groups[i]["k"]))
        for members in ways.values()
        if len({groups[i]["k"] for i in members}) > 1
    ]
    found = []
    compared = versus([(scores[most], scores[fewest]) for most, fewest in pairs])
    for (most, fewest), facts in zip(pairs, compared, strict=True):
        if facts is None:
            continue
        rival = f"{groups[fewest]['k']}-shot"
        ratio = facts["seeds_ratio"] or facts["ratio"]
        label, sure = groups[most]["label"], sureness(facts)
        if sure == "not sure":
            found.append(f"{label} is not shown to differ from {rival}: {_change(ratio, 'it')}.")
        else:
            found.append(f"{label} is {_change(ratio, rival)}, {sure}.")
    return found


def _across_models(groups: Sequence[Group], scores: Sequence[Scores]) -> list[str]:
    """Models with different tokenizers share bits per byte, and nothing else."""
    usable = [
        (group, tuple(score.n_tokens for score in seeds[0]))
        for group, seeds in zip(groups, scores, strict=True)
        if group["bits_per_byte"] is not None
    ]
    if len({tokens for _, tokens in usable}) < 2:
        return []
    best: dict[str, Group] = {}
    for group, _ in usable:
        known = best.setdefault(group["model"], group)
        if group["bits_per_byte"] < known["bits_per_byte"]:
            best[group["model"]] = group
    ranked = sorted(best.values(), key=lambda group: float(group["bits_per_byte"]))
    shown = "; ".join(
        f"{group['model']} {number(group['bits_per_byte'], 3)} ({group['label']})"
        for group in ranked
    )
    return [
        f"The models' tokenizers differ, so only bits per byte compare them. The best of each: "
        f"{shown}."
    ]
