"""The harness that ours is compared with: lm-eval, on the same model object and token ids."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from harness.models.encoding import Encoded
from harness.models.loading import LoadedModel

BATCHES = {"cpu": (1, 8), "cuda": (1, 8, 32, 64)}
TRIAL_ROWS = 16  # at least, to tell which batch size is best


def best_batch(loaded: LoadedModel, rows: Sequence[Encoded]) -> int:
    """The batch size that scores rows of middling length fastest."""
    ordered = sorted(rows, key=len)
    lm_eval(loaded, ordered[:1], 1)  # its imports take seconds
    rates = {}
    for size in BATCHES[loaded.device.type]:
        count = min(len(ordered), max(TRIAL_ROWS, size))
        start = (len(ordered) - count) // 2
        began = time.perf_counter()
        lm_eval(loaded, ordered[start : start + count], size)
        rates[size] = count / (time.perf_counter() - began)
    return max(rates, key=lambda size: rates[size])


def lm_eval(loaded: LoadedModel, rows: Sequence[Encoded], batch: int) -> list[float]:
    """NLL of every row by lm-eval's Hugging Face backend, from the same model and token ids."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    from lm_eval.models.huggingface import HFLM

    peer = HFLM(pretrained=loaded.model, tokenizer=loaded.encoder.tokenizer, batch_size=batch)
    requests = [(("", ""), list(row.context), list(row.answer)) for row in rows]
    return [-found[0] for found in peer._loglikelihood_tokens(requests, disable_tqdm=True)]
