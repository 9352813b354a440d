"""A task: answer a line of verse with another that rhymes.

adaptbench run --task=rhymes --strategy=zeroshot,fewshot --k=1,3

The lines were composed for this project.
"""

from __future__ import annotations

from collections.abc import Sequence

from adaptbench import Example, TaskSource

REQUEST = "請為下面這句詩續一句，字數相同，並且押韻：\n"
TEST = (
    ("雪後見梅花", "香來第幾家"),
    ("牧笛起橋東", "斜陽草色中"),
    ("獨坐數歸舟", "風高荻葉秋"),
    ("老屋近江邊", "梨花又一年"),
    ("曉霧未開天", "鐘聲出翠煙"),
    ("細雨濕燈紅", "人行畫巷中"),
)
TRAIN = (
    ("山前一樹花", "水畔兩人家"),
    ("日落半江紅", "雲歸古寺中"),
    ("夜雨滿空樓", "孤燈照客愁"),
    ("野渡泊漁船", "疏籬起暮煙"),
    ("春盡鳥聲中", "門開滿院風"),
    ("竹徑向西斜", "柴扉釣者家"),
    ("月上小橋邊", "蛙鳴稻滿田"),
    ("葉落又逢秋", "江聲抱石流"),
)


class Rhymes(TaskSource):
    """Couplets: the first line is the question, the second the answer."""

    name = "rhymes"

    def test(self) -> Sequence[Example]:
        return _rows("test", TEST)

    def train(self) -> Sequence[Example]:
        return _rows("train", TRAIN)


def _rows(part: str, couplets: Sequence[tuple[str, str]]) -> list[Example]:
    return [
        Example(f"{part}-{number:02d}", REQUEST + first, second)
        for number, (first, second) in enumerate(couplets, start=1)
    ]
