"""The optimizers that a training run can use, by transformers' names."""

from __future__ import annotations

# What the optimizers that need CUDA become on a CPU.
PLAIN_KIN = {
    "adamw_8bit": "adamw_torch",
    "paged_adamw_8bit": "adamw_torch",
    "paged_adamw_32bit": "adamw_torch",
}
OPTIMIZERS = ("adamw_torch", "adafactor", "sgd", *PLAIN_KIN)


def optimizer_for(name: str, device: str) -> str:
    """The optimizer that is used where ``name`` is asked for: paged and 8-bit ones need CUDA."""
    return name if device == "cuda" else PLAIN_KIN.get(name, name)
