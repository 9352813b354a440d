"""How transformers and lm-eval write the same rows: what the speed of answers is compared with.

All of them get the same token ids, the same end tokens and the same number of new tokens.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from harness.generation.alone import neutral
from harness.models.encoding import Encoded
from harness.models.loading import LoadedModel, quiet

BATCHES = (4, 8, 16, 32)  # of static batches, of which the best one is shown
Writer = Callable[[LoadedModel, Sequence[Encoded], int, int], list[str]]


def in_batches(loaded: LoadedModel, rows: Sequence[Encoded], tokens: int, batch: int) -> list[str]:
    """Each row's greedy text by transformers' ``generate``, in padded batches of one size.

    Args:
        loaded: a model in eval mode.
        rows: what stands before the answers; sorted by length, as a careful user does.
        tokens: at most so many new ones.
        batch: rows that are written together; with 1, row by row.
    """
    order = sorted(range(len(rows)), key=lambda place: -len(rows[place].context))
    found: dict[int, str] = {}
    for start in range(0, len(order), batch):
        places = order[start : start + batch]
        texts = _generate(loaded, [rows[place] for place in places], tokens)
        found.update(zip(places, texts, strict=True))
    return [found[place] for place in range(len(rows))]


def _generate(loaded: LoadedModel, rows: Sequence[Encoded], tokens: int) -> list[str]:
    """One batch, padded on the left."""
    import torch
    from transformers import GenerationConfig

    encoder = loaded.encoder
    ids, mask = _padded(loaded, [row.context for row in rows])
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=tokens,
        eos_token_id=sorted(encoder.ends),
        pad_token_id=encoder.eos,
    )
    with torch.inference_mode(), quiet(), neutral(loaded.model):
        made = loaded.model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
    return [_text(loaded, written) for written in made[:, ids.shape[1] :].tolist()]


def _padded(loaded: LoadedModel, contexts: Sequence[Sequence[int]]) -> tuple[Any, Any]:
    """Ids and attention mask, padded on the left."""
    import torch

    longest = max(map(len, contexts))
    gaps = [longest - len(context) for context in contexts]
    ids = [[loaded.encoder.eos] * gap + list(one) for gap, one in zip(gaps, contexts, strict=True)]
    mask = [[0] * gap + [1] * (longest - gap) for gap in gaps]
    return torch.tensor(ids, device=loaded.device), torch.tensor(mask, device=loaded.device)


def _text(loaded: LoadedModel, tokens: Sequence[int]) -> str:
    """What tokens up to the first end spell."""
    ends = [place for place, token in enumerate(tokens) if token in loaded.encoder.ends]
    kept = list(tokens[: ends[0]] if ends else tokens)
    decode = loaded.encoder.tokenizer.decode
    return str(decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def by_lm_eval(loaded: LoadedModel, rows: Sequence[Encoded], tokens: int, batch: int) -> list[str]:
    """Each row's greedy text by lm-eval's ``generate_until``, given the rows' token ids.

    lm-eval cuts at its stop strings, of which the only one here is the EOS.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    peer = HFLM(pretrained=loaded.model, tokenizer=loaded.encoder.tokenizer, batch_size=batch)
    contexts = {str(place): list(row.context) for place, row in enumerate(rows)}
    # It takes texts, and makes ids of them: these stand for the ids that all contenders get.
    peer.tok_encode = lambda name, **_: contexts[name]
    peer.tok_batch_encode = lambda names, **_: _padded(loaded, [contexts[name] for name in names])
    settings = {"until": [], "max_gen_toks": tokens, "do_sample": False}
    asked = [
        Instance("generate_until", {}, (name, dict(settings)), place)
        for place, name in enumerate(contexts)
    ]
    with quiet(), neutral(loaded.model):
        return [str(text) for text in peer.generate_until(asked, disable_tqdm=True)]
