"""Several adapters on one base in one batch: each row gets its own adapter's update.

The rows of a batch stand adapter after adapter, as many for each. The frozen layer runs once over
all of them; the update of each, B A x (Hu et al. 2021, "LoRA", arXiv:2106.09685), is one batched
product over the adapters, whose matrices are kept stacked. No row meets another adapter's numbers,
so that a gradient is what it is alone, and a NaN stays with the adapter whose it is.

PEFT makes the adapters and saves them: its parameters are views of the stacks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.training.chance import base_draws

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from torch import Tensor, nn


class UngroupableError(Exception):
    """The adapters of this model cannot be trained in one batch; the text says why."""


@dataclass(frozen=True)
class Share:
    """What one adapter has of a batch.

    Attributes:
        place: which of the stacked adapters it is.
        rows: how many of the batch's rows for each adapter are its own; the rest are padding.
        width: of its own rows, in tokens.
        dropout: the probability with which an input of the update is dropped.
        generator: what decides which.
    """

    place: int
    rows: int
    width: int
    dropout: float = 0.0
    generator: torch.Generator | None = None


@dataclass
class _Batch:
    """The batch that is on its way: (rows, tokens) of it, and what each adapter has of it."""

    shares: Sequence[Share]
    rows: int
    width: int
    places: Tensor | None  # of the adapters that take part; None for all

    @property
    def groups(self) -> int:
        return len(self.shares)


class _Layer:
    """A layer with the stacked matrices of its adapters.

    ``a`` has shape (adapters, r, inputs), ``b`` (adapters, outputs, r).
    """

    def __init__(self, module: Any, names: Sequence[str]) -> None:
        import torch

        self.module = module
        kept = [(module.lora_A[name].weight, module.lora_B[name].weight) for name in names]
        self.a, self.b = (
            torch.nn.Parameter(torch.stack([pair[side].detach() for pair in kept]))
            for side in (0, 1)
        )
        for place, (a, b) in enumerate(kept):  # PEFT's parameters are these from now on
            a.data, b.data = self.a.data[place], self.b.data[place]
        self.own = kept
        scales = [float(module.scaling[name]) for name in names]
        self.scaling = torch.tensor(scales, device=self.a.device).view(-1, 1, 1)
        # PEFT gives 4-bit layers a copy, and rounds the update before it is added.
        self.four_bit = type(module).__name__ == "Linear4bit"

    def forward(self, batch: _Batch, x: Tensor) -> Tensor:
        """What PEFT's layer returns for each adapter's rows; ``x`` (rows · tokens …, inputs)."""
        result = self.module.base_layer(x)
        if self.four_bit:
            result = result.clone()
        update = self._update(batch, x.to(self.a.dtype)).view(result.shape)
        if self.four_bit:
            return result + update.to(result.dtype)
        return (result + update).to(result.dtype)

    def _update(self, batch: _Batch, x: Tensor) -> Tensor:
        import torch

        tokens = batch.groups * batch.rows * batch.width
        if x.shape[:-1].numel() != tokens:
            raise UngroupableError(
                f"a layer of it sees {x.shape[:-1].numel()} of a batch's {tokens} tokens "
                f"({type(self.module).__name__}, {x.shape[-1]} inputs)"
            )
        inputs = x.reshape(batch.groups, batch.rows * batch.width, -1)
        mask = _mask(batch, x.shape[-1], x)
        if mask is not None:
            inputs = inputs * mask.view(inputs.shape)
        a, b, scaling = self.a, self.b, self.scaling
        if batch.places is not None:
            a, b, scaling = (each.index_select(0, batch.places) for each in (a, b, scaling))
        return torch.bmm(torch.bmm(inputs, a.transpose(1, 2)), b.transpose(1, 2)) * scaling


def _mask(batch: _Batch, inputs: int, like: Tensor) -> Tensor | None:
    """What the inputs of a layer are multiplied by, shape (adapters, rows, tokens, inputs).

    Each adapter's part is drawn as torch's dropout draws it for that adapter's rows alone.
    """
    import torch

    if not any(share.dropout for share in batch.shares):
        return None
    shape = (batch.groups, batch.rows, batch.width, inputs)
    mask = torch.ones(shape, dtype=like.dtype, device=like.device)
    for place, share in enumerate(batch.shares):
        if not share.dropout:
            continue
        own = torch.empty((share.rows, share.width, inputs), dtype=like.dtype, device=like.device)
        kept = 1 - share.dropout
        if kept:
            own.bernoulli_(kept, generator=share.generator).div_(kept)
        else:
            own.zero_()
        mask[place, : share.rows, : share.width] = own
    return mask


class Grouped:
    """The adapters of a model, stacked.

    Args:
        model: a base with adapters of equal ranks on the same layers.
        names: of the adapters; stacks have this order.

    Raises:
        UngroupableError: a layer computes something else than a plain low-rank update.
    """

    def __init__(self, model: PeftModel, names: Sequence[str]) -> None:
        from peft.tuners.lora import LoraLayer

        self.model, self.count = model, len(names)
        modules = [one for one in model.modules() if isinstance(one, LoraLayer)]
        for module in modules:
            _check(module, names)
        if reason := base_draws(model):  # for all rows of a batch at once
            raise UngroupableError(reason)
        self.layers = [_Layer(module, names) for module in modules]

    def parameters(self, place: int) -> list[nn.Parameter]:
        """The matrices of one adapter, in the order of the model's layers: A and B of each."""
        return [matrix for layer in self.layers for matrix in layer.own[place]]

    @contextmanager
    def batch(self, shares: Sequence[Share], rows: int, width: int) -> Iterator[None]:
        """While active, the model takes a batch of these adapters' rows, one after the other.

        Args:
            shares: of each adapter that takes part, in ascending order of places.
            rows: of each adapter, padding included.
            width: of a row, in tokens.
        """
        import torch

        places = [share.place for share in shares]
        every = places == list(range(self.count))
        index = None if every else torch.tensor(places, device=self.model.device)
        batch = _Batch(shares, rows, width, index)
        for layer in self.layers:
            layer.module.forward = _forward(layer, batch)
        try:
            yield
        finally:
            for layer in self.layers:
                del layer.module.forward

    def clear(self) -> None:
        """Forget all gradients."""
        for layer in self.layers:
            layer.a.grad = layer.b.grad = None

    def hand_out(self, place: int) -> None:
        """Give one adapter's parameters their part of the stacked gradients."""
        for layer in self.layers:
            for own, stack in zip(layer.own[place], (layer.a, layer.b), strict=True):
                own.grad = None if stack.grad is None else stack.grad[place]


def _forward(layer: _Layer, batch: _Batch) -> Any:
    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if args or kwargs:
            raise UngroupableError("a layer of it takes more than one input")
        return layer.forward(batch, x)

    return forward


def _check(module: Any, names: Sequence[str]) -> None:
    """See that a layer's update is B A x and nothing else."""
    from peft.tuners.lora import Linear

    plain = type(module) is Linear or type(module).__name__ == "Linear4bit"
    bare = plain and not module.lora_variant and not any(module.lora_bias.values())
    if not bare or any(name not in module.lora_A for name in names):
        raise UngroupableError(
            f"a layer of it is adapted in a way of its own ({type(module).__name__})"
        )
