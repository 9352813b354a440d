"""Does a model get the same numbers however its rows are computed? One function per rule.

Each check takes a :class:`ModelUnderTest`, tiny and random or a user's own, and raises
:class:`ConformanceError` with the row and the two numbers that should have been one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.conformance.definition import in_float64, nll
from harness.conformance.model_under_test import SHARED, SMALL, ModelUnderTest
from harness.core import Example, ModelSpec, PromptTemplate
from harness.errors import ConformanceError, NotApplicableError
from harness.models.chat import differences
from harness.models.encoding import Encoded
from harness.models.loading import LoadedModel, quiet
from harness.models.pool import ModelPool
from harness.prompts.rendering import messages, render
from harness.records import NONE
from harness.run.progress import silent
from harness.scoring.batches import common_prefix
from harness.scoring.changes import changes_itself
from harness.scoring.fast import fast
from harness.scoring.prefix import must_be_alone
from harness.scoring.score import reference, score
from harness.scoring.sharing import allowed
from harness.scoring.single import whole_row

TEMPLATE = PromptTemplate("conformance", "", "{instruction}\n{output}\n\n", "{instruction}\n")
CHAT = replace(TEMPLATE, chat=True)


def _same(
    model: ModelUnderTest, rows: Sequence[Encoded], one: Any, other: Any, found: Any, right: Any
) -> None:
    for row, a, b in zip(rows, found, right, strict=True):
        limit = allowed(model.files[0].dtype, b, len(row.answer))
        if not abs(a - b) <= limit:
            raise ConformanceError(
                f"{model.name}: row {row.prompt.id!r} has an NLL of {a:.6f} {one} and {b:.6f} "
                f"{other}; a difference of {limit:.1g} is allowed"
            )


def one_row_or_many(model: ModelUnderTest) -> None:
    """A row's number does not depend on the rows that are computed with it."""
    rows = model.rows()
    alone = [model.nlls([row])[0] for row in rows]
    _same(model, rows, "in a batch", "alone", model.nlls(rows), alone)


def prefix_shared_or_not(model: ModelUnderTest) -> None:
    """Sharing what rows begin with changes nothing, also for a second set of rows."""
    if model.files[0].quantization == "int8":
        raise NotApplicableError("int8 rows are scored alone: outlier columns depend on the batch")
    for seed in (0, 1):
        rows = model.rows(seed=seed)
        scored = fast(model.loaded, rows, silent, SMALL)
        whole = [whole_row(model.loaded, row) for row in rows]
        _same(model, rows, "with a shared prefix", "as a whole row", scored.nlls, whole)
        way = scored.how.prefix
        if model.sharing is not None and way != model.sharing:
            raise ConformanceError(
                f"{model.name}: its prefix is shared {way!r}, expected {model.sharing!r}: "
                f"{scored.how.refused}"
            )
        if way != NONE and scored.how.prefix_tokens != common_prefix(rows):
            raise ConformanceError(f"{model.name}: {scored.how.prefix_tokens} tokens shared")


def one_core_or_several(model: ModelUnderTest) -> None:
    """Batches that are computed at the same time have the bits that they have one after another."""
    if model.files[0].quantization == "int8":
        raise NotApplicableError("int8 rows are scored alone")
    rows, network = model.rows(12), model.loaded.model
    one_by_one = must_be_alone(network, max(map(len, rows))) or changes_itself(network)
    if model.loaded.device.type != "cpu" or one_by_one:
        raise NotApplicableError("its batches are computed one after the other")
    alone = fast(model.loaded, rows, silent, SMALL, workers=1)
    for _ in range(3):
        together = fast(model.loaded, rows, silent, SMALL, workers=3)
        if model.loaded.side_by_side is False:
            raise ConformanceError(f"{model.name}: a batch had other numbers beside others")
        _same(model, rows, "beside others", "on its own", together.nlls, alone.nlls)


def padding_right_or_left(model: ModelUnderTest) -> None:
    """Padded rows have the numbers of unpadded ones, on whichever side the padding stands."""
    rows = model.rows(4)
    whole = [whole_row(model.loaded, row) for row in rows]
    right = model.nlls(rows, share=False)
    _same(model, rows, "with padding on the right", "without padding", right, whole)
    if model.files[0].quantization == "int8":
        return
    left = _left_padded(model.loaded, rows)
    _same(model, rows, "with padding on the left", "without padding", left, whole)


def _left_padded(loaded: LoadedModel, rows: Sequence[Encoded]) -> list[float]:
    import torch

    width = max(map(len, rows))
    ids = torch.full((len(rows), width), loaded.encoder.eos)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, -len(row) :] = torch.tensor(row.ids)
        mask[index, -len(row) :] = 1
    # Without them, positions would count the padding.
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    arguments = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    if _takes_positions(loaded.model):
        arguments["position_ids"] = positions
    moved = {
        name: value.to(loaded.device) if torch.is_tensor(value) else value
        for name, value in arguments.items()
    }
    with torch.inference_mode():
        logits = loaded.model(**moved).logits
        return [nll(logits[index, width - len(row) :], row) for index, row in enumerate(rows)]


def _takes_positions(model: Any) -> bool:
    import inspect

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "position_ids" in inspect.signature(base.forward).parameters


def float64(model: ModelUnderTest) -> None:
    """The numbers are those of the same weights in float64."""
    import torch

    rows = [*model.rows(4), *model.rows(1, shared="", seed=5)]
    exact = in_float64(model.loaded, model.files[0].quantization)
    with torch.inference_mode():
        right = [
            nll(exact(input_ids=torch.tensor([row.ids], device=exact.device)).logits[0], row)
            for row in rows
        ]
    _same(model, rows, "as a run scores it", "in float64", model.nlls(rows), right)
    plain = reference(model.loaded, rows, silent).nlls
    _same(model, rows, "by the reference scorer", "in float64", plain, right)


def begins_with_one_prefix_token(model: ModelUnderTest) -> None:
    """The prefix token (BOS, or EOS for want of one) stands first, and once."""
    encoder = model.loaded.encoder
    example = Example("r0", "天地玄黃", "日月盈昃")
    row = encoder.encode(render(TEMPLATE, example))
    if row.context[0] != encoder.prefix or encoder.prefix in row.context[1:]:
        raise ConformanceError(
            f"{model.name}: the row begins with the tokens {row.context[:3]}, expected "
            f"{encoder.prefix} ({encoder.prefix_kind}) first and once"
        )


def writes_what_its_chat_template_writes(model: ModelUnderTest) -> None:
    """A chat prompt's tokens are ``apply_chat_template``'s, and its answer ends as the template's.

    Of two exchanges, so that an earlier answer stands in the prompt.
    """
    encoder = model.loaded.encoder
    if not encoder.chat:
        return
    shown, asked = Example("r0", "天地玄黃", "日月盈昃"), Example("r1", "寒來暑往\n", "秋收冬藏")
    row = encoder.encode(render(CHAT, asked, [shown], encoder.chat))
    found = differences(
        encoder.tokenizer,
        model.name,
        messages(CHAT, asked, [shown]),
        asked.output,
        (row.context, row.answer),
    )
    if found:
        raise ConformanceError(found[0])


def ends_with_one_scored_eos(model: ModelUnderTest) -> None:
    """The EOS stands last, once, and is scored."""
    row, encoder = model.rows(1)[0], model.loaded.encoder
    plain = encoder.tokenizer(row.prompt.answer, add_special_tokens=False).input_ids
    if list(row.answer) != [*plain, encoder.eos]:
        raise ConformanceError(
            f"{model.name}: the answer's tokens are {row.answer}, expected {plain} and one EOS "
            f"({encoder.eos})"
        )
    (scored,), _ = score(model.loaded, [row], "fast", silent)
    if scored.n_tokens != len(plain) + 1:
        raise ConformanceError(f"{model.name}: {scored.n_tokens} tokens scored")
    without = replace(row, answer=row.answer[:-1])
    shorter = whole_row(model.loaded, without)
    if not scored.nll > shorter:
        raise ConformanceError(
            f"{model.name}: an NLL of {scored.nll:.6f} with the EOS and {shorter:.6f} without it"
        )


def padding_id_in_an_answer(model: ModelUnderTest) -> None:
    """A token that pads elsewhere is scored where it stands in an answer."""
    tokenizer, encoder = model.loaded.encoder.tokenizer, model.loaded.encoder
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else encoder.eos
    first, *others = model.rows(4)
    odd = replace(first, answer=(padding, 0, encoder.eos, *first.answer))
    rows = [odd, *others]
    whole = [reference(model.loaded, [row], silent).nlls[0] for row in rows]
    _same(model, rows, "in a batch", "by the reference scorer", model.nlls(rows), whole)


def special_tokens_spelled_in_a_row(model: ModelUnderTest) -> None:
    """Text that spells a special token is text."""
    encoder = model.loaded.encoder
    special = sorted(set(encoder.tokenizer.all_special_tokens))
    text = "".join(special)
    row = model.encode("r0", f"天{text}地", f"日{text}月")
    for part, ids in (("context", row.context[1:]), ("answer", row.answer[:-1])):
        found = set(ids) & set(encoder.tokenizer.all_special_ids)
        if found:
            raise ConformanceError(
                f"{model.name}: the {part} spells {text!r} and has the special tokens {found}"
            )


def answer_of_one_token(model: ModelUnderTest) -> None:
    """An answer of one token, or none but the EOS, is scored like any other."""
    rows = model.rows(3)
    eos = model.loaded.encoder.eos
    rows += [replace(rows[0], answer=(rows[0].answer[0],)), replace(rows[1], answer=(eos,))]
    whole = [reference(model.loaded, [row], silent).nlls[0] for row in rows]
    _same(model, rows, "in a batch", "by the reference scorer", model.nlls(rows), whole)


def shuffled_rows(model: ModelUnderTest) -> None:
    """The order of the rows changes no row's number."""
    rows = model.rows()
    order = sorted(range(len(rows)), key=lambda index: index * 5 % len(rows))
    shuffled = model.nlls([rows[index] for index in order])
    back = [shuffled[order.index(index)] for index in range(len(rows))]
    _same(model, rows, "in shuffled order", "in order", back, model.nlls(rows))


def two_cells_in_a_row(model: ModelUnderTest) -> None:
    """A cell has the same bits again after the model has scored another one."""
    rows = model.rows(seed=1)
    before = model.nlls(rows)
    model.nlls(model.rows(seed=2, shared=SHARED[:-6]))
    if model.nlls(rows) != before:
        raise ConformanceError(f"{model.name}: other bits after another cell was scored")


def adapter_on_then_off(model: ModelUnderTest) -> None:
    """An adapter changes the numbers while it is attached, and not one bit afterwards."""
    spec, folder, adapter = model.files
    pool, rows = ModelPool(), model.rows()
    if adapter is not None:
        spec = replace(spec, adapter=None, adapter_digest=None)

    def numbers(spec: ModelSpec, adapter: Path | None) -> list[float]:
        other = ModelUnderTest(model.name, lambda: (spec, folder, adapter), pool=pool)
        found = other.nlls(rows)
        if adapter is not None:
            whole = [whole_row(other.loaded, row) for row in rows]
            _same(model, rows, "with an adapter in a batch", "alone", found, whole)
        return found

    model.close()
    with tempfile.TemporaryDirectory() as made:
        if adapter is None:
            adapter = random_adapter(spec, folder, Path(made))
        before = numbers(spec, None)
        adapted = numbers(replace(spec, adapter=str(adapter), adapter_digest="random"), adapter)
        after = numbers(spec, None)
    pool.clear()
    if adapted == before:
        raise ConformanceError(f"{model.name}: an adapter changes no number")
    if after != before:
        raise ConformanceError(f"{model.name}: other bits after an adapter was attached")


def random_adapter(spec: ModelSpec, folder: Path, made: Path) -> Path:
    """Write an adapter with random weights for every linear layer into ``made``; return it."""
    from peft import LoraConfig, get_peft_model

    from harness.models.loading import load_base

    config = LoraConfig(
        r=4,
        target_modules="all-linear",
        exclude_modules=["conv1d", "out_proj"],  # state-space layers read these weights themselves
        task_type="CAUSAL_LM",
        init_lora_weights=False,
    )
    with quiet():
        model = get_peft_model(load_base(spec, folder), config)
        model.save_pretrained(str(made), save_embedding_layers=False)
    return made


CHECKS: dict[str, Callable[[ModelUnderTest], None]] = {
    check.__name__: check
    for check in (
        float64,
        one_row_or_many,
        prefix_shared_or_not,
        one_core_or_several,
        padding_right_or_left,
        begins_with_one_prefix_token,
        writes_what_its_chat_template_writes,
        ends_with_one_scored_eos,
        padding_id_in_an_answer,
        special_tokens_spelled_in_a_row,
        answer_of_one_token,
        shuffled_rows,
        two_cells_in_a_row,
        adapter_on_then_off,
    )
}
