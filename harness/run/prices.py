"""The prices of reading, training and writing, from timing a model of one or two layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from harness.core import DecodingSpec
from harness.run.forecast import Prices, Way
from harness.run.miniature import VALUE
from harness.run.shape import Shape, Usual

if TYPE_CHECKING:
    from torch import Tensor, nn

TOKENS = {"cpu": 320, "cuda": 1 << 13}  # of the larger batch
WEIGHTS = 1 << 25  # of an output head that is timed; of a larger one a part is
KEYS = 1 << 26  # bytes of keys and values that are gone through, more than a cache holds
SEEN = 1024  # keys before the rows with which a pair is timed
POSITIONS = 64  # that the output head is timed with
Means = Callable[..., list[float]]  # calls → the seconds of each, in the mean


def _sizes(way: Way, usual: Usual) -> tuple[int, int, int]:
    """Rows and width of the larger batch, and the width of a single, shorter row."""
    most = TOKENS[way.device]
    width = max(8, min(most, round(usual.width)))
    rows = max(1, round(min(most, usual.tokens) / width))
    return rows, width, max(4, width // 4)


def of_reading(mean: Means, way: Way, usual: Usual, model: nn.Module, scale: float) -> Prices:
    """Of forwards of many tokens.

    n tokens in rows of width w, after P others, take call + n · token + n · (P + w / 2) · pair.
    """
    from harness.models.attention import short_row_attention

    rows, width, short = _sizes(way, usual)
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None) or SEEN
    before = max(1, min(SEEN, longest - width))
    workers = _workers(way, model)
    calls = (
        _forward(model, 1, short),
        _forward(model, rows, width),
        _after(model, rows, width, before),
    )
    with short_row_attention(model):
        found = mean(*(_side_by_side(call, workers) for call in calls))
    small, large, after = (seconds / workers for seconds in found)
    tokens = rows * width
    # Never cheaper than a third of its FLOPs: a difference of two times on a busy machine.
    least = large / tokens * usual.shape.pair / usual.shape.token / 3
    pair = max(least, (after - large) / (tokens * before))
    own = large - tokens * width / 2 * pair, small - short * short / 2 * pair
    token = max((own[0] - own[1]) / max(1, tokens - short), 0.3 * own[0] / tokens)
    call = max(0.0, own[0] - tokens * token)
    return Prices(
        call * scale,
        token * scale,
        pair * scale,
        _head(mean, way, usual.shape, POSITIONS, _losses),
    )


def _workers(way: Way, model: nn.Module) -> int:
    """How many batches the fast scorer computes at a time: one on each core, if it may."""
    import torch

    from harness.scoring.changes import changes_itself
    from harness.scoring.queue import MOST

    if way.device != "cpu" or changes_itself(model):
        return 1
    threads: int = torch.get_num_threads()
    return min(threads, MOST)


def _side_by_side(call: Callable[[], object], workers: int) -> Callable[[], object]:
    """The call in so many threads at the same time, each computing with one core."""
    if workers == 1:
        return call
    import torch

    from harness.scoring.queue import on_each_core

    def all_of_them() -> None:
        with on_each_core(workers, torch.inference_mode()(call)):
            pass

    return all_of_them


def _forward(model: nn.Module, rows: int, width: int) -> Callable[[], object]:
    import torch

    ids = torch.ones((rows, width), dtype=torch.long, device=model.device)
    return lambda: model(input_ids=ids, use_cache=False)


def _after(model: nn.Module, rows: int, width: int, before: int) -> Callable[[], object]:
    """A forward of rows after tokens that they share; where none can be, of rows that are whole."""
    import torch

    from harness.models.attention import attends_here
    from harness.scoring.prefix import SharedPrefix

    ids = torch.ones((rows, width), dtype=torch.long, device=model.device)
    try:
        shared = (1,) * before
        prefix = SharedPrefix(model, shared, before + width, attends_here(model))

        def call() -> object:
            return model(input_ids=ids, past_key_values=prefix.cache(rows), use_cache=True)

        call()
    except Exception:  # a family's own code, handed a cache it may not know
        return _forward(model, rows, width)
    return call


def _head(
    mean: Means,
    way: Way,
    shape: Shape,
    positions: int,
    then: Callable[[Tensor], object],
) -> float:
    """Seconds of one position's logits, and of what is done with them."""
    import torch

    vocabulary = min(shape.vocabulary, max(1024, WEIGHTS // shape.hidden))
    dtype, device = getattr(torch, way.dtype), way.device
    weight = torch.full((vocabulary, shape.hidden), VALUE, dtype=dtype, device=device)
    hidden = torch.full((positions, shape.hidden), VALUE, dtype=dtype, device=device)
    (seconds,) = mean(lambda: then(torch.nn.functional.linear(hidden, weight)))
    return seconds / positions * shape.vocabulary / vocabulary


def _losses(logits: Tensor) -> object:
    """What scoring does with logits: a log-softmax whose sum is taken in float64."""
    import torch

    values = logits.float()
    values = values - values.amax(dim=-1, keepdim=True)
    return values.exp_().sum(dim=-1, dtype=torch.float64).log()


def of_training(mean: Means, way: Way, usual: Usual, model: Any, scale: float) -> Prices:
    """Of forwards with their backward passes."""
    import torch

    from harness.models.attention import short_row_attention

    rows, width, short = _sizes(way, usual)
    if way.recomputed:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    model.train()
    with short_row_attention(model, training=True):
        small, large = mean(
            lambda: _loss(model, 1, short).backward(),
            lambda: _loss(model, rows, width).backward(),
        )
        saved = _saved(model, rows, width)
    tokens = rows * width
    token = max((large - small) / max(1, tokens - short), 0.3 * large / tokens)
    call = max(0.0, large - tokens * token)

    def head(logits: Tensor) -> object:
        targets = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        logits.requires_grad_()
        torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum").backward()
        return logits.grad

    position = _head(mean, way, usual.shape, POSITIONS, head)
    products = _head(mean, way, usual.shape, POSITIONS, lambda logits: None)  # of the backward pass
    return Prices(
        call * scale,
        token * scale,
        0.0,
        position + products,
        saved=saved * scale / tokens,
    )


def _loss(model: nn.Module, rows: int, width: int) -> Tensor:
    import torch

    from harness.scoring.losses import IGNORED, mean_loss

    ids = torch.ones((rows, width), dtype=torch.long, device=model.device)
    labels = ids.clone()
    labels[:, : width // 2] = IGNORED
    return mean_loss(model, ids, labels, rows * (width - width // 2))


def _saved(model: nn.Module, rows: int, width: int) -> float:
    """Bytes that a forward keeps for the backward pass, weights left out."""
    import torch

    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = _loss(model, rows, width)
    del loss
    return float(sum(found.values()))


def of_writing(mean: Means, way: Way, usual: Usual, model: nn.Module, scale: float) -> Prices:
    """Of writing one token of each row at a time."""
    shape, decoding = usual.shape, way.decoding or DecodingSpec()
    count = max(1, round(usual.tokens))
    few = max(1, count // 4)
    small, large = mean(_forward(model, few, 1), _forward(model, count, 1))
    token = max(0.0, (large - small) / max(1, count - few))
    call = max(0.0, large - count * token)
    pair, copied = _of_keys(mean, way, usual, count)
    return Prices(
        call * scale,
        token * scale,
        pair * shape.layers,
        _head(mean, way, shape, count, _chooser(decoding)),
        copied,
    )


def _of_keys(mean: Means, way: Way, usual: Usual, count: int) -> tuple[float, float]:
    """Seconds of a query and a key in one layer, and of a byte that beams move.

    The keys of several layers are gone through in turn, so many that no cache holds them.
    """
    import torch

    from harness.generation.caches import keep_rows

    dtype, size = getattr(torch, way.dtype), 64
    columns, heads = max(16, round(usual.before)), max(1, usual.shape.keys // size)
    groups = max(1, usual.shape.attention // max(1, usual.shape.keys))
    most = KEYS // (2 * columns * heads * size * dtype.itemsize)
    rows = max(1, min(count, most))
    layers = [
        SimpleNamespace(layout=None, offset=0, length=columns, keys=memory, values=memory.clone())
        for memory in (
            torch.full((rows, heads, columns, size), VALUE, dtype=dtype, device=way.device)
            for _ in range(max(1, min(usual.shape.layers, most // rows)))
        )
    ]
    query = torch.full((rows * heads, groups, size), VALUE, dtype=dtype, device=way.device)

    def attend() -> None:
        for layer in layers:
            scores = torch.bmm(query, layer.keys.flatten(0, 1).transpose(1, 2)).float()
            torch.bmm(scores.softmax(-1).to(dtype), layer.values.flatten(0, 1))

    order, past = torch.arange(rows, device=way.device), SimpleNamespace(layers=layers)
    (attended,) = mean(attend)
    pair = attended / (len(layers) * rows * columns)
    if not way.decoding or way.decoding.num_beams == 1:
        return pair, 0.0
    bytes_moved = sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)
    (moved,) = mean(lambda: keep_rows(past, order))
    return pair, moved / bytes_moved


def _chooser(decoding: DecodingSpec) -> Callable[[Tensor], object]:
    """What writing does with the logits of every row."""
    from harness.generation.sampling import choose

    def beams(logits: Tensor) -> object:
        return logits.log_softmax(-1).topk(min(logits.shape[-1], 2 * decoding.num_beams), dim=-1)

    def one(logits: Tensor) -> object:
        nothing: Sequence[Sequence[int]] = [()] * len(logits)
        plain = replace(decoding, repetition_penalty=1.0, no_repeat_ngram_size=0, min_new_tokens=0)
        return choose(logits.float(), nothing, plain, [0], [0] * len(logits))

    return beams if decoding.num_beams > 1 else one
