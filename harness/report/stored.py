"""Lines that rooms which measure keep in English, so that a report can say them in a language.

Each is the template of a line where that room makes it (a test looks there). They stand here
because the source of those rooms is part of a cell's key.
"""

from __future__ import annotations

from harness.messages import say

STORED: tuple[str, ...] = (
    say("not run"),
    say("still to be computed"),
    say(
        "{path}: field {name} is not read ({rows} of {total} rows, first {place}); if it is part "
        "of the question, name it with --columns input={column}; --columns ignore={column} says "
        "it is not"
    ),
    say(
        "{path}: {n} of {total} rows have a byte order mark (U+FEFF) in their text, first {row}; "
        "it is scored like any other character"
    ),
    say("{path}: {n} of {total} rows left out (--skip-bad-rows): {reasons}"),
    say(
        "{model}: its folder holds an adapter too (adapter_config.json), which was not applied: "
        "--model is the model in config.json, --adapter names an adapter"
    ),
    say("{model}: its tokenizer names no EOS; {token} (id {id}) of its configuration ends answers"),
    say(
        "{model}: {n} of {total} answer tokens, in {some} of {rows} rows, are {token}: its "
        "tokenizer cannot write them. Its perplexity and bits per byte are not those of the text"
    ),
    say(
        "{model}: its tokenizer changes the answers of {n} of {rows} rows, {text} of row {row} "
        "for one: its perplexity and bits per byte are not those of the text"
    ),
    say(
        "{model}: its chat template writes no special token after an answer; answers end with the "
        "tokenizer's EOS, {token}, which the template does not"
    ),
    say(
        "{model}: its chat template writes {text} between an answer and its end, {token}; what is "
        "scored has the end right after the answer"
    ),
    say("{model}: a chat prompt differs from its chat template's: {where}"),
    say(
        "{model}: a prompt with its answer differs from what its chat template makes of the whole "
        "conversation: {where}; the answer is scored right after the prompt"
    ),
    say(
        "{model} judges answers that it wrote itself, and a model prefers its own; use a judge of "
        "another family"
    ),
    say("the model does not fit into memory in float32"),
    say("a number is not finite"),
)
