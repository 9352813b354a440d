"""A base that several adapters are put onto, one after the other, seen to be the same each time.

An adapter is taken off by putting the base's own layers back. That this leaves it as it was is
not believed: all its tensors and the logits of a row are compared, to the bit, with what they were
when it had just been loaded. A base that is not the same is let go, and another is loaded.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.core import ModelSpec
from harness.models.soundness import PROBE

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel

COLUMNS = 1021  # sums over every so many numbers tell of those that changed places, too


class BaseChangedWarning(UserWarning):
    """A base is not what it was before it had an adapter, and is loaded again."""


def bare(spec: ModelSpec) -> ModelSpec:
    """The base of a model, without an adapter."""
    return replace(spec, adapter=None, adapter_digest=None, score_as="trained")


def is_reusable(spec: ModelSpec) -> bool:
    """Whether another adapter can be put onto the base of a model, once its own is off.

    Not after one that was trained elsewhere, which may resize embeddings; nor merged; nor in int8,
    whose layers prepare themselves at their first use; nor spread over GPUs.
    """
    own = spec.adapter is None and spec.score_as == "trained"
    return own and spec.quantization != "int8" and spec.gpus == 1


@dataclass
class Hand:
    """The base in hand, and what the bases were that were loaded so far.

    Attributes:
        prints: a base → what :func:`imprint` gave of it, fresh from its files.
        kept: the base that is free to be used, if there is one.
    """

    prints: dict[ModelSpec, str]
    kept: tuple[ModelSpec, PreTrainedModel] | None = None

    def loaded(self, spec: ModelSpec, model: PreTrainedModel) -> None:
        """Hear of a base that is fresh from its files."""
        if is_reusable(spec) and bare(spec) not in self.prints:
            self.prints[bare(spec)] = imprint(model)

    def take(self, spec: ModelSpec) -> PreTrainedModel | None:
        """The base of a model, which is no longer in hand; None where it is not."""
        kept, self.kept = self.kept, None
        return kept[1] if kept is not None and kept[0] == bare(spec) else None

    def give(self, spec: ModelSpec, model: PreTrainedModel | PeftModel) -> None:
        """Take a base into the hand again, without its adapter, if it is what it was."""
        if not is_reusable(spec) or bare(spec) not in self.prints:
            return
        base = detached(model)
        if imprint(base) == self.prints[bare(spec)]:
            self.kept = bare(spec), base
            return
        warnings.warn(
            BaseChangedWarning(
                f"--model={spec.name}: the base is not what it was before it had an adapter; it "
                f"is loaded again, so that no number depends on it"
            ),
            stacklevel=3,
        )


def detached(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The base of a model, its own layers in their places again."""
    from peft import PeftModel

    if not isinstance(model, PeftModel):
        return model
    base: PreTrainedModel = model.unload()
    return base


def imprint(model: PreTrainedModel) -> str:
    """A digest of all tensors of a base, quantization's included, and of the logits of a row."""
    import torch

    model.eval()
    size = model.config.get_text_config().vocab_size
    ids = torch.tensor([[token % size for token in PROBE]], device=model.device)
    digest = hashlib.sha256()
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits
        tensors = {**dict(model.named_buffers()), **model.state_dict(), "logits of a row": logits}
        for name in sorted(tensors):
            digest.update(f"{name} {tensors[name].dtype}".encode())
            digest.update(_sums(tensors[name]).cpu().numpy().tobytes())
    return digest.hexdigest()


def _sums(tensor: Tensor) -> Tensor:
    """Sums of a tensor's bytes, taken as whole numbers: exact, whatever the order of adding."""
    import torch

    flat = tensor.detach().contiguous().flatten()
    count = flat.numel() * flat.element_size()
    kind = torch.int64 if count % 8 == 0 else torch.uint8
    words = flat.view(torch.uint8).view(kind)
    whole = len(words) // COLUMNS * COLUMNS
    columns = words[:whole].view(-1, COLUMNS).sum(dim=0, dtype=torch.int64)
    rest = words[whole:].to(torch.int64)
    return torch.cat([columns, rest])
