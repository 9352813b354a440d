"""Prompt files: what looks like a placeholder or a special token, and is none, is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import PromptError
from harness.prompts.files import load_template
from harness.prompts.placeholders import misread

ROWS = "rows have {instruction}, {output} and {number}"
WRONG = {
    "{input}": f": {ROWS}; the input stands in {{instruction}}",
    "{question}": f": {ROWS}; the question stands in {{instruction}}",
    "{answer}": f": {ROWS}; the answer stands in {{output}}",
    "{todays_date}": f": {ROWS}",
    "{問題}": f": {ROWS}",
    "{doc.question}": f": {ROWS}",
    "{score:.2f}": f": {ROWS}",
    "{Instruction}": f" (did you mean 'instruction'?): {ROWS}",
    "{ instruction }": ": a placeholder is its name in braces and no more; write {instruction}",
    "{instruction!r}": ": a placeholder is its name in braces and no more; write {instruction}",
    "{instruction.text}": ": a placeholder is its name in braces and no more; write {instruction}",
    "{instruction|trim}": ": a placeholder is its name in braces and no more; write {instruction}",
    "{number:02d}": ": a placeholder is its name in braces and no more; write {number}",
    "{}": f": placeholders have names; {ROWS}",
    "{0}": f": placeholders have names; {ROWS}",
    "{{instruction}}": ": doubled braces would go to the model as they are; write {instruction}",
    "{{{output}}}": ": doubled braces would go to the model as they are; write {output}",
    "{{ row.text | trim }}": f": doubled braces would go to the model as they are; write single ones; {ROWS}",
    "{{input}}": f": doubled braces would go to the model as they are; write single ones; {ROWS}; the input stands in {{instruction}}",
    "${instruction}": ": a placeholder has no $; write {instruction}",
    "$input": f": a placeholder has no $; {ROWS}; the input stands in {{instruction}}",
    "%s": f": % fills in nothing; {ROWS}, and the question stands in {{instruction}}",
    "%(input)s": f": % fills in nothing; {ROWS}, and the question stands in {{instruction}}",
    "{% if input %}": f": no template engine reads a prompt; placeholders are replaced literally, and {ROWS}",
}
TEXT = [
    "{instruction} {output} {number}",
    'Return output in JSON format: {"answer": "value"}.',
    '{"answer": ...}',
    '```json\n{"name": "x", "list": [], "empty": {}}\n```',
    '{"type": "object", "properties": {"a": {"type": "string"}}}',
    '{"answer": "{output}"}',
    "{'answer': 1}",
    "{key: value}",
    "{a:1}",
    "{...}",
    "one of {A, B, C, D}",
    "{x|x>0}",
    r"\frac{a}{b} \sqrt[3]{x} x^{2} x_{i} \boxed{answer} \boxed{{output}} {\bf x} \{x\}",
    r"\d{4}-[0-9]{2}",
    "function f() {} else {}",
    "100% sure, 5%s",
    "$5 and $x$",
    "}} and {",
]


@pytest.mark.parametrize(("found", "says"), WRONG.items(), ids=WRONG)
def test_what_is_no_placeholder_is_named_with_what_would_be_right(found: str, says: str) -> None:
    assert misread(f"{{instruction}}\nx {found} y", []) == found + says
    assert misread(found, [found]) is None


@pytest.mark.parametrize("text", TEXT)
def test_braces_that_are_plainly_text_stay_text(text: str) -> None:
    assert misread(text, []) is None
    assert misread(f"x {text} y", []) is None


def test_escaped_json_is_explained() -> None:
    assert misread('{{"answer": "{output}"}}', []) == (
        '{{": doubled braces would go to the model as they are; write single ones; ' + ROWS
    )


ALPACA = """preamble = "Below is an instruction, paired with an input.\\n\\n"
demonstration = "### Instruction:\\n{instruction}\\n### Input:\\n{input}\\n{output}\\n"
query = "### Instruction:\\n{instruction}\\n"
"""


def load(tmp_path: Path, text: str, encoding: str = "utf-8") -> str:
    file = tmp_path / "mine.toml"
    file.write_text(text, encoding=encoding)
    try:
        return load_template(str(file)).query
    except PromptError as error:
        return str(error).removeprefix(f"{file}: ")


def test_the_line_names_the_file_and_the_key(tmp_path: Path) -> None:
    assert load(tmp_path, ALPACA) == (
        f"'demonstration' contains {{input}}: {ROWS}; the input stands in {{instruction}}. "
        f"What is meant as text stands in the list 'literal'"
    )


def test_the_list_literal_names_what_is_meant_as_text(tmp_path: Path) -> None:
    assert load(tmp_path, ALPACA + 'literal = ["input"]\n').startswith("### Instruction")
    assert load(tmp_path, ALPACA + 'literal = ["{input}"]\n').startswith("### Instruction")
    assert "{input}" in load(tmp_path, ALPACA + 'literal = ["in"]\n')
    assert load(tmp_path, ALPACA + "literal = true\n") == (
        "'literal' must be a list of texts, found True"
    )


@pytest.mark.parametrize(
    "token",
    ["<|im_start|>", "<|eot_id|>", "<s>", "</s>", "<start_of_turn>", "<｜User｜>", "<bos>"],
)
def test_a_special_token_in_a_prompt_would_be_text(tmp_path: Path, token: str) -> None:
    plain = f'preamble = ""\ndemonstration = "{{instruction}}{{output}}"\nquery = "{token}{{instruction}}"\n'
    assert load(tmp_path, plain) == (
        f"'query' contains {token}, which would be tokenized as text: special tokens are never "
        f"read from a prompt. With chat = true the tokenizer's own chat template writes them. "
        f"What is meant as text stands in the list 'literal'"
    )
    chat = plain.replace("{output}", "") + "chat = true\n"
    assert "The tokenizer's chat template writes them; leave them out" in load(tmp_path, chat)
    assert load(tmp_path, plain + f'literal = ["{token}"]\n') == token + "{instruction}"


@pytest.mark.parametrize("text", ["a < b", "<tag>", "[INST] {instruction} [/INST]", "<a|b>", "||"])
def test_other_marks_are_text(tmp_path: Path, text: str) -> None:
    query = text if "{instruction}" in text else text + "{instruction}"
    plain = f'preamble = ""\ndemonstration = "{{instruction}}{{output}}"\nquery = "{query}"\n'
    assert load(tmp_path, plain) == query


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    plain = 'preamble = ""\ndemonstration = "{instruction}{output}"\nquery = "{instruction}"\n'
    assert load(tmp_path, plain, "utf-8-sig") == "{instruction}"
