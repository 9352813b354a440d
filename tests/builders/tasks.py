"""Made-up rows of a translation task, and the files that hold them."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from pathlib import Path

ALPHABET = (
    "天地人山水火木金土日月年歲王公子女君臣民兵馬車舟之乎者也矣焉哉不無有為以於其乃，。：「」\n "
)


def row(
    number: int, length: int = 8, prefix: str = "t", direction: str = "classical"
) -> dict[str, str]:
    """A made-up row: text from a small alphabet, distinct for every number."""
    rng = random.Random(f"{prefix}{number}")
    source = "".join(rng.choice(ALPHABET[:40]) for _ in range(length))
    answer = "".join(rng.choice(ALPHABET[:40]) for _ in range(length))
    wording = "翻譯成文言文" if direction == "classical" else "翻譯成現代文"
    return {
        "id": f"{prefix}-{number:03d}",
        "instruction": f"{wording}：\n{source}",
        "output": answer,
    }


def sentence_of(instruction: str) -> str:
    """The line of a shipped instruction that is to be translated, not the request around it."""
    (sentence,) = [
        line for line in instruction.split("\n") if not re.search("譯|改寫|怎麼說|答案：", line)
    ]
    return sentence


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    """Write rows as JSON or JSON lines, by the name of the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rows)
    else:
        text = json.dumps(rows, ensure_ascii=False)
    path.write_text(text, encoding="utf-8")
    return path


@dataclass(frozen=True)
class Files:
    """The two files of a task."""

    test: Path
    train: Path
