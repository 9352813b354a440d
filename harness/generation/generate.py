"""What a model writes for some test rows, to be looked at beside the numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from harness.core import GenerationSettings
from harness.models.encoding import Encoded, Encoder
from harness.models.loading import LoadedModel, quiet
from harness.records import Sample

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import GenerationConfig, PreTrainedModel


def generate(
    loaded: LoadedModel,
    rows: Sequence[Encoded],
    settings: GenerationSettings,
    seed: int,
    progress: Callable[[int], None],
) -> tuple[Sample, ...]:
    """Let the model answer each row after its context, alone, up to one of its end tokens.

    Args:
        loaded: a model in eval mode.
        rows: encoded rows; their answers are not shown.
        settings: transformers' generation settings. Nothing of the model's own configuration of
            generation counts.
        seed: of sampling; each row draws from it and its own id, so that no other row matters.
        progress: called with the number of rows done.

    Returns:
        What was written for each row; not finished is what ended at ``max_new_tokens``.
    """
    found: list[Sample] = []
    for row in rows:
        answer = _answer(loaded, row, _config(loaded.encoder, row, settings), seed)
        ends = [place for place, token in enumerate(answer) if token in loaded.encoder.ends]
        finished = bool(ends)
        if finished:
            answer = answer[: ends[0]]
        text = loaded.encoder.tokenizer.decode(answer, skip_special_tokens=True)
        found.append(Sample(row.prompt.id, text, len(answer), finished))
        progress(len(found))
    return tuple(found)


def _answer(loaded: LoadedModel, row: Encoded, config: GenerationConfig, seed: int) -> list[int]:
    """The tokens that the model writes after the row's context."""
    import torch

    ids = torch.tensor([row.context], device=loaded.device)
    with torch.inference_mode(), torch.random.fork_rng(), quiet(), _neutral(loaded.model):
        torch.manual_seed(_seed(seed, row.prompt.id))
        output = loaded.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config
        )
    written: list[int] = output[0, ids.shape[1] :].tolist()
    return written


def _config(encoder: Encoder, row: Encoded, settings: GenerationSettings) -> GenerationConfig:
    """The settings as transformers takes them, with a limit that the model's positions allow."""
    from transformers import GenerationConfig

    values = {name: value for name, value in asdict(settings).items() if name != "rows"}
    if settings.do_sample:
        values["top_k"] = 0  # unset, transformers takes 50
    else:  # transformers warns of what then has no effect
        del values["temperature"], values["top_p"]
    room = (encoder.max_length or len(row) + settings.max_new_tokens) - len(row.context)
    values["max_new_tokens"] = max(1, min(settings.max_new_tokens, room))
    return GenerationConfig(**values, eos_token_id=sorted(encoder.ends), pad_token_id=encoder.eos)


@contextmanager
def _neutral(model: PreTrainedModel | PeftModel) -> Iterator[None]:
    """Take away what the model's own configuration would fill in."""
    from transformers import GenerationConfig

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    own = [(part, part.generation_config) for part in dict.fromkeys((model, base))]
    for part, _ in own:
        part.generation_config = GenerationConfig()
    try:
        yield
    finally:
        for part, config in own:
            part.generation_config = config


def _seed(seed: int, row_id: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\n{row_id}".encode()).digest()[:4], "big")
