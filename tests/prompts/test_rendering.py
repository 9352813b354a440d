"""Prompts: literal replacement, strict files, and a chat template that never sees data."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core import Example, PromptTemplate, Span
from harness.errors import PromptError
from harness.prompts.files import PROMPTS, load_template
from harness.prompts.rendering import fill, render

ASK = Example("q", "問{output}", "答{number}")
SHOW = [Example("a", "甲{instruction}", "乙{{ 7*7 }}"), Example("b", "丙", "丁{number}")]
NUMBERED = PromptTemplate(
    "n", "開。", "{number}.{instruction}>{output};", "{number}.{instruction}>"
)


def test_context_is_preamble_demonstrations_query() -> None:
    prompt = render(NUMBERED, ASK, SHOW)
    # Placeholders inside data stay as they are: the replacement is one pass over the template.
    assert prompt.text == "開。1.甲{instruction}>乙{{ 7*7 }};2.丙>丁{number};3.問{output}>"
    assert prompt.answer == "答{number}"
    assert prompt.demo_ids == ("a", "b")
    assert prompt.context == (Span(prompt.text, special=False),)


TALK = Example(
    "t",
    "問{number}",
    "答",
    history=(
        ("system", "令{output}"),
        ("user", "甲"),
        ("assistant", "乙{instruction}"),
        ("user", "丙"),
        ("assistant", "丁"),
    ),
)


def test_history_is_numbered_on_after_the_demonstrations() -> None:
    prompt = render(NUMBERED, TALK, [Example("a", "子", "丑")])
    assert prompt.text == "令{output}\n\n開。1.子>丑;2.甲>乙{instruction};3.丙>丁;4.問{number}>"
    assert prompt.demo_ids == ("a",)
    assert prompt.answer == "答"


def test_a_demonstration_shows_its_exchanges_and_no_system_turn() -> None:
    prompt = render(NUMBERED, ASK, [TALK, Example("a", "子", "丑")])
    assert prompt.text == ("開。1.甲>乙{instruction};2.丙>丁;3.問{number}>答;4.子>丑;5.問{output}>")
    assert prompt.demo_ids == ("t", "a")


def test_a_system_turn_before_an_empty_preamble() -> None:
    bare = PromptTemplate("bare", "", "{instruction}{output}", "{instruction}")
    assert render(bare, Example("s", "問", "答", history=(("system", "令"),))).text == "令\n\n問"


def test_no_template_engine_runs_on_data() -> None:
    assert (
        fill("{instruction}", instruction="{% raw %}{{ x }}\\1\\g<0>")
        == "{% raw %}{{ x }}\\1\\g<0>"
    )


def test_every_shipped_prompt_loads() -> None:
    names = {path.stem for path in PROMPTS.glob("*.toml")}
    assert {"plain", "role", "emotional", "numbered", "chat"} <= names
    for name in names:
        template = load_template(name)
        chat = (lambda m: "".join(f"[{x['content']}]" for x in m)) if template.chat else None
        text = render(template, ASK, SHOW, chat).text
        assert "問{output}" in text
        assert "丁{number}" in text
    assert "1" in render(load_template("numbered"), ASK, SHOW).text


def chat_template(messages: list[dict[str, str]]) -> str:
    assert not any("{" in message["content"] for message in messages), "data reached the template"
    return "<s>" + "".join(f"<{m['role']}>{m['content']}<e>" for m in messages) + "<assistant>"


def test_chat_keeps_data_apart_from_the_templates_own_tokens() -> None:
    template = PromptTemplate("chat", "系", "{instruction}", "{instruction}", chat=True)
    prompt = render(template, ASK, SHOW[:1], chat_template)
    assert prompt.context == (
        Span("<s><system>", special=True),
        Span("系"),
        Span("<e><user>", special=True),
        Span("甲{instruction}"),
        Span("<e><assistant>", special=True),
        Span("乙{{ 7*7 }}"),
        Span("<e><user>", special=True),
        Span("問{output}"),
        Span("<e><assistant>", special=True),
    )


@pytest.mark.parametrize(
    ("preamble", "history", "system"),
    [
        ("系", TALK.history, "<system>令{output}\n\n系<e>"),
        ("", TALK.history, "<system>令{output}<e>"),
        ("系", TALK.history[1:], "<system>系<e>"),
        ("", TALK.history[1:], ""),
    ],
)
def test_chat_history_stands_in_turns_of_its_own(
    preamble: str, history: tuple[tuple[str, str], ...], system: str
) -> None:
    template = PromptTemplate(
        "chat", preamble, "{number}.{instruction}", "{number}:{instruction}", chat=True
    )
    row = Example("t", TALK.instruction, TALK.output, history=history)
    prompt = render(template, row, [Example("a", "子", "丑")], chat_template)
    assert prompt.text == (
        f"<s>{system}<user>1.子<e><assistant>丑<e><user>2.甲<e><assistant>乙{{instruction}}<e>"
        "<user>3.丙<e><assistant>丁<e><user>4:問{number}<e><assistant>"
    )
    assert all("{" not in span.text for span in prompt.context if span.special)


def test_chat_demonstration_shows_its_exchanges_and_no_system_turn() -> None:
    template = PromptTemplate("chat", "", "{instruction}", "{instruction}", chat=True)
    assert render(template, ASK, [TALK], chat_template).text == (
        "<s><user>甲<e><assistant>乙{instruction}<e><user>丙<e><assistant>丁<e>"
        "<user>問{number}<e><assistant>答<e><user>問{output}<e><assistant>"
    )


def test_chat_without_a_chat_template() -> None:
    with pytest.raises(PromptError, match="no chat template"):
        render(load_template("chat"), ASK)


def test_chat_template_that_drops_a_message() -> None:
    template = PromptTemplate("chat", "系", "{instruction}", "{instruction}", chat=True)
    with pytest.raises(PromptError, match="does not show the system message exactly once"):
        render(template, ASK, (), lambda messages: messages[-1]["content"])


BASE = 'preamble = ""\ndemonstration = "{instruction}{output}"\nquery = "{instruction}"\n'
BROKEN = {
    "not TOML": ("preamble = ", "not valid TOML"),
    "missing": ('preamble = ""\n', "'demonstration' must be a text, found None"),
    "not a text": (BASE.replace('""', "3"), "'preamble' must be a text, found 3"),
    "unknown key": (BASE + 'querry = ""\n', "unknown key 'querry' (did you mean 'query'?)"),
    "no instruction": (
        BASE.replace('query = "{instruction}"', 'query = "?"'),
        "'query' has no {in",
    ),
    "no output": (BASE.replace("{output}", ""), "'demonstration' has no {output}"),
    "answer given away": (
        BASE.replace('query = "', 'query = "{output}'),
        "must not contain {output}",
    ),
    "a misspelt placeholder": (
        BASE.replace("{output}", "{output}{outputs}"),
        "(did you mean 'output'?)",
    ),
    "chat a text": (BASE + 'chat = "yes"\n', "'chat' must be true or false"),
}


@pytest.mark.parametrize(("content", "says"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_prompt_files(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(PromptError) as caught:
        load_template(str(file))
    assert says in str(caught.value)
    assert str(file) in str(caught.value)


def test_unknown_names() -> None:
    with pytest.raises(
        PromptError, match=r"did you mean 'plain'.*known: chat, dialogue, emotional"
    ):
        load_template("plane")
    with pytest.raises(PromptError, match="no such file"):
        load_template("./none.toml")
