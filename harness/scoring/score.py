"""Negative log-likelihood of each row's reference answer.

For a row with answer tokens a_1 … a_m (the last is the EOS) after a context c:

    NLL = − Σ_i  log p(a_i | c, a_1 … a_{i−1})        in nats

``reference`` computes one row at a time from full logits and exists to be obviously right.
``fast`` computes the same numbers: what all rows of the cell share is computed once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from harness.core import ModelSpec
from harness.errors import ModelError
from harness.models.encoding import Encoded
from harness.models.loading import LoadedModel
from harness.models.memory import is_out_of_memory
from harness.models.soundness import check_ids
from harness.records import Likelihood, Repetition, Scoring
from harness.results.surprisal import encode
from harness.scoring.batches import BUDGETS
from harness.scoring.fast import Scored, fast
from harness.scoring.single import whole_row

Progress = Callable[[int], None]
Scorer = Callable[[LoadedModel, Sequence[Encoded], Progress], Scored]

# What the sentinel row may drift, relative. Scored alone each time, it depends on no batch.
DRIFT = 1e-5


def score(
    loaded: LoadedModel, rows: Sequence[Encoded], scorer: str, progress: Progress
) -> tuple[tuple[Likelihood, ...], Scoring]:
    """Score every row, and check that the model has not changed since it was loaded.

    The first row that a model ever scores is its sentinel, scored again after every cell.

    Args:
        loaded: a model in eval mode.
        rows: encoded rows, each of at least one context and one answer token.
        scorer: ``fast`` or ``reference``.
        progress: called with the number of rows done so far.

    Returns:
        The likelihood of each row, and how they were computed.

    Raises:
        ModelError: a token has no embedding, a row does not fit into memory, or the sentinel has
            another NLL than when the model was fresh.
    """
    check_ids(loaded.model, loaded.encoder, rows)
    if loaded.sentinel is None:
        loaded.sentinel = rows[0], whole_row(loaded, rows[0])
    try:
        scored = scorer_for(loaded.spec, scorer)(loaded, rows, progress)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError(
            f"{loaded.spec.name}: a row's logits do not fit into memory; use --scorer=fast, a "
            f"smaller --k, --quant=nf4 or --dtype=bfloat16"
        ) from None
    _check_sentinel(loaded)
    found = zip(rows, likelihoods(rows, scored.nlls), scored.tokens, strict=True)
    return tuple(_with_surprisal(loaded, *each) for each in found), scored.how


def repeat(
    loaded: LoadedModel,
    rows: Sequence[Encoded],
    scorer: str,
    seen: Sequence[Likelihood],
    times: int,
    progress: Progress,
) -> Repetition:
    """Score again, in batches half as large each time: how far apart are the numbers?

    This is the noise that is left when nothing has changed; a difference within it means
    nothing.

    Args:
        loaded: the model that gave ``seen``.
        rows: the encoded rows.
        scorer: ``fast`` or ``reference``.
        seen: what the first time gave.
        times: how often in all, at least 2.
        progress: called with the number of rows done so far.

    Returns:
        How far the rows' perplexities and their geometric mean moved.
    """
    first = [one.nll / one.n_tokens for one in seen]
    batched = scorer_for(loaded.spec, scorer) is fast
    budget = BUDGETS[loaded.device.type]
    worst_row = worst_mean = 0.0
    for _ in range(times - 1):
        if batched:
            budget = replace(budget, tokens=budget.tokens // 2)
            nlls = fast(loaded, rows, progress, budget).nlls
        else:
            nlls = scorer_for(loaded.spec, scorer)(loaded, rows, progress).nlls
        pairs = zip(nlls, seen, first, strict=True)
        differences = [nll / one.n_tokens - before for nll, one, before in pairs]
        worst_row = max(worst_row, *map(_relative, differences))
        worst_mean = max(worst_mean, _relative(math.fsum(differences) / len(differences)))
    return Repetition(times, batched, worst_row, worst_mean)


def _relative(difference: float) -> float:
    """What a difference of log perplexities is to the perplexity; 0 where a row is not finite."""
    return math.expm1(min(abs(difference), 700.0)) if not math.isnan(difference) else 0.0


def likelihoods(rows: Sequence[Encoded], nlls: Sequence[float]) -> tuple[Likelihood, ...]:
    """Each row's NLL, in nats, with the row's counts of tokens, characters and bytes."""
    return tuple(_likelihood(row, nll) for row, nll in zip(rows, nlls, strict=True))


def scorer_for(spec: ModelSpec, name: str) -> Scorer:
    """The scorer of that name, if the model allows it.

    int8 layers choose their outlier columns per batch: only alone is a row's number its own.
    """
    return SCORERS["reference" if spec.quantization == "int8" else name]


def _with_surprisal(
    loaded: LoadedModel, row: Encoded, seen: Likelihood, tokens: Sequence[float]
) -> Likelihood:
    """The likelihood with how surprising each character was, where the tokenizer can say."""
    spans = loaded.encoder.spans(row.prompt.answer)
    if len(spans) != len(row.answer) - 1:
        return seen
    return replace(seen, surprisal=encode(tokens, spans, seen.n_chars))


def _likelihood(row: Encoded, nll: float) -> Likelihood:
    text = row.prompt.answer
    return Likelihood(
        id=row.prompt.id,
        nll=nll,
        n_tokens=len(row.answer),
        n_chars=len(text),
        n_bytes=len(text.encode("utf-8")),
        n_context=len(row.context),
        demo_ids=row.prompt.demo_ids,
    )


def _check_sentinel(loaded: LoadedModel) -> None:
    assert loaded.sentinel is not None
    row, before = loaded.sentinel
    after = whole_row(loaded, row)
    if math.isnan(before) and math.isnan(after):
        return
    if not abs(after - before) <= DRIFT * max(1.0, abs(before)):
        raise ModelError(
            f"{loaded.spec.name}: row {row.prompt.id!r} had an NLL of {before:.6f} when the model "
            f"was fresh and has {after:.6f} now; the model's weights changed while it was scored, "
            f"and none of its numbers can be trusted"
        )


def reference(loaded: LoadedModel, rows: Sequence[Encoded], progress: Progress) -> Scored:
    """One row at a time, full logits, log-softmax and sum in float64."""
    import torch

    nlls, tokens = [], []
    with torch.inference_mode():
        for done, row in enumerate(rows, start=1):
            ids = torch.tensor([row.ids], device=loaded.device)
            logits = loaded.model(input_ids=ids, use_cache=False).logits[0]
            # The logits at position t predict token t + 1.
            log_probs = logits[len(row.context) - 1 : -1].double().log_softmax(dim=-1)
            answer = ids[0, len(row.context) :]
            picked = log_probs.gather(1, answer[:, None])
            nlls.append(-picked.sum().item())
            tokens.append((-picked).flatten().tolist())
            progress(done)
    return Scored(nlls, tokens, Scoring(batches=len(rows)))


SCORERS: dict[str, Scorer] = {"fast": fast, "reference": reference}
