"""Made-up rows with references, and answers to them that are as good as is asked for."""

from __future__ import annotations

import random
from collections.abc import Sequence

from harness.core import Example
from harness.records import Answer

CLASSICAL = (
    ("縣令問老農為什麼哭泣，老農說：「牛死了，田就荒了。」", "令問老農何以泣，對曰：「牛死而田荒矣。」"),
    ("將軍守城三個月，糧食吃完了，士兵沒有一個人逃走。", "將軍守城三月，糧盡，士無一人去者。"),
    ("他年輕時家裡貧窮，借鄰居的燈光讀書。", "少時家貧，借鄰燈以讀。"),
    ("雁歸來了。", "雁歸矣。"),
    ("大水沖毀了橋樑，商人們停在岸邊等了十天。", "大水壞橋，賈人止於岸者旬日。"),
    ("好！", "善！"),
    ("皇帝下詔免除這個郡三年的賦稅，百姓都很高興。", "詔免郡賦三年，民皆喜。"),
    ("他的弟弟喜歡喝酒，每次喝醉就唱歌，唱完就哭。", "其弟嗜酒，每醉輒歌，歌罷而泣。"),
)  # fmt: skip
ENGLISH = (
    ("Why is the sea salt?", "Rivers carry dissolved minerals into the sea, where the water evaporates and the salt stays."),
    ("Name a prime between 20 and 30.", "23"),
    ("Give advice for a first job interview.", "Arrive ten minutes early, bring two copies of your letter, and ask at least one question about the work itself."),
    ("Summarize the fable of the fox and the grapes.", "A fox that cannot reach the grapes says that they are sour."),
    ("Is a tomato a fruit?", "Yes: in botany a tomato is a fruit, in the kitchen it is treated as a vegetable."),
)  # fmt: skip
NOISE = {"zh": "之其於者乃也而則", "en": "aeionst  "}


def rows(count: int, language: str = "zh") -> tuple[Example, ...]:
    """Test rows; from the second round on, each with a number of its own in both texts."""
    known = CLASSICAL if language == "zh" else ENGLISH
    ask = "翻譯成文言文：\n" if language == "zh" else ""
    made = []
    for i in range(count):
        source, reference = known[i % len(known)]
        turn = i // len(known)
        more = ("一二三四五六七八九"[turn % 9] * (turn // 9 + 1)) if turn else ""
        if language == "en" and turn:
            more = f" ({turn})"
        made.append(Example(f"r{i:03d}", f"{ask}{source}{more}", f"{reference}{more}"))
    return tuple(made)


def answered(
    examples: Sequence[Example], kept: float, seed: int = 0, language: str = "zh"
) -> tuple[Answer, ...]:
    """Answers that keep so large a share of their references' characters; a few are odd.

    One in twelve is empty, one in twelve only a character, one in twelve stops half way.
    """
    made = []
    for example in examples:
        rng = random.Random(f"{seed}{example.id}")
        text = "".join(
            c if rng.random() < kept else rng.choice(NOISE[language]) for c in example.output
        )
        odd = rng.randrange(12) if kept < 1 else 3
        text = ("", text[:1], text[: len(text) // 2])[odd] if odd < 3 else text
        made.append(answer(example.id, text))
    return tuple(made)


def answer(name: str, text: str, ended: str = "stop token") -> Answer:
    """An answer of which only the text counts."""
    return Answer(name, (), text, ended, "", (), 7)
