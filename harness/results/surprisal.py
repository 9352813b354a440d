"""How surprised a model was by each character of an answer, in one character each.

A token can be a part of a character (byte-level tokenizers cut Chinese into bytes) or several
characters: tokens that share a character are one unit, and every character of a unit carries the
unit's NLL. Levels of 0.2 nats are written in base64's alphabet, which no format has to escape.
"""

from __future__ import annotations

from collections.abc import Sequence

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
STEP = 0.2  # nats


def encode(nlls: Sequence[float], spans: Sequence[tuple[int, int]], size: int) -> str:
    """Write the NLLs of an answer's tokens and of the EOS.

    Args:
        nlls: nats of each token, the EOS last.
        spans: where each token but the EOS stands in the text, [start, end) in characters.
        size: characters of the text.

    Returns:
        ``size`` + 1 characters, the last for the EOS.
    """
    levels = [0.0] * size
    start = end = 0
    total = 0.0
    for nll, (first, last) in zip(nlls, spans, strict=False):
        if first >= end and last > first and end > start:  # a new unit
            levels[start:end] = [total] * (end - start)
            start, end, total = first, last, nll
        else:
            start, end, total = min(start, first) if end else first, max(end, last), total + nll
    levels[start:end] = [total] * (end - start)
    return "".join(map(_level, [*levels, nlls[-1]]))


def decode(text: str) -> list[float]:
    """The nats of each character, to half a level."""
    return [ALPHABET.index(character) * STEP for character in text]


def _level(nll: float) -> str:
    # A NaN is shown as the highest level, as an infinity is.
    return ALPHABET[min(round(nll / STEP), 63)] if nll < 63 * STEP else ALPHABET[63]
