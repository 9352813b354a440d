"""What was understood of a file of rows, in lines for a terminal. Nothing is downloaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from harness.core import Example, ModelSpec, PromptTemplate
from harness.data.columns import Columns, check_columns
from harness.data.faults import LISTED
from harness.data.rows import Inspected, Reading, inspect_rows
from harness.models.embedded import EMBEDDED, is_complete
from harness.models.encoding import Encoder
from harness.models.loading import load_encoder
from harness.models.sources import Source, parse_source
from harness.naming import counted
from harness.prompts.files import load_template
from harness.prompts.rendering import ChatTemplate, remembering, render

SHOWN = 3  # rows that are shown as they would be prompted


def show_data(path: Path, how: Reading, prompt: str, model: str) -> Iterator[str]:
    """Yield the lines: container, layouts, rows, directions, lengths, fields, faults, prompts.

    Args:
        path: the file.
        how: how it is to be read; faults are listed, whether or not they are to be left out.
        prompt: what ``--prompt`` calls the template of the rows that are shown.
        model: whose tokenizer counts tokens, where it is on this machine.

    Raises:
        AdaptbenchError: the file as a whole cannot be read, or a flag is wrong.
    """
    template = load_template(prompt)
    source = parse_source(model)
    found = inspect_rows(path, how)
    check_columns(Columns.of(how.columns), {str(path): found.fields})
    yield from _facts(found)
    folder = _local(source)
    encoder = None if folder is None else load_encoder(ModelSpec(source.name, ""), folder)
    if encoder is None:
        yield (
            f"tokens      not counted: {source.name} is not on this machine, and this command "
            f"downloads nothing; --model=DIR counts with another tokenizer"
        )
    elif found.examples:
        yield from _tokens(found.examples, template, encoder)
    yield from _fields(found)
    yield from _faults(found)
    yield from _prompts(found.examples[:SHOWN], template, encoder)


def _facts(found: Inspected) -> Iterator[str]:
    rows = found.examples
    layouts = ", ".join(
        f"{name} ({counted(count, 'row')})" for name, count in found.layouts.items()
    )
    directions = Counter(row.tag("direction") or "none recognized" for row in rows)
    yield f"file        {found.path}"
    yield f"container   {found.container}"
    yield f"layout      {layouts or 'none'}"
    yield f"rows        {found.total}, of which {len(rows)} usable, {len(found.faults)} not"
    if not rows:
        return
    yield f"directions  {', '.join(f'{name} {count}' for name, count in directions.most_common())}"
    history = sum(1 for row in rows if row.history)
    if history:
        have = "has" if history == 1 else "have"
        yield f"history     {counted(history, 'row')} {have} a system text or earlier turns"
    yield f"characters  instruction {_spread([len(row.instruction) for row in rows])}"
    yield f"            answer {_spread([len(row.output) for row in rows])}"


def _spread(lengths: Sequence[int]) -> str:
    return f"{min(lengths)} / {median(lengths):g} / {max(lengths)} (min / median / max)"


def _local(source: Source) -> Path | None:
    """The folder of a model's tokenizer, if it is on this machine."""
    if source.kind == "folder":
        return Path(source.reference)
    if source.kind == "embedded":
        folder = EMBEDDED[source.reference].folder
        return folder if is_complete(folder) else None
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(source.reference, revision=source.revision, local_files_only=True)
        )
    except Exception:  # the client has several for one that is not there
        return None


def _tokens(rows: Sequence[Example], template: PromptTemplate, encoder: Encoder) -> Iterator[str]:
    chat = _chat(template, encoder)
    seen = [encoder.encode(render(template, row, (), chat), limited=False) for row in rows]
    name = encoder.model_name
    yield f"tokens      prompt {_spread([len(one.context) for one in seen])}, of {name}"
    yield f"            answer and its end {_spread([len(one.answer) for one in seen])}"
    limit = encoder.max_length
    too_long = [one.prompt.id for one in seen if limit is not None and len(one) > limit]
    if too_long:
        longer = f"{counted(len(too_long), 'row')} longer than its {limit}"
        yield f"            {longer}, first {too_long[0]!r}"


def _chat(template: PromptTemplate, encoder: Encoder | None) -> ChatTemplate | None:
    if not template.chat or encoder is None:
        return None
    return remembering(encoder.chat, {})


def _fields(found: Inspected) -> Iterator[str]:
    for one in found.unread:
        why = "" if one.said else "; it is known to be no part of the question, or stands there"
        yield f"not read    {one.name!r}, in {counted(one.rows, 'row')}, first {one.place}{why}"


def _faults(found: Inspected) -> Iterator[str]:
    if not found.faults:
        return
    yield ""
    more = f", the first {LISTED}" if len(found.faults) > LISTED else ""
    yield f"{len(found.faults)} faults{more}; --skip-bad-rows leaves such rows out:"
    for fault in found.faults[:LISTED]:
        yield f"  {fault.line}"


def _prompts(
    rows: Sequence[Example], template: PromptTemplate, encoder: Encoder | None
) -> Iterator[str]:
    if template.chat and encoder is None:
        yield ""
        yield f"--prompt={template.name} is shown with the tokenizer of a model: --model=DIR"
        return
    for row in rows:
        prompt = render(template, row, (), _chat(template, encoder))
        yield ""
        yield f"row {row.id!r} as it would be prompted (--prompt={template.name}), and its answer:"
        yield from (f"  | {line}" for line in prompt.text.split("\n"))
        yield from (f"  > {line}" for line in prompt.answer.split("\n"))
