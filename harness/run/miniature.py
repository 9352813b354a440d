"""A model of one or two layers with another one's shape: what is timed instead of the whole model.

Its layers are the family's own, made from the configuration, so that norms, rotary embeddings and
dispatching take their time; its weights are made up, its vocabulary is small.
"""

from __future__ import annotations

import contextlib
import logging
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.models.fingerprint import FOUR_BIT
from harness.models.loading import quiet

if TYPE_CHECKING:
    from torch import nn

VOCABULARY = 256
VALUE = 0.01  # of every weight: the time of a product does not depend on it


def make(folder: Path, layers: int, dtype: str, device: str) -> nn.Module:
    """A model of so many of the layers that ``config.json`` in ``folder`` describes.

    Raises:
        Exception: whatever a family's own code raises where it cannot be made that small.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with quiet(), _uninitialized(), torch.device(device):
        whole = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        config = whole.get_text_config()
        every = config.num_hidden_layers
        for name, value in list(vars(config).items()):
            if isinstance(value, list) and len(value) == every:  # one entry for each layer
                setattr(config, name, value[:layers])
        config.num_hidden_layers, config.vocab_size = layers, VOCABULARY
        config.pad_token_id = config.bos_token_id = config.eos_token_id = None
        for name in ("quantization_config", "compression_config"):
            if hasattr(config, name):
                delattr(config, name)
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    for weight in model.parameters():
        weight.data.fill_(VALUE)
        weight.requires_grad_(False)
    model.eval()
    return model


def _uninitialized() -> contextlib.AbstractContextManager[Any]:
    """While active, transformers draws no initial weights, which takes seconds for large layers."""
    try:
        from transformers.initialization import no_init_weights
    except ImportError:  # it has moved before
        return contextlib.nullcontext()
    found: contextlib.AbstractContextManager[Any] = no_init_weights()
    return found


def quantize(model: nn.Module, quantization: str, dtype: str, device: str) -> int:
    """Replace its linear layers by those that loading puts there.

    Returns:
        How many weights were quantized.
    """
    import torch

    if quantization not in (*FOUR_BIT, "int8"):
        return 0
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    head, count = model.get_output_embeddings(), 0
    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            if type(module) is torch.nn.Linear and module is not head:
                count += module.weight.numel()
                setattr(parent, name, _packed(module, quantization, dtype, device))
    return count


def _packed(module: Any, quantization: str, dtype: str, device: str) -> Any:
    import torch

    quantized: Any = import_module("bitsandbytes.nn")  # which has types for a part of it
    sizes = module.in_features, module.out_features, module.bias is not None
    if quantization == "int8":
        new = quantized.Linear8bitLt(*sizes, has_fp16_weights=False)
        new.weight = quantized.Int8Params(
            module.weight.data, requires_grad=False, has_fp16_weights=False
        )
    else:
        new = quantized.Linear4bit(
            *sizes,
            compute_dtype=getattr(torch, dtype),
            compress_statistics=True,
            quant_type=quantization,
        )
        new.weight = quantized.Params4bit(
            module.weight.data,
            requires_grad=False,
            compress_statistics=True,
            quant_type=quantization,
        )
    if module.bias is not None:
        new.bias = module.bias
    new = new.to(device)
    new.support_avx512bf16_for_cpu = False  # see harness/models/loading.py
    return new


def adapt(model: nn.Module, rank: int) -> nn.Module:
    """Put a LoRA update on every linear layer, to be trained."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, target_modules="all-linear", task_type="CAUSAL_LM")
    with quiet():
        return get_peft_model(model, config)
