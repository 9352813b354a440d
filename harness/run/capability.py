"""What this machine does in a second of the work that is to come: the prices of a forecast.

Layers of the model's shape are timed with the threads and kernels in use, in batches of two sizes
and with keys before them: three times, from which follow what a call, a token and a pair take. The
output head is timed alone. Means are taken, not the best times: on a busy machine that is what
there is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core import DecodingSpec
from harness.run.forecast import Machine, Prices, Way
from harness.run.miniature import adapt, make, quantize
from harness.run.shape import Shape

if TYPE_CHECKING:
    from torch import Tensor, nn

SECONDS = 1.0  # that all of it should take
TIMINGS = {"read": 4, "train": 3, "write": 6}
TOKENS = {"cpu": 320, "cuda": 1 << 13}  # of the larger batch
WEIGHTS = 1 << 25  # of an output head or of layers that are timed; of larger ones a part is
STREAMED = 1 << 24  # weights that no cache holds: written tokens read all of them at each step
Clock = Callable[[], float]


@dataclass(frozen=True)
class Usual:
    """What the work of one way usually looks like.

    Attributes:
        folder: with the model's configuration.
        shape: of the model.
        tokens: of a batch.
        width: tokens of a row, without what is shared.
        before: shared tokens before it.
    """

    folder: Path
    shape: Shape
    tokens: float
    width: float
    before: float


def measure(
    usual: Mapping[Way, Usual], clock: Clock = time.perf_counter, seconds: float = SECONDS
) -> Machine:
    """Time what is to be computed.

    Args:
        usual: every way that will be computed in.
        clock: that seconds are taken from.
        seconds: that it may take, about; one call of everything is made at least.
    """
    import torch

    from harness.models.kernels import use_exact_kernels
    from harness.models.memory import free

    use_exact_kernels()
    timer = _Timer(clock, seconds / max(1, sum(TIMINGS[way.kind] for way in usual)))
    prices: dict[Way, Prices] = {}
    loading: dict[Way, float] = {}
    rough = False
    for way, its in usual.items():
        try:
            prices[way], packing = _of_way(timer, way, its)
        except Exception:  # a family's own code, made smaller than it may know to be
            prices[way], packing, rough = _of_products(timer, way, its), 0.0, True
        loading[way] = packing + (its.shape.file or 0) * _reading(clock, its)
    free()
    threads = torch.get_num_threads()
    return Machine(prices, loading, _resident(), threads, rough)


@dataclass(frozen=True)
class _Timer:
    """Takes the mean time of a call, as often as its share of the seconds allows."""

    clock: Clock
    slot: float

    def mean(self, call: Callable[[], object]) -> float:
        self._once(call)  # what is made at first use does not count
        began, count = self.clock(), 0
        started = time.perf_counter()
        while not count or time.perf_counter() - started < self.slot:
            self._once(call)
            count += 1
        return (self.clock() - began) / count

    def _once(self, call: Callable[[], object]) -> None:
        import torch

        call()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.synchronize()


def _of_way(timer: _Timer, way: Way, usual: Usual) -> tuple[Prices, float]:
    """The prices of a way, and the seconds that quantizing its base takes."""
    import torch

    shape = usual.shape
    layers = 1
    if way.kind == "write" and way.quantization == "none":
        layers = max(1, min(8, shape.layers, round(STREAMED * shape.layers / shape.stored)))
    model = make(usual.folder, layers, way.dtype, way.device)
    began = timer.clock()
    packed = quantize(model, way.quantization, way.dtype, way.device)
    packing = (timer.clock() - began) * shape.stored / packed if packed else 0.0
    if way.rank:
        model = adapt(model, way.rank)
    scale = shape.layers / layers
    if way.kind == "train":
        return _training(timer, way, usual, model, scale), packing
    model.requires_grad_(False)
    with torch.inference_mode():
        if way.kind == "write":
            return _writing(timer, way, usual, model, scale), packing
        return _reading_prices(timer, way, usual, model, scale), packing


def _sizes(way: Way, usual: Usual) -> tuple[int, int, int]:
    """Rows and width of the larger batch, and the width of a single, shorter row."""
    most = TOKENS[way.device]
    width = max(8, min(most, round(usual.width)))
    rows = max(1, round(min(most, usual.tokens) / width))
    return rows, width, max(4, width // 4)


def _reading_prices(
    timer: _Timer, way: Way, usual: Usual, model: nn.Module, scale: float
) -> Prices:
    """Of forwards of many tokens.

    n tokens in rows of width w, after P others, take call + n · token + n · (P + w / 2) · pair.
    """
    from harness.models.attention import short_row_attention

    rows, width, short = _sizes(way, usual)
    before = max(64, min(1024, round(usual.before), 4 * TOKENS[way.device]))
    with short_row_attention(model):
        small = timer.mean(_forward(model, 1, short))
        large = timer.mean(_forward(model, rows, width))
        after = timer.mean(_after(model, rows, width, before))
    tokens = rows * width
    pair = max(0.0, (after - large) / (tokens * before))
    own = large - tokens * width / 2 * pair, small - short * short / 2 * pair
    token = max((own[0] - own[1]) / max(1, tokens - short), 0.3 * own[0] / tokens)
    call = max(0.0, own[0] - tokens * token)
    return Prices(
        call * scale,
        token * scale,
        pair * scale,
        _head(timer, way, usual.shape, 64, _losses),
    )


def _forward(model: nn.Module, rows: int, width: int) -> Callable[[], object]:
    import torch

    ids = torch.ones((rows, width), dtype=torch.long, device=model.device)
    return lambda: model(input_ids=ids, use_cache=False)


def _after(model: nn.Module, rows: int, width: int, before: int) -> Callable[[], object]:
    """A forward of rows after tokens that they share; where none can be, of rows that are whole."""
    import torch

    from harness.models.attention import is_possible
    from harness.scoring.prefix import SharedPrefix

    ids = torch.ones((rows, width), dtype=torch.long, device=model.device)
    try:
        shared = (1,) * before
        prefix = SharedPrefix(model, shared, before + width, is_possible(model))

        def call() -> object:
            return model(input_ids=ids, past_key_values=prefix.cache(rows), use_cache=True)

        call()
    except Exception:  # a family's own code, handed a cache it may not know
        return _forward(model, rows, width)
    return call


def _head(
    timer: _Timer,
    way: Way,
    shape: Shape,
    positions: int,
    then: Callable[[Tensor], object],
) -> float:
    """Seconds of one position's logits, and of what is done with them."""
    import torch

    vocabulary = min(shape.vocabulary, max(1024, WEIGHTS // shape.hidden))
    dtype, device = getattr(torch, way.dtype), way.device
    weight = torch.full((vocabulary, shape.hidden), 0.01, dtype=dtype, device=device)
    hidden = torch.full((positions, shape.hidden), 0.01, dtype=dtype, device=device)
    seconds = timer.mean(lambda: then(torch.nn.functional.linear(hidden, weight)))
    return seconds / positions * shape.vocabulary / vocabulary


def _losses(logits: Tensor) -> object:
    """What scoring does with logits: a log-softmax whose sum is taken in float64."""
    import torch

    values = logits.float()
    values = values - values.amax(dim=-1, keepdim=True)
    return values.exp_().sum(dim=-1, dtype=torch.float64).log()


def _training(timer: _Timer, way: Way, usual: Usual, model: Any, scale: float) -> Prices:
    """Of forwards with their backward passes."""
    import torch

    from harness.models.attention import short_row_attention

    rows, width, short = _sizes(way, usual)
    if way.recomputed:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    model.train()
    with short_row_attention(model, training=True):
        small = timer.mean(lambda: _loss(model, 1, short).backward())
        large = timer.mean(lambda: _loss(model, rows, width).backward())
        saved = _saved(model, rows, width)
    tokens = rows * width
    token = max((large - small) / max(1, tokens - short), 0.3 * large / tokens)
    call = max(0.0, large - tokens * token)

    def head(logits: Tensor) -> object:
        targets = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        logits.requires_grad_()
        torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum").backward()
        return logits.grad

    position = _head(timer, way, usual.shape, 64, head)
    products = _head(timer, way, usual.shape, 64, lambda logits: None)  # of the backward pass
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


def _writing(timer: _Timer, way: Way, usual: Usual, model: nn.Module, scale: float) -> Prices:
    """Of writing one token of each row at a time."""
    import torch

    shape, decoding = usual.shape, way.decoding or DecodingSpec()
    count = max(1, round(usual.tokens))
    few = max(1, count // 4)
    small = timer.mean(_forward(model, few, 1))
    large = timer.mean(_forward(model, count, 1)) if count > few else small
    token = max(0.0, (large - small) / max(1, count - few))
    call = max(0.0, large - count * token)
    dtype, device = getattr(torch, way.dtype), way.device
    keys, heads = max(16, round(usual.before)), max(1, shape.keys // 64)
    some = max(1, min(count, (1 << 22) // (keys * heads * 64)))
    stored = torch.full((some * heads, keys, 64), 0.01, dtype=dtype, device=device)
    query = stored[:, : max(1, shape.attention // max(1, shape.keys)), :].contiguous()

    def attend() -> object:
        scores = torch.bmm(query, stored.transpose(1, 2)).float()
        return torch.bmm(scores.softmax(-1).to(dtype), stored)

    order = torch.arange(some * heads, device=device)
    pair = timer.mean(attend) / (some * keys)
    copied = timer.mean(lambda: stored.index_select(0, order)) / stored.nbytes
    return Prices(
        call * scale,
        token * scale,
        pair * shape.layers,
        _head(timer, way, shape, count, _chooser(decoding)),
        copied if decoding.num_beams > 1 else 0.0,
    )


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


def _of_products(timer: _Timer, way: Way, usual: Usual) -> Prices:
    """Of matrix products alone, where no layer can be made: less than everything takes."""
    import torch

    shape, dtype, device = usual.shape, getattr(torch, way.dtype), way.device
    columns = max(1, min(4 * shape.hidden, WEIGHTS // shape.hidden))
    weight = torch.full((columns, shape.hidden), 0.01, dtype=dtype, device=device)
    rows = max(1, round(min(usual.tokens, TOKENS[device])))
    states = torch.full((rows, shape.hidden), 0.01, dtype=dtype, device=device)
    one = timer.mean(lambda: torch.nn.functional.linear(states, weight))
    flop = one / (2.0 * rows * columns * shape.hidden)
    each = 2 if way.kind == "train" else 1  # the products of a frozen base's backward pass
    call = one * shape.linear / (columns * shape.hidden) if way.kind == "write" else 0.0
    token = 0.0 if way.kind == "write" else flop * shape.token * each
    return Prices(call, token, flop * shape.pair * each, flop * shape.head * each)


def _reading(clock: Clock, usual: Usual) -> float:
    """Seconds that a byte of the model's files takes to be read, of its first megabytes."""
    from harness.models.checkpoint import model_files

    files = model_files(usual.folder)
    if not files:
        return 0.0
    began, count = clock(), 0
    with ExitStack() as stack:
        file = stack.enter_context(files[0].open("rb"))
        while count < 1 << 25 and clock() - began < 0.1:
            block = file.read(1 << 22)
            if not block:
                break
            count += len(block)
    return (clock() - began) / max(1, count)


def _resident() -> float:
    """Bytes of this process now; where the system does not say, its peak so far."""
    from harness.models.memory import peak_memory

    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return float(peak_memory("cpu"))
    import resource

    return float(pages * resource.getpagesize())
