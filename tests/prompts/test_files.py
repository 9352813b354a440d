"""Prompt files by name: the shipped ones, and the user's own beside them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.errors import PromptError
from harness.prompts.files import PROMPTS, load_template

MINE = 'preamble = ""\ndemonstration = "{instruction}={output}\\n"\nquery = "{instruction}="\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "templates" / "prompts"
    own.mkdir(parents=True)
    return own


def test_a_prompt_of_the_users_own_is_found_by_name(folder: Path) -> None:
    (folder / "mine.toml").write_text(MINE)
    assert load_template("mine").query == "{instruction}="
    assert load_template("plain") == load_template(str(PROMPTS / "plain.toml"))
    with pytest.raises(PromptError, match=r"did you mean 'mine'\?\); known: .*mine, numbered"):
        load_template("minne")


def test_it_never_hides_a_shipped_one(folder: Path) -> None:
    shutil.copy(PROMPTS / "plain.toml", folder)
    assert load_template("plain").name == "plain"  # a copy is the same prompt
    (folder / "plain.toml").write_text(MINE)
    with pytest.raises(PromptError) as caught:
        load_template("plain")
    ours, theirs = PROMPTS / "plain.toml", folder / "plain.toml"
    assert str(caught.value) == (
        f"--prompt=plain: both {ours} and {theirs} are called so; give the path of one"
    )
    assert load_template(str(theirs)).query == "{instruction}="
    assert load_template("role").name == "role"
