"""Whether a model draws numbers while it is trained.

They come from one generator, in the order in which rows go through the model, so that what draws
allows no other order and no other rows in its batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peft import PeftModel

DRAWN = ("dropout", "pdrop", "layerdrop", "jitter")  # what a base's configuration calls chance
HEADS = ("classifier", "summary")  # of heads that a language model does not have


def base_draws(model: PeftModel) -> str:
    """What the base draws numbers for, its adapters left out; empty if it does not."""
    import torch

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout) and module.p > 0 and "lora_dropout" not in name:
            return f"the base has dropout of its own ({name.rpartition('.')[2]})"
    for name, value in model.config.get_text_config().to_dict().items():
        drawn = any(word in name for word in DRAWN) and not name.startswith(HEADS)
        if drawn and isinstance(value, float) and value > 0:
            return f"the base draws numbers of its own ({name} = {value:g})"
    return ""
