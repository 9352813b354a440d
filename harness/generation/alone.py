"""A row by itself: the plain computation that decides, and transformers' own loop.

``plain_logits`` computes everything again and keeps nothing. What it says of a row depends on the
row alone. ``write_alone`` writes rows of families whose caches cannot be handled here; transformers
knows every family's cache, and only the choice of tokens is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.core import DecodingSpec
from harness.models.encoding import Encoded
from harness.models.loading import LoadedModel, quiet

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import GenerationConfig, PreTrainedModel


def plain_logits(loaded: LoadedModel, row: Encoded, written: Sequence[Sequence[int]]) -> Tensor:
    """Logits of every token written after a row's context, and of the next one.

    Args:
        loaded: a model in eval mode.
        row: what stands before.
        written: answers so far, all of one length.

    Returns:
        float32, shape (answers, tokens written + 1, vocabulary).
    """
    import torch

    ids = torch.tensor([[*row.context, *tokens] for tokens in written], device=loaded.device)
    kept = len(written[0]) + 1
    logits: Tensor = loaded.model(input_ids=ids, use_cache=False, logits_to_keep=kept).logits
    return logits[:, -kept:].float()


Chooser = Callable[[Sequence[int], "Tensor"], int]


def write_alone(loaded: LoadedModel, row: Encoded, limit: int, choose: Chooser, end: int) -> None:
    """Let transformers write a row, a token at a time.

    Args:
        loaded: a model in eval mode.
        row: what stands before the answer.
        limit: at most so many tokens.
        choose: given the tokens so far and the next one's logits (1, vocabulary), returns the next.
        end: the token that tells transformers to stop.
    """
    import torch
    from transformers import GenerationConfig

    def only(ids: Tensor, scores: Tensor) -> Tensor:
        token = choose(ids[0, len(row.context) :].tolist(), scores)
        changed = torch.full_like(scores, float("-inf"))
        changed[0, token] = 0.0
        return changed

    config = GenerationConfig(
        do_sample=False, max_new_tokens=limit, eos_token_id=end, pad_token_id=end
    )
    run(loaded, row, config, logits_processor=[only])


def search_alone(
    loaded: LoadedModel,
    row: Encoded,
    decoding: DecodingSpec,
    limit: int,
    ends: Sequence[int],
    process: Callable[[Tensor, list[list[int]]], Tensor],
    ended: Callable[[list[int]], bool],
) -> tuple[list[int], float]:
    """Let transformers search with beams.

    Args:
        loaded: a model in eval mode.
        row: what stands before the answer.
        decoding: number of beams and what they are compared by.
        limit: at most so many tokens.
        ends: ids of end tokens.
        process: changes scores (beams, vocabulary), given what the beams have written.
        ended: whether an answer's tokens are ended by a stop string.

    Returns:
        The best beam's tokens, the end token included, and its score.
    """
    import torch
    from transformers import GenerationConfig

    before = len(row.context)
    config = GenerationConfig(
        num_beams=decoding.num_beams,
        length_penalty=decoding.length_penalty,
        early_stopping=decoding.early_stopping,
        max_new_tokens=limit,
        eos_token_id=list(ends),
        pad_token_id=ends[0],
        return_dict_in_generate=True,
        output_scores=True,
    )

    def criterion(ids: Tensor, scores: Any, **_: Any) -> Tensor:
        done = [ended(tokens) for tokens in ids[:, before:].tolist()]
        return torch.tensor(done, device=ids.device)

    found = run(
        loaded,
        row,
        config,
        logits_processor=[lambda ids, scores: process(scores, ids[:, before:].tolist())],
        stopping_criteria=[criterion],
    )
    return found.sequences[0, before:].tolist(), float(found.sequences_scores[0])


def run(loaded: LoadedModel, row: Encoded, config: GenerationConfig, **more: Any) -> Any:
    """What transformers' ``generate`` returns for a row, with this configuration and no other."""
    import torch

    ids = torch.tensor([row.context], device=loaded.device)
    with quiet(), neutral(loaded.model):
        return loaded.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            generation_config=config,
            **more,
        )


@contextmanager
def neutral(model: PreTrainedModel | PeftModel) -> Iterator[None]:
    """Take away what the model's own configuration of generation would fill in."""
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
