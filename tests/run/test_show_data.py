"""``adaptbench data FILE``: what was understood of a file, without a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

from harness.cli import main
from tests.builders import ROOT

ROWS = [
    {"id": "a", "instruction": "翻譯成文言文：天", "output": "天也", "category": "x", "hint": "想"},
    {"id": "b", "instruction": "翻譯成白話文：", "input": "天也", "output": "天"},
    {"id": "c", "instruction": "問", "output": "一二三"},
    {"id": "d", "instruction": "問", "output": ""},
]


def write(folder: Path, *rows: object) -> Path:
    file = folder / "rows.json"
    file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    return file


def test_what_was_understood(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", str(write(tmp_path, *ROWS)), f"--model={tiny_model}"]) == 0
    out = capsys.readouterr().out
    facts = dict(line.split(None, 1) for line in out.splitlines()[:10] if line[:1] != " ")
    assert facts["container"] == "JSON lines"
    assert facts["layout"] == "instruction (3 rows)"
    assert facts["rows"] == "4, of which 3 usable, 1 not"
    assert facts["directions"] == "classical 1, modern 1, none recognized 1"
    assert "instruction 1 / 8 / 10 (min / median / max)" in out
    assert "answer 1 / 2 / 3 (min / median / max)" in out
    # The tiny tokenizer has a token a byte; each row has a BOS before and an EOS behind.
    asked = ["翻譯成文言文：天\n", "翻譯成白話文：\n天也\n", "問\n"]
    sizes = sorted(1 + len(text.encode()) for text in asked)
    assert f"prompt {sizes[0]} / {median(sizes):g} / {sizes[2]}" in out
    assert "answer and its end 4 / 7 / 10" in out
    assert "not read    'category', in 1 row, first line 1 (id 'a'); it is known to be no" in out
    assert "not read    'hint', in 1 row, first line 1 (id 'a')\n" in out
    assert "  line 4 (id 'd'), field 'output': the answer is empty" in out
    assert "row 'b' as it would be prompted (--prompt=plain)" in out
    assert "  | 翻譯成白話文：\n  | 天也\n" in out


def test_the_tokens_of_a_chat_prompt(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, ROWS[0])
    assert main(["data", str(file), f"--model={tiny_model}", "--prompt=chat"]) == 0
    assert "(--prompt=chat)" in capsys.readouterr().out


def test_without_a_model_on_this_machine_nothing_is_fetched(tmp_path: Path) -> None:
    """Characters only: no download, and neither torch nor transformers is imported."""
    code = (
        "import sys; from harness.cli import main; status = main(sys.argv[1:]);"
        "print(status, sorted({'torch', 'transformers', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "data", str(write(tmp_path, *ROWS)), "--prompt=chat"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "ADAPTBENCH_CACHE": str(tmp_path / "none")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "0 []"
    assert "tokens      not counted: smollm2-135m is not on this machine" in done.stdout
    assert "--prompt=chat is shown with the tokenizer of a model" in done.stdout
    assert not (tmp_path / "none").exists()


def test_flags_say_how_the_file_is_read(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, {"question": "擬古：天", "answer": "天也"})
    flags = ["--columns=instruction=question", "--columns=output=answer"]
    flags += ["--direction-pattern=classical=擬古", f"--model={tiny_model}"]
    assert main(["data", str(file), *flags]) == 0
    assert "directions  classical 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--format=alpaca"], "--format=alpaca: expected one of auto, csv, instruction"),
        (["--columns=output=answr"], "--columns output=answr: no row of"),
        (["--direction-pattern=modern=("], "expected a regular expression"),
        (["--prompt=plane"], "did you mean 'plain'"),
        (["--prompt=plain,role"], "--prompt: data shows one; name one"),
    ],
)
def test_a_wrong_flag_is_one_line(
    tmp_path: Path, flags: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", str(write(tmp_path, *ROWS)), *flags]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


def test_a_file_that_cannot_be_read_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", str(tmp_path / "none.json")]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("none.json: no such file")
