"""Does a model change itself while it computes? Then no two forwards of it may run at a time.

An adapter on the experts of a mixture (PEFT's ``ParamWrapper``) puts its update into the layer for
the time of a forward and takes it out again: two forwards at a time add it twice, or take it from
each other, and numbers are wrong by nats in some batches of some runs. Comparing a batch with
itself meets that by luck only, so the writing itself is looked for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.models.loading import LoadedModel
from harness.models.soundness import PROBE
from harness.scoring.prefix import must_be_alone
from harness.scoring.queue import MOST

if TYPE_CHECKING:
    from torch.nn import Module

WRITERS = ("__setattr__", "__delattr__", "register_parameter", "register_buffer")


def at_a_time(loaded: LoadedModel, longest: int, batches: int) -> int:
    """How many of so many batches may be computed at a time.

    A model whose rows must be alone may keep what it knows of a row's length in itself, where a
    second row would change it.

    Args:
        loaded: a model in eval mode.
        longest: tokens of the longest row.
        batches: how many there are.
    """
    import torch

    if loaded.device.type != "cpu" or must_be_alone(loaded.model, longest):
        return 1
    most = min(int(torch.get_num_threads()), batches, MOST)
    if most > 1 and not loaded.watched:
        loaded.watched = True
        if changes_itself(loaded.model):
            loaded.side_by_side = False
    return 1 if loaded.side_by_side is False else most


def changes_itself(model: Any) -> bool:
    """Whether a forward writes into one of the model's modules.

    Args:
        model: in eval mode; two short forwards are computed.
    """
    import torch

    # Accelerate's hooks bring a layer's weights for the time of a forward, past all writers.
    if any(hasattr(module, "_hf_hook") for module in model.modules()):
        return True
    size = model.config.get_text_config().vocab_size
    ids = torch.tensor([[token % size for token in PROBE]], device=model.device)
    with torch.inference_mode():
        model(input_ids=ids, use_cache=False)  # the first may prepare what later ones find
        with _watched(model) as written:
            model(input_ids=ids, use_cache=False)
    return bool(written)


@contextmanager
def _watched(model: Module) -> Iterator[list[str]]:
    """While active, list what this thread writes into the model's modules."""
    from torch.nn import Module

    own, here = {id(module) for module in model.modules()}, threading.get_ident()
    written: list[str] = []

    def noting(plain: Callable[..., Any]) -> Callable[..., Any]:
        def write(self: Module, name: str, *more: Any, **named: Any) -> Any:
            if id(self) in own and threading.get_ident() == here:
                written.append(f"{type(self).__name__}.{name}")
            return plain(self, name, *more, **named)

        return write

    kept = {name: Module.__dict__[name] for name in WRITERS}
    try:
        for name, plain in kept.items():
            setattr(Module, name, noting(plain))
        yield written
    finally:
        for name, plain in kept.items():
            setattr(Module, name, plain)
