"""Where labels go so that they do not cover each other: pure functions, the same every time.

Lengths are in points (an SVG figure's units); y grows upwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Box = tuple[float, float, float, float]  # left, bottom, right, top
Place = tuple[float, float]

SIZE = 9.5  # of the text
HEIGHT = 1.15 * SIZE
# Where a label stands from its point: outwards in steps, the usual places first.
SIDES = ((1, 0), (1, 1), (1, -1), (-1, 0), (-1, 1), (-1, -1), (0, 1), (0, -1))
STEPS = (7, 12, 18, 26, 36, 48, 62, 78, 96, 116)


def width(text: str, size: float = SIZE) -> float:
    """About how wide a text is; its font is the reader's."""
    return size * sum(1.0 if c > "⺀" else 0.6 for c in text)


def shortened(text: str, most: float, size: float = SIZE) -> str:
    """A text that is not wider than ``most``; its end says more than its middle."""
    if width(text, size) <= most:
        return text
    room = most - width("…", size)
    ends = ["", ""]
    left, right = list(text), list(text)[::-1]
    while left and right:
        longer = int(len(ends[1]) < len(ends[0]))
        ends[longer] += (left, right)[longer].pop(0)
        if width(ends[0] + ends[1], size) > room:
            ends[longer] = ends[longer][:-1]
            break
    return f"{ends[0]}…{ends[1][::-1]}"


def apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The nearest places that are ``gap`` apart and between the limits, in the same order.

    Neighbours that are too near each other form a block around the mean of what they want.
    """
    if not wanted:
        return []
    gap = min(gap, (high - low) / max(1, len(wanted) - 1))
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    blocks: list[list[float]] = []  # sum, count
    for rank, i in enumerate(order):
        blocks.append([wanted[i] - rank * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1] = [blocks[-1][0] + total, blocks[-1][1] + count]
    top = high - (len(wanted) - 1) * gap
    flat = [min(max(total / n, low), top) for total, n in blocks for _ in range(int(n))]
    places = dict(zip(order, (y + rank * gap for rank, y in enumerate(flat)), strict=True))
    return [places[i] for i in range(len(wanted))]


def beside(
    points: Sequence[Place], sizes: Sequence[Place], taken: Sequence[Box], room: Box
) -> list[Box]:
    """A box for each point's label, near it, clear of what is taken and of the other labels.

    Each label takes the cheapest of its places while the others stay; three rounds settle.
    """
    found: list[Box | None] = [None] * len(points)
    for _ in range(3):
        for i, size in enumerate(sizes):
            others = [box for j, box in enumerate(found) if box is not None and j != i]
            found[i] = _cheapest(i, points, size, [*taken, *others], room)
    return [box for box in found if box is not None]


def _cheapest(i: int, points: Sequence[Place], size: Place, taken: Sequence[Box], room: Box) -> Box:
    """The cheapest box for a point's label; of equal ones the leftmost and lowest."""
    best: tuple[float, Box] | None = None
    for step in STEPS:
        for rank, side in enumerate(SIDES):
            if best is not None and 0.6 * step + 0.5 * rank > best[0]:
                continue  # too dear wherever it stands
            box = _at(points[i], size, side, step)
            away = 9 * (nearest(box, points) != i)
            price = cost(box, taken, room) + 0.6 * step + 0.5 * rank + away, box
            best = price if best is None else min(best, price)
    assert best is not None
    return best[1]


def nearest(box: Box, points: Sequence[Place]) -> int:
    """Which of the points a label would be thought to name."""
    left, bottom, right, top = box
    near = [(min(max(x, left), right), min(max(y, bottom), top)) for x, y in points]
    return min(range(len(points)), key=lambda i: (math.dist(points[i], near[i]), i))


def cost(box: Box, taken: Sequence[Box], room: Box) -> float:
    """What a label's box costs: covering something, and above all leaving the room."""
    outside = sum(max(0.0, a - b) for a, b in zip(room[:2], box[:2], strict=True))
    outside += sum(max(0.0, b - a) for a, b in zip(room[2:], box[2:], strict=True))
    shared = (overlap(box, other) for other in taken)
    return 1000 * outside + sum(5 + area for area in shared if area)


def overlap(one: Box, other: Box) -> float:
    """The area that two boxes share."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    up = min(one[3], other[3]) - max(one[1], other[1])
    return across * up if across > 0 and up > 0 else 0.0


def _at(point: Place, size: Place, side: tuple[int, int], step: float) -> Box:
    """The box on one side of a point, so many points from it."""
    (x, y), (across, up), (right, above) = point, size, side
    left = x + right * step * (0.7 if above else 1) + across * (right - 1) / 2
    bottom = y + above * step * (0.7 if right else 1) + up * (above - 1) / 2
    return left, bottom, left + across, bottom + up
